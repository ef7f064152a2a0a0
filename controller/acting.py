"""Does what `plan` asked for, one action at a time.

The plan is a moment old when an action is performed, and another controller may be at work: so a status is written
only after the task was read again and still is as the plan saw it. Killed between two calls, the next round sees
the half-done state and finishes it: each order below says which.
"""

from __future__ import annotations

import logging

from clearml_api import queues, tasks
from clearml_api.errors import ALREADY_QUEUED, INVALID_STATUS_CHANGE, NOT_IN_QUEUE, STATUS_CHANGED_MEANWHILE, ApiError
from clearml_api.models import ENDED
from clearml_api.session import Bounds, Session
from controller import telling
from controller.actions import (
    Action,
    CreateJob,
    DeleteJob,
    FailQueued,
    Fence,
    FinishTask,
    GiveUp,
    Ping,
    RemoveEntry,
    Requeue,
    SetMessage,
    StopJob,
    Tell,
)
from controller.cluster.interface import Cluster
from controller.plan_view import started_by_pod_of
from controller.reasons import Reason
from controller.state import JobFacts
from protocol.claim import RUNTIME_KEY

log = logging.getLogger("podstrap.controller")

CALL = Bounds(connect_seconds=3.0, read_seconds=20.0, total_seconds=0.0)
"""One try: the next round is the next try."""
_LOG_LINES = 15
_REASON_LENGTH = 250


def perform(action: Action, session: Session, cluster: Cluster) -> None:
    """Do one thing. Raises what clearml_api and the cluster raise."""
    if isinstance(action, CreateJob):
        if cluster.create(action.manifest):
            log.info("job-created task=%s job=%s attempt=%d", action.task, action.name, action.attempt)
    elif isinstance(action, StopJob):
        cluster.stop(action.job, action.mark.to_text() if action.mark else "")
        log.info("job-stopped task=%s job=%s why=%r", action.task, action.job.name, action.why)
    elif isinstance(action, DeleteJob):
        cluster.delete(action.job)
        log.info("job-deleted task=%s job=%s why=%r", action.task, action.job.name, action.why)
    elif isinstance(action, FinishTask):
        _finish(action, session, cluster)
    elif isinstance(action, FailQueued):
        _fail_queued(action, session, cluster)
    elif isinstance(action, Requeue):
        _requeue(action, session)
    elif isinstance(action, RemoveEntry):
        _remove_entry(action, session)
    elif isinstance(action, SetMessage):
        _set_message(action, session)
    elif isinstance(action, Fence):
        _fence(action, session, cluster)
    elif isinstance(action, GiveUp):
        cluster.give_up(action.job, action.pod, action.why)
        log.warning(
            "pod-given-up task=%s job=%s pod=%s why=%r", action.task, action.job.name, action.pod.name, action.why
        )
    elif isinstance(action, Tell):
        _tell(action, session, cluster)
    else:
        _ping(action, session)


def _finish(action: FinishTask, session: Session, cluster: Cluster) -> None:
    task = tasks.get(session, action.task, bounds=CALL)
    claim = task.claim if task else None
    if task is None or task.status != "in_progress":
        return
    if action.unclaimed:
        if claim is not None or not started_by_pod_of(action.job, task):
            return
    elif claim is None or claim.requeued or claim.job_uid != action.job.uid:
        return
    message = _message(action.reason, action.job, cluster, wants_log=action.wants_log)
    try:
        if action.status == "completed":
            tasks.completed(session, action.task, message, bounds=CALL)
        elif action.status == "stopped":
            tasks.stopped(session, action.task, _headline(message), message, bounds=CALL)
        else:
            tasks.failed(session, action.task, _headline(message), message, bounds=CALL)
    except ApiError as error:
        if error.subcode in (INVALID_STATUS_CHANGE, STATUS_CHANGED_MEANWHILE):
            return  # somebody else ended it: the next round reads how
        raise
    _say_ended(action, action.status)


def _fail_queued(action: FailQueued, session: Session, cluster: Cluster) -> None:
    """First out of the queue, which exactly one caller can, then failed.

    Killed in between: the task is queued, in no queue, and its Job is over; after the grace it is failed from there.
    """
    task = tasks.get(session, action.task, bounds=CALL)
    if task is None or task.status != "queued" or task.claim != action.seen:
        return
    message = _message(action.reason, action.job, cluster, wants_log=action.wants_log)
    if action.queue and not queues.remove_task(session, action.queue, action.task, bounds=CALL):
        return
    tasks.failed(session, action.task, _headline(message), message, force=True, bounds=CALL)
    _say_ended(action, "failed")


def _requeue(action: Requeue, session: Session) -> None:
    """First the mark, then the queue (a left-over entry leaves it before), then its front.

    Killed after the mark: the claim says `requeued` and the task is in no queue; the next round goes on from there.
    Killed before the move: it runs a little later than it should.
    """
    task = tasks.get(session, action.task, bounds=CALL)
    if task is None or task.status != action.status or task.claim != action.seen:
        return
    if task.claim != action.claim:
        tasks.edit_runtime(session, action.task, {RUNTIME_KEY: action.claim.to_text()}, bounds=CALL)
    if action.leave:
        queues.remove_task(session, action.leave, action.task, bounds=CALL)
    try:
        tasks.enqueue(session, action.task, action.queue, reason=_headline(action.why), bounds=CALL)
    except ApiError as error:
        if error.subcode != ALREADY_QUEUED:
            raise
    log.info(
        "task-requeued task=%s job=%s attempt=%d why=%r", action.task, action.job.name, action.claim.attempt, action.why
    )
    try:
        queues.move_to_front(session, action.queue, action.task, bounds=CALL)
    except ApiError as error:
        if error.subcode != NOT_IN_QUEUE:  # else it is claimed already
            raise


def _remove_entry(action: RemoveEntry, session: Session) -> None:
    """Enqueued again between the look and the removal, the task is an orphan of its Job and comes back."""
    task = tasks.get(session, action.task, bounds=CALL)
    if task is None or task.status not in ENDED:
        return
    if queues.remove_task(session, action.queue, action.task, bounds=CALL):
        log.info("entry-removed task=%s queue=%s status=%s", action.task, action.queue, task.status)


def _set_message(action: SetMessage, session: Session) -> None:
    """The console first: killed in between, the message is still another, and the console shows what it has."""
    if action.console:
        telling.in_console(session, action.task, action.message, bounds=CALL)
    tasks.set_message(session, action.task, action.message, bounds=CALL)
    log.info("task-waits task=%s reason=%s message=%r", action.task, action.word.value, action.message)


def _fence(action: Fence, session: Session, cluster: Cluster) -> None:
    """The claim in one round, the note in the next: a note says that the claim was free before it."""
    task = tasks.get(session, action.task, bounds=CALL)
    if task is None or task.claim != action.seen:
        return
    if action.claim is not None:
        tasks.edit_runtime(session, action.task, {RUNTIME_KEY: action.claim.to_text()}, bounds=CALL)
        log.warning("pod-fenced task=%s job=%s", action.task, action.job.name)
    if action.note is not None:
        _tell(Tell(action.task, action.job, action.note), session, cluster)


def _tell(action: Tell, session: Session, cluster: Cluster) -> None:
    """Console, Event, and last the note that it was told. Killed in between: the next round tells what is missing."""
    note = action.note
    waits = note.word is not Reason.STARTED
    if action.console and waits:
        telling.in_console(session, action.task, f"waiting: {note.reason}", bounds=CALL)
    cluster.event(action.job, note.word.value, note.reason, warning=waits)
    cluster.note(action.job, note.to_text())
    log.info("told task=%s job=%s reason=%s text=%r", action.task, action.job.name, note.word.value, note.reason)


def _ping(action: Ping, session: Session) -> None:
    try:
        tasks.ping(session, action.task, bounds=CALL)
    except ApiError as error:
        log.debug("ping-refused task=%s error=%r", action.task, str(error))  # it has just ended


def _say_ended(action: FinishTask | FailQueued, status: str) -> None:
    log.info("task-ended task=%s status=%s job=%s reason=%r", action.task, status, action.job.name, action.reason)


def _message(reason: str, job: JobFacts, cluster: Cluster, *, wants_log: bool) -> str:
    pod = job.last_pod
    lines = cluster.tail(job.namespace, pod.name, _LOG_LINES).strip() if wants_log and pod else ""
    return f"{reason}\nlast lines of pod {pod.name}:\n{lines}" if lines and pod else reason


def _headline(message: str) -> str:
    return message.partition("\n")[0][:_REASON_LENGTH]
