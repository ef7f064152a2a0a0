"""Sends the spool to the server, in order, and whatever else has to be told in the background.

One thread. Console lines go as `events.add_batch`: at most half a megabyte a request, at once when lines wait, so
that the first ones are there well within a second. A batch that was not acknowledged is sent again for as long as it
takes, less what the server turns out to have stored; the spool on disk holds what comes meanwhile. The server
answers 200 also when it refused events: `errors` is read. Other reports (resolved commit, installed packages, user
properties) are small functions that `soon` takes; each is tried within its own bounds and a failure is one line in
the console, never the end of the run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from bootstrap.spool import Record, Spool
from clearml_api import events
from clearml_api.errors import ApiError, ApiUnreachable, LoginRefused, NotAnApi
from clearml_api.session import Bounds, Session
from protocol.errors import PodstrapError

BATCH_BYTES = 512 << 10
GATHER_SECONDS = 0.15
"""After the first line, how long to wait for company."""
_LEVELS = ("info", "error", "info")
_ONE_TRY = Bounds(connect_seconds=5, read_seconds=15, total_seconds=0)
_LONGEST_READ = 120.0
"""How long an answer is awaited grows to this: a silent connection is given up soon, a slow server gets its time."""
_FIRST_PAUSE = 1.5
"""A batch is looked up before it is sent again, and a search index takes a second to show what it has stored."""
_LONGEST_PAUSE = 10.0
_PARTIAL_TRIES = 5
"""How often events that the server refused one by one are sent without one of them being stored: its index may have
been busy, but what it cannot store at all must not hold up the rest for ever."""
_UNKNOWN_TASK = "Invalid task id"
_TOO_LARGE = "answered HTTP 413"
"""A proxy's own page, which is no ClearML envelope."""


class Reporter:
    """The one sender of a run."""

    def __init__(self, session: Session, task: str, worker: str, spool: Spool, tell: Callable[[str], None]) -> None:
        self._session = session
        self._task = task
        self._worker = worker
        self._spool = spool
        self._tell = tell
        self._others: deque[tuple[str, Callable[[], None]]] = deque()
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._gone = False
        self.trouble = ""
        """Why the last batch was not taken, for the log of a pod that ends without its server."""
        self._thread = threading.Thread(target=self._main, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def soon(self, what: str, report: Callable[[], None]) -> None:
        """Run `report` on the reporter's thread; `what` names it in the line that tells of a failure."""
        self._others.append((what, report))
        self._spool.ready.set()

    def task_gone(self) -> None:
        """The task is not ours any more: send nothing further."""
        self._gone = True
        self._spool.ready.set()

    def finish(self, seconds_left: Callable[[], float]) -> bool:
        """Send everything while there are `seconds_left()`, which SIGTERM may shorten; whether it was done."""
        self._deadline = time.monotonic() + seconds_left()
        self._stop.set()
        self._spool.ready.set()
        while self._thread.is_alive() and (left := seconds_left()) > 0:
            self._deadline = time.monotonic() + left
            self._thread.join(min(0.25, left))
        return self._spool.empty() and not self._others and not self._thread.is_alive()

    def _main(self) -> None:
        while not self._done():
            self._spool.ready.wait(1.0)
            if not self._stop.is_set():
                self._stop.wait(GATHER_SECONDS)
            if not self._round():
                return

    def _done(self) -> bool:
        if self._gone:
            return True
        if not self._stop.is_set():
            return False
        return (self._spool.empty() and not self._others) or time.monotonic() >= self._deadline

    def _round(self) -> bool:
        """Send what is there. False: given up; what is not acknowledged may be stored, so it is not sent blindly."""
        while not self._gone:
            if lost := self._spool.take_lost():
                self._tell(f"{lost} console lines were dropped: the disk or the spool's bound did not hold them")
            records, position = self._spool.read(BATCH_BYTES)
            if not records:
                break
            if not self._send(records):
                return False
            self._spool.acknowledge(position)
            if self._others:
                self._one_other()
        self._spool.ready.clear()
        while self._others and not self._gone:
            self._one_other()
        if not self._spool.empty():
            self._spool.ready.set()
        return True

    def _events(self, records: list[Record]) -> list[dict[str, object]]:
        return [
            events.log_event(
                self._task,
                self._worker,
                record.millis,
                record.data.decode("utf-8", "replace").rstrip("\n"),
                _LEVELS[record.stream],
            )
            for record in records
        ]

    def _send(self, records: list[Record]) -> bool:
        """Send until acknowledged. False: given up (the task is gone, or the time is over)."""
        pause, began, bounds, stuck, before = _FIRST_PAUSE, 0.0, _ONE_TRY, 0, 0
        while not self._gone:
            if began:
                if time.monotonic() + pause >= self._deadline:
                    return False
                self._pause(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                records = self._not_stored(records) if began else records
                refused = self._one_batch(records, bounds) if records else {}
                if _UNKNOWN_TASK in " ".join(refused):
                    self._gone = True  # the task was deleted: nobody will read this console
                    return False
                stuck = stuck + 1 if len(records) == before else 1
                before = len(records)
                if not refused or stuck >= _PARTIAL_TRIES:
                    self._tell_end_of_trouble(began, refused, len(records))
                    return True
                self.trouble = f"the server refused a part of a batch: {refused}"
            except (ApiUnreachable, NotAnApi, LoginRefused) as trouble:
                if _TOO_LARGE in str(trouble):
                    return self._send_halves(records)
                self.trouble = str(trouble).splitlines()[0]
            except ApiError as error:
                if _UNKNOWN_TASK in error.server_message:
                    self._gone = True
                    return False
                if error.code == 413:
                    return self._send_halves(records)
                if error.code < 500 and error.code not in (401, 403, 408, 429):
                    self._tell(f"the server refused console lines: {error}")
                    return True
                self.trouble = str(error)
            began = began or time.monotonic()
            bounds = replace(bounds, read_seconds=min(2 * bounds.read_seconds, _LONGEST_READ))
        return False

    def _tell_end_of_trouble(self, began: float, refused: Mapping[str, int], left: int) -> None:
        if refused:
            self._tell(f"the server refused {left} console events, also when they came again: {dict(refused)}")
        elif began:
            self._tell(f"the server took no console lines for {time.monotonic() - began:.0f} s; none is lost")

    def _send_halves(self, records: list[Record]) -> bool:
        """Something on the way takes no body of this size (a proxy's limit)."""
        if len(records) > 1:
            middle = len(records) // 2
            return self._send(records[:middle]) and self._send(records[middle:])
        lines = records[0].data.count(b"\n")
        self._tell(f"{lines} console lines were dropped: {len(records[0].data)} bytes are too large for the server")
        return True

    def _one_batch(self, records: list[Record], bounds: Bounds) -> Mapping[str, int]:
        """Send; the reasons of those that the server refused, with their number."""
        batch = events.encode(self._events(records))
        answer = events.send_encoded(self._session, batch, bounds=bounds)
        return (answer.reasons or {"no reason given": answer.errors}) if answer.errors else {}

    def _not_stored(self, records: list[Record]) -> list[Record]:
        """What of a batch the server does not have: its answer may have been lost after it stored all or a part.

        Each record has a time of its own, so the server's console itself tells.
        """
        first, last = records[0].millis, records[-1].millis
        stored = events.stored_times(self._session, self._task, self._worker, first, last, bounds=_ONE_TRY)
        return [record for record in records if record.millis not in stored]

    def _pause(self, seconds: float) -> None:
        if self._stop.is_set():
            time.sleep(min(seconds, 1.0, max(0.0, self._deadline - time.monotonic())))
        else:
            self._stop.wait(seconds)

    def _one_other(self) -> None:
        what, report = self._others.popleft()
        try:
            report()
        except PodstrapError as error:
            self._tell(f"{what} could not be reported: {str(error).splitlines()[0]}")
