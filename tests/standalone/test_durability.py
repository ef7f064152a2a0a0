"""kill -9 of the server in the middle of writes: what was acknowledged is there afterwards, whole and once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearml_api import events, queues, tasks
from clearml_api.errors import ApiUnreachable
from clearml_api.session import ONCE, Session
from protocol.errors import PodstrapError
from tests import support


class Writer(threading.Thread):
    """Creates tasks, enqueues them, reports lines; notes what the server acknowledged."""

    def __init__(self, session: Session, queue: str, number: int) -> None:
        super().__init__(daemon=True)
        self._session, self._queue, self._number = session, queue, number
        self.created: list[str] = []
        self.enqueued: list[str] = []
        self.removed: list[str] = []
        self.asked_out: set[str] = set()
        """Asked for; where no answer came it may be done or not."""
        self.lines: list[tuple[str, int]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            count += 1
            try:
                payload = {"name": f"writer {self._number} {count}", "type": "training"}
                task = self._session.call("tasks.create", payload, bounds=ONCE)["id"]
                self.created.append(task)
                tasks.enqueue(self._session, task, self._queue, bounds=ONCE)
                self.enqueued.append(task)
                events.add_batch(
                    self._session, [events.log_event(task, "w", 1000 + count, f"line {count}")], bounds=ONCE
                )
                self.lines.append((task, count))
                if count % 3 == 0:
                    self.asked_out.add(task)
                    if queues.remove_task(self._session, self._queue, task, bounds=ONCE):
                        self.removed.append(task)
            except (ApiUnreachable, PodstrapError):
                continue  # not acknowledged: it may be there or not


@pytest.fixture
def server(tmp_path: Path) -> Iterator[support.Server]:
    server = support.Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_nothing_acknowledged_is_lost(server: support.Server) -> None:
    session = support.session_of(server.environ)
    queue = queues.create(session, "durable")
    writers = [Writer(support.session_of(server.environ), queue, number) for number in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(5):
        before = sum(len(writer.lines) for writer in writers)
        support.until(lambda before=before: sum(len(w.lines) for w in writers) > before + 20, 30, server.text)
        server.kill9()
        server.start()
    for writer in writers:
        writer.stop.set()
        writer.join(30)
    created = [task for writer in writers for task in writer.created]
    removed = {task for writer in writers for task in writer.removed}
    found = tasks.get_all(session, created)
    assert set(found) == set(created)
    waiting = {entry.task for entry in next(iter(queues.get_all(session, [queue], max_entries=100_000))).entries}
    asked_out = {task for writer in writers for task in writer.asked_out}
    assert {task for writer in writers for task in writer.enqueued} - asked_out <= waiting
    assert not removed & waiting, "a task that was taken out is back"
    for writer in writers:
        for task, count in writer.lines:
            log = session.call("events.get_task_log", {"task": task})
            assert [event["msg"] for event in log["events"]] == [f"line {count}"]
