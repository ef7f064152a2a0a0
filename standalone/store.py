"""Everything the server remembers, in one SQLite file.

Tasks, queues, projects, models and workers are JSON documents with a few columns to look them up by; queue entries,
console lines and scalars have tables of their own. One connection, one lock: each request is one transaction, so what
it reads and writes is atomic for all others (`queues.remove_task` is somebody's claim on a task).

Write-ahead log, `synchronous=NORMAL`: a commit is in the operating system's hands when the request is answered, so a
killed server loses nothing that it acknowledged (a machine that loses power may lose the last moments).
https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from protocol.errors import PodstrapError

Document = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS document (
  kind TEXT NOT NULL, id TEXT NOT NULL, name TEXT, status TEXT, project TEXT, parent TEXT, body TEXT NOT NULL,
  PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS document_name ON document (kind, name);
CREATE INDEX IF NOT EXISTS document_status ON document (kind, status);
CREATE INDEX IF NOT EXISTS document_project ON document (kind, project);
CREATE TABLE IF NOT EXISTS entry (
  queue TEXT NOT NULL, task TEXT NOT NULL, added TEXT NOT NULL, place REAL NOT NULL,
  PRIMARY KEY (queue, task)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_place ON entry (queue, place);
CREATE INDEX IF NOT EXISTS entry_task ON entry (task);
CREATE TABLE IF NOT EXISTS log (
  number INTEGER PRIMARY KEY, task TEXT NOT NULL, at INTEGER NOT NULL, worker TEXT, level TEXT, msg TEXT NOT NULL,
  received INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS log_at ON log (task, at, number);
CREATE TABLE IF NOT EXISTS scalar (
  number INTEGER PRIMARY KEY, task TEXT NOT NULL, metric TEXT NOT NULL, variant TEXT NOT NULL, iter INTEGER NOT NULL,
  at INTEGER NOT NULL, value REAL, worker TEXT, received INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS scalar_series ON scalar (task, metric, variant, iter);
CREATE TABLE IF NOT EXISTS event (
  number INTEGER PRIMARY KEY, task TEXT NOT NULL, type TEXT NOT NULL, metric TEXT NOT NULL, variant TEXT NOT NULL,
  iter INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_type ON event (task, type, metric, variant, iter);
"""


class Store:
    """The open database. `transaction` first, then everything else inside it."""

    def __init__(self, file: Path) -> None:
        """Open or make it. Raises PodstrapError when the file cannot be used."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        try:
            self.sql = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=10)
            self.sql.execute("PRAGMA journal_mode=WAL")
            self.sql.execute("PRAGMA synchronous=NORMAL")
            self.sql.execute("PRAGMA cache_size=-8000")
            self.sql.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise PodstrapError(
                f"The database {file} cannot be used: {error}", hint="is another server running on the same folder?"
            ) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody in between."""
        with self._lock:
            self.sql.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.sql.execute("ROLLBACK")
                raise
            self.sql.execute("COMMIT")

    def close(self) -> None:
        """Write the log back into the file and close it."""
        with self._lock:
            self.sql.close()

    # -- documents

    def get(self, kind: str, identity: str) -> Document | None:
        """One document."""
        row = self.sql.execute("SELECT body FROM document WHERE kind=? AND id=?", (kind, identity)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, kind: str, document: Document) -> None:
        """Write one document, new or not."""
        self.sql.execute(
            "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                kind,
                document["id"],
                document.get("name"),
                document.get("status"),
                document.get("project"),
                document.get("parent"),
                json.dumps(document, separators=(",", ":")),
            ),
        )

    def delete(self, kind: str, identity: str) -> bool:
        """Remove one document; whether it was there."""
        return self.sql.execute("DELETE FROM document WHERE kind=? AND id=?", (kind, identity)).rowcount > 0

    def find(self, kind: str, **columns: Iterable[str] | str | None) -> Iterator[Document]:
        """Documents by id, name, status, project or parent: each a value or several; None: any."""
        where, values = ["kind=?"], [kind]
        for column, wanted in columns.items():
            if wanted is None:
                continue
            several = [wanted] if isinstance(wanted, str) else list(wanted)
            where.append(f"{column} IN ({','.join('?' * len(several))})")
            values += several
        query = f"SELECT body FROM document WHERE {' AND '.join(where)}"  # noqa: S608 (columns are ours)
        for (body,) in self.sql.execute(query, values).fetchall():
            yield json.loads(body)

    # -- queue entries

    def entries(self, queue: str, most: int | None = None) -> list[tuple[str, str]]:
        """(task, added) in order."""
        limit = -1 if most is None else most
        query = "SELECT task, added FROM entry WHERE queue=? ORDER BY place LIMIT ?"
        return list(self.sql.execute(query, (queue, limit)).fetchall())

    def count_entries(self, queue: str) -> int:
        """How many tasks wait in a queue."""
        return int(self.sql.execute("SELECT COUNT(*) FROM entry WHERE queue=?", (queue,)).fetchone()[0])

    def is_in(self, queue: str, task: str) -> bool:
        """Whether a task waits in a queue."""
        query = "SELECT 1 FROM entry WHERE queue=? AND task=?"
        return self.sql.execute(query, (queue, task)).fetchone() is not None

    def add_entry(self, queue: str, task: str, added: str) -> bool:
        """Append; False when it waits there already."""
        last = self.sql.execute("SELECT MAX(place) FROM entry WHERE queue=?", (queue,)).fetchone()[0]
        query = "INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?)"
        return self.sql.execute(query, (queue, task, added, (last or 0.0) + 1)).rowcount > 0

    def remove_entry(self, queue: str, task: str) -> bool:
        """Take a task out; True for exactly one caller."""
        return self.sql.execute("DELETE FROM entry WHERE queue=? AND task=?", (queue, task)).rowcount > 0

    def remove_from_queues(self, task: str) -> int:
        """Take a task out of every queue."""
        return self.sql.execute("DELETE FROM entry WHERE task=?", (task,)).rowcount

    def delete_events(self, task: str) -> int:
        """Remove a task's console, scalars, plots."""
        gone = 0
        for table in ("log", "scalar", "event"):
            gone += self.sql.execute(f"DELETE FROM {table} WHERE task=?", (task,)).rowcount  # noqa: S608
        return gone
