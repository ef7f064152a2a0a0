"""Two eyes on a run: the server (is the task still ours?) and our own children (nobody left as a zombie).

One thread polls; what it finds that is not "go on" it keeps and wakes the main thread. An outage is no verdict: the
run goes on and the next poll asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from bootstrap.abort import Answer, Verdict, ask
from bootstrap.children import reap_orphans
from clearml_api.session import Bounds, Session
from protocol.claim import Claim
from protocol.errors import PodstrapError

FIRST_POLL_SECONDS = 1.0
_BOUNDS = Bounds(connect_seconds=3, read_seconds=10, total_seconds=0)


class Watch:
    """Polls until stopped; `answer` is the first verdict other than GO_ON."""

    def __init__(
        self,
        session: Session,
        task: str,
        claim: Claim,
        *,
        seconds: float,
        wake: Callable[[], None],
    ) -> None:
        self._session, self._task, self._claim = session, task, claim
        self._seconds = seconds
        self._wake = wake
        self._stop = threading.Event()
        self.answer: Answer | None = None
        self._thread = threading.Thread(target=self._main, name="watch", daemon=True)

    def start(self) -> None:
        """Begin; the first poll comes after a second."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a request under way."""
        self._stop.set()

    def now(self, bounds: Bounds) -> Answer | None:
        """Ask at once; None when the server does not answer."""
        try:
            return ask(self._session, self._task, self._claim, bounds=bounds)
        except PodstrapError:
            return None

    def _main(self) -> None:
        pause = min(FIRST_POLL_SECONDS, self._seconds)
        while not self._stop.wait(pause):
            pause = self._seconds
            reap_orphans()
            answer = self.now(_BOUNDS)
            if answer and answer.verdict is not Verdict.GO_ON and not self._stop.is_set():
                self.answer = answer
                self._wake()
                return
