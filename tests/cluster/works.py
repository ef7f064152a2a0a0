"""What simulated pods do: the real claim, made by the real bootstrap code, and an end; or a death between two calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bootstrap import settings as pod_settings
from bootstrap.claim import TooManyAttempts, claim
from bootstrap.errors import ClaimLost
from clearml_api import tasks
from clearml_api.errors import ApiError
from clearml_api.session import Session
from protocol import environment as names
from protocol.errors import PodstrapError
from protocol.termination import Outcome, TerminationMessage
from tests.cluster.kube import Object
from tests.cluster.simulated import Step, Work

Ran = dict[str, list[tuple[str, float, float]]]
"""Task -> pod, began, ended (monotonic seconds) of each time that its work was done."""
_GIVE_UP_SECONDS = 120.0


class Killed(BaseException):
    """The pod is no more; nothing of it goes on."""


class Dying:
    """A session that dies at its call number `at`: before it when even, after it when odd; never when negative."""

    def __init__(self, session: Session, at: int) -> None:
        self._session = session
        self._left = at
        self.configuration = session.configuration

    def call(self, endpoint: str, payload: Mapping[str, Any], **more: Any) -> Any:
        if self._left == 0:
            raise Killed
        answer = self._session.call(endpoint, payload, **more)
        if self._left == 1:
            raise Killed
        self._left -= 2
        return answer


class Bootstraps:
    """Works for SimulatedNodes: `claim`, `complete`, and `bootstrap` (both, with `seconds` of work between)."""

    def __init__(self, session: Session, *, seconds: Callable[[], float] = lambda: 0.0,
                 dies_at: Callable[[], int] = lambda: -1) -> None:  # fmt: skip
        self._session = session
        self._seconds = seconds
        self._dies_at = dies_at
        self.ran: Ran = {}
        self.started: Ran = {}
        self._lock = threading.Lock()

    def works(self) -> dict[str, Work]:
        return {"claim": self.claim, "complete": self.complete, "bootstrap": self.bootstrap}

    def claim(self, pod: Object, term: threading.Event) -> Iterable[Step]:
        return self._claimed(self._session, pod) or []

    def complete(self, pod: Object, term: threading.Event) -> Iterable[Step]:
        task = environ_of(pod)[names.TASK_ID]
        tasks.completed(self._session, task)
        return [_ended(task, Outcome.COMPLETED, 0)]

    def bootstrap(self, pod: Object, term: threading.Event) -> Iterable[Step]:
        """A whole run. Dies as `dies_at` says: its node goes, so its Job makes another pod, or it is killed alone."""
        at = self._dies_at()
        session: Any = Dying(self._session, at)
        task, name = environ_of(pod)[names.TASK_ID], pod["metadata"]["name"]
        began = time.monotonic()
        try:
            if (lost := self._claimed(session, pod)) is not None:
                return lost
            with self._lock:
                self.started.setdefault(task, []).append((name, began, 0.0))
            if term.wait(self._seconds()):
                return [{"exit": 75, "reason": "Error"}]
            with self._lock:
                self.ran.setdefault(task, []).append((name, began, time.monotonic()))
            _until_answered(lambda: tasks.completed(session, task))
        except Killed:
            gone: list[Step] = [{"disruption": "DeletionByPodGC"}] if at % 4 < 2 else []
            return [*gone, {"exit": 137, "reason": "Error"}]
        except ApiError as error:
            return [{"exit": 1, "message": str(error)}]
        return [_ended(task, Outcome.COMPLETED, 0)]

    def _claimed(self, session: Any, pod: Object) -> list[Step] | None:
        """None when it is ours; else how the pod ends."""
        environ = environ_of(pod)
        settings = pod_settings.read(environ)
        try:
            _until_answered(lambda: claim(session, settings))
        except ClaimLost:
            return [_ended(settings.task, Outcome.CLAIM_LOST, 0)]
        except TooManyAttempts as error:
            tasks.failed(session, settings.task, str(error), str(error))
            return [_ended(settings.task, Outcome.FAILED, 1)]
        return None


def environ_of(pod: Object) -> dict[str, str]:
    """The container's plain variables, and those of the downward API."""
    meta = pod["metadata"]
    paths = {
        "metadata.name": meta["name"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "metadata.labels['batch.kubernetes.io/controller-uid']": meta["labels"]["batch.kubernetes.io/controller-uid"],
    }
    found = {}
    for one in pod["spec"]["containers"][0].get("env", ()):
        reference = (one.get("valueFrom") or {}).get("fieldRef")
        found[one["name"]] = paths[reference["fieldPath"]] if reference else one.get("value", "")
    return found


def _until_answered(call: Callable[[], object]) -> None:
    """As bootstrap's own bounds do: through outages of the server."""
    end = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        try:
            call()
            return
        except (ApiError, ClaimLost, TooManyAttempts):
            raise
        except PodstrapError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _ended(task: str, outcome: Outcome, code: int) -> Step:
    return {"exit": code, "message": TerminationMessage(outcome, task, exit_code=code).to_text()}
