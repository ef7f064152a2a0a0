"""Looking after a store: what is in it, is it whole, and what may go. Behind `podstrap cache`, and after each build.

An entry is in use while a process holds a shared lock on its seal; whoever removes one takes the lock alone first,
and moves the entry aside under it, so that no task loses the ground it stands on. Where the file system's locks fail,
only entries go that nobody has begun to use for a month.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bootstrap.environment import seal
from bootstrap.environment.seal import SEAL, Entry
from bootstrap.environment.store import GONE, REQUESTS, USED, Store

_WITHOUT_LOCKS_SECONDS = 30 * 86400.0


@dataclass(frozen=True)
class Limits:
    """How large and how old a store may become; None: as it likes."""

    size_bytes: int | None = None
    age_seconds: float | None = None
    """Since the last use."""


@dataclass(frozen=True)
class Listed:
    """One entry as `podstrap cache ls` shows it."""

    entry: Entry
    used_at: float
    """Seconds since the epoch: when a task last began to use it."""
    in_use: bool


def entries(of: Store) -> list[Listed]:
    """All entries, least recently used first."""
    found = []
    for path in _folders(of):
        entry = seal.read(path)
        if entry is not None:
            found.append(Listed(entry, _used_at(of, path), _in_use(path)))
    return sorted(found, key=lambda one: one.used_at)


def verify(of: Store) -> dict[str, list[str]]:
    """What is wrong, by entry: every file against the hash that its package recorded. Empty: all is whole."""
    wrong: dict[str, list[str]] = {}
    for path in _folders(of):
        entry = seal.read(path)
        problems = ["it has no seal"] if entry is None else _problems(entry)
        if problems:
            wrong[path.name] = problems
    return wrong


def prune(of: Store, limits: Limits, tell: Callable[[str], None] = lambda _: None) -> int:
    """Remove what killed builders left, what is too old, then the least recently used until the rest fits; never
    what is in use. The number of bytes of the removed entries."""
    of.clean()
    listed = entries(of)
    whole = sum(one.entry.size_bytes for one in listed)
    freed = 0
    for one in listed:
        age = max(0.0, time.time() - one.used_at)
        old = limits.age_seconds is not None and age > limits.age_seconds
        large = limits.size_bytes is not None and whole - freed > limits.size_bytes
        if (old or large) and remove(of, one):
            why = f"unused for {age / 86400:.1f} days" if old else "the cache is over its size"
            tell(f"removed environment {one.entry.path.name[:12]} ({one.entry.size_bytes / 2**20:.0f} MiB): {why}")
            freed += one.entry.size_bytes
    _forget_requests(of)
    return freed


def remove(of: Store, one: Listed) -> bool:
    """Remove an entry that nobody uses; whether it went."""
    import fcntl

    path = one.entry.path
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context((path / SEAL).open("r+"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            if time.time() - one.used_at < _WITHOUT_LOCKS_SECONDS:
                return False
        aside = path.with_name(f"{GONE}{path.name[:12]}-{os.getpid()}-{time.monotonic_ns()}")
        try:
            path.rename(aside)
        except OSError:
            return False
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        (of.folder / USED / path.name).unlink()
    return True


def size_of(folder: Path) -> int:
    """Bytes on disk of a folder, each file once."""
    seen: dict[tuple[int, int], int] = {}
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                stat = Path(where, name).lstat()
                seen[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values())


def _folders(of: Store) -> list[Path]:
    """Entries have names of 40 hexadecimal digits."""
    try:
        names = sorted(entry.name for entry in os.scandir(of.folder) if len(entry.name) == 40 and entry.is_dir())
    except OSError:
        return []
    return [of.folder / name for name in names]


def _used_at(of: Store, path: Path) -> float:
    for file in (of.folder / USED / path.name, path / SEAL):
        with contextlib.suppress(OSError):
            return file.stat().st_mtime
    return time.time()


def _in_use(path: Path) -> bool:
    import fcntl

    try:
        with (path / SEAL).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _problems(entry: Entry) -> list[str]:
    if seal.mark_of(entry.packages) != entry.mark:
        return ["packages were added or removed since it was built"]
    found = []
    for record in sorted(entry.packages.glob("*.dist-info/RECORD")):
        try:
            rows = list(csv.reader(record.read_text("utf-8", "replace").splitlines()))
        except OSError as error:
            found.append(f"{record.name}: {error.strerror}")
            continue
        for row in rows:
            if len(row) >= 2 and row[1].startswith("sha256=") and not row[0].endswith(".pyc"):
                problem = _differs(entry.packages / row[0], row[1].removeprefix("sha256="))
                if problem:
                    found.append(f"{row[0]}: {problem}")
    return found


def _differs(file: Path, wanted: str) -> str:
    if file.parent.name == "bin":
        return ""  # scripts are written again for their environment's own interpreter
    try:
        with file.open("rb") as opened:
            digest = hashlib.sha256()
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return str(error.strerror)
    found = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
    return "" if found == wanted.rstrip("=") else "changed"


def _forget_requests(of: Store) -> None:
    """Requests that lead to no entry any more."""
    with contextlib.suppress(OSError):
        for file in (of.folder / REQUESTS).glob("*.json"):
            known = of.resolution(file.stem)
            if known is None or not (of.folder / known.entry).is_dir():
                file.unlink()
