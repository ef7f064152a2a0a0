"""The claim: which pod runs the task. Five requests, in this order, then the work.

1. login
2. `queues.remove_task`: exactly one caller is told `removed: 1`. Not us? See `_take_over`.
3. `tasks.edit_runtime`: our claim (Job uid, attempt, pod) under one key
4. one read of the task: it must show our claim and still `queued`
5. `tasks.started`

A pod killed between any two of them leaves a task that is in no queue and that no living Job claims; the controller
finds it (an orphan) and puts it back. A pod that does not win raises ClaimLost and runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootstrap.errors import ClaimLost
from bootstrap.settings import PodSettings
from clearml_api import queues, tasks
from clearml_api.errors import INVALID_QUEUE, INVALID_STATUS_CHANGE, STATUS_CHANGED_MEANWHILE, UNKNOWN_TASK, ApiError
from clearml_api.models import Task
from clearml_api.session import Session
from protocol.claim import RUNTIME_KEY, Claim, started_reason
from protocol.errors import PodstrapError


class TooManyAttempts(PodstrapError):
    """The attempts are used up, or the queue wants none after a disruption: nothing is run."""

    def __init__(self, headline: str, message: str, claim: Claim) -> None:
        super().__init__(message)
        self.headline = headline
        self.claim = claim


@dataclass(frozen=True)
class Claimed:
    """The task is ours."""

    task: Task
    claim: Claim


def claim(session: Session, settings: PodSettings) -> Claimed:
    """Claim the task. Raises ClaimLost, TooManyAttempts, or what the session raises."""
    if _remove(session, settings):
        mine = Claim(
            job_uid=settings.job_uid,
            attempt=settings.attempt,
            pod=settings.pod,
            node=settings.node,
            job=settings.job,
            home=settings.home,
            history=settings.history,
            failures=settings.failures,
        )
        return _write_and_start(session, settings, mine, allowed=("queued",))
    return _take_over(session, settings)


def _remove(session: Session, settings: PodSettings) -> bool:
    try:
        return queues.remove_task(session, settings.queue, settings.task)
    except ApiError as error:
        if error.subcode in (INVALID_QUEUE, UNKNOWN_TASK):
            return False  # the queue or the task was deleted: whether an earlier pod holds it is read next
        raise


def _take_over(session: Session, settings: PodSettings) -> Claimed:
    """Not in the queue: perhaps an earlier pod of our own Job claimed it and was taken away. Then we go on."""
    task = tasks.get(session, settings.task)
    if task is None:
        raise ClaimLost(f"task {settings.task} does not exist any more")
    held = task.claim
    if held is None or held.job_uid != settings.job_uid or held.requeued:
        by = f"Job {held.job or held.job_uid} has it" if held else "no claim of our Job is on it"
        raise ClaimLost(f"task {settings.task} is not in queue {settings.queue_name or settings.queue} ({by})")
    if task.status not in ("queued", "in_progress"):
        raise ClaimLost(f"task {settings.task} is {task.status} already")
    where = f" on node {held.node}" if held.node else ""
    # The controller takes a claim from a pod on a lost node, and says so itself.
    taken = [f"attempt {held.attempt} (pod {held.pod}{where}) was taken away"] if held.pod else []
    mine = Claim(
        job_uid=settings.job_uid,
        attempt=held.attempt + 1,
        pod=settings.pod,
        node=settings.node,
        job=settings.job,
        home=settings.home,
        history=(*held.history, *taken),
        failures=held.failures,
    )
    history = "; ".join(mine.history)
    if settings.on_disruption == "fail" and task.status == "in_progress":
        raise TooManyAttempts("disrupted", f"disrupted (onDisruption: fail): {history}", held)
    if mine.attempt > settings.max_attempts:
        raise TooManyAttempts("too many attempts", f"gave up after {held.attempt} attempts: {history}", held)
    return _write_and_start(session, settings, mine, allowed=("queued", "in_progress"))


def _write_and_start(session: Session, settings: PodSettings, mine: Claim, allowed: tuple[str, ...]) -> Claimed:
    try:
        tasks.edit_runtime(session, settings.task, {RUNTIME_KEY: mine.to_text()})
    except ApiError as error:
        if error.subcode in (UNKNOWN_TASK, INVALID_STATUS_CHANGE):
            raise ClaimLost(f"task {settings.task} was changed while we claimed it: {error.server_message}") from None
        raise
    for _ in range(3):
        task = tasks.get(session, settings.task)
        if task is None or not mine.same_holder(task.claim) or task.status not in allowed:
            seen = "is gone" if task is None else f"is {task.status}, claimed by {task.claim}"
            raise ClaimLost(f"task {settings.task} {seen}: another pod was faster, or it was reset or aborted")
        try:
            tasks.started(session, settings.task, reason=started_reason(settings.pod, mine.attempt))
            return Claimed(task, mine)
        except ApiError as error:
            if error.subcode in (UNKNOWN_TASK, INVALID_STATUS_CHANGE):
                break
            if error.subcode != STATUS_CHANGED_MEANWHILE:
                raise
    raise ClaimLost(f"task {settings.task} was changed by somebody else while we claimed it")
