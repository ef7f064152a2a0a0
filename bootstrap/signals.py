"""What a signal handler may touch, and no more.

A handler runs between any two instructions of the main thread, perhaps while that thread holds the lock inside a
threading.Event: setting the same event there would wait for ever. SimpleQueue.put is made to be re-entered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from protocol.errors import PodstrapError


class TakenAway(PodstrapError):
    """SIGTERM came before the task was claimed: nothing was begun, another pod may."""


class Wake:
    """Wakes the main thread; `set` may be called from any thread and from a signal handler."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Wake whoever waits, or the next one to wait."""
        self._calls.put(None)

    def wait(self, seconds: float) -> None:
        """Until `set` was called since the last wait, at most `seconds`."""
        try:
            self._calls.get(timeout=max(0.0, seconds))
            while True:
                self._calls.get_nowait()
        except Empty:
            return


class Termination:
    """Whether and when SIGTERM came: the pod's grace time runs from there."""

    def __init__(self, grace_seconds: float = 30.0) -> None:
        self.grace_seconds = grace_seconds
        self._at: float | None = None

    def set(self) -> None:
        """SIGTERM came (only the first counts)."""
        if self._at is None:
            self._at = time.monotonic()

    def is_set(self) -> bool:
        """Whether it came."""
        return self._at is not None

    def seconds_left(self) -> float | None:
        """Until SIGKILL; None while no SIGTERM came."""
        return None if self._at is None else max(0.0, self._at + self.grace_seconds - time.monotonic())


class ClaimPause:
    """How the session waits between two tries: while the task is being claimed SIGTERM ends the waiting."""

    def __init__(self, terminated: Termination, wake: Wake, sleep: Callable[[float], None] = time.sleep) -> None:
        self.claiming = True
        self._terminated = terminated
        self._wake = wake
        self._sleep = sleep

    def __call__(self, seconds: float) -> None:
        """Wait. Raises TakenAway."""
        if not self.claiming:
            self._sleep(seconds)
            return
        self.check()
        self._wake.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raises TakenAway when SIGTERM came before the claim was made."""
        if self.claiming and self._terminated.is_set():
            raise TakenAway("the pod was taken away before it had claimed the task")
