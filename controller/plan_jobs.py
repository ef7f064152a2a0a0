"""What the Jobs that are over still need: the end of their task, its way back into its queue, or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from enum import Enum

from clearml_api.models import ENDED, Task
from controller.actions import Action, FailQueued, FinishTask, RemoveEntry, Requeue
from controller.diagnosis import diagnose
from controller.patience import most_attempts
from controller.plan_view import NEVER_BEGAN, STOPPING, View, attempt_line, holds, own, started_by_pod_of, with_history
from controller.reasons import Cause, Diagnosis, Reason
from controller.settings_queue import QueueSettings
from controller.state import JobFacts
from protocol.claim import Claim
from protocol.names import added_millis

_CLOCKS_APART = timedelta(seconds=10)
"""The server's clock and the cluster's, at most, as a rule."""


class Verdict(Enum):
    """An answer that is no action."""

    SETTLED = "settled"


SETTLED = Verdict.SETTLED


def over(view: View, job: JobFacts) -> Action | Verdict | None:
    """The one thing that a Job's task needs, `SETTLED` for nothing ever, None for nothing yet."""
    task = view.task(job)
    if task is None:
        return SETTLED  # deleted, or settled before and not asked for
    if task.status == "in_progress":
        return _over_in_progress(view, job, task)
    if task.status == "queued":
        return _over_queued(view, job, task)
    return _left_over(view, job, task) or SETTLED


def _left_over(view: View, job: JobFacts, task: Task) -> RemoveEntry | None:
    """An entry that a task which ended has left behind: put there while its pod was about to start."""
    if task.status not in ENDED or not view.newest(job) or view.living_job_of(job.task):
        return None
    ended = added_millis(task.status_changed)
    for place in view.seen(job.task):
        if place.added < ended and (holds(job, task) or own(job, [place])):
            return RemoveEntry(job.task, place.queue)
    return None


def _over_in_progress(view: View, job: JobFacts, task: Task) -> Action | Verdict | None:
    claim = task.claim
    if claim is None and _started_late(view, job, task):
        return _start_over(view, job, task, Claim(job.uid, 0, pod="", job=job.name, requeued=True))
    if claim is None and started_by_pod_of(job, task):
        # Reset, and taken out of its queue, between a pod's last look and its start: the pod has left it alone since.
        if view.foreign(job.task):
            return SETTLED
        gone = "it was taken back while its pod was about to start"
        return FinishTask(job.task, job, "stopped", gone, unclaimed=True) if view.doubt_is_over(job) else None
    if claim is None or claim.job_uid != job.uid or _runs_elsewhere(job, task, claim):
        return SETTLED  # another agent's, or another Job's
    if view.foreign(job.task):
        return SETTLED  # moved to a queue of others
    if claim.requeued:  # killed between the mark and the queue
        if _started_late(view, job, task):
            return _start_over(view, job, task, claim)
        return _requeue(job, task, claim, "") if view.doubt_is_over(job) else None
    if task.status_message == STOPPING:
        return FinishTask(job.task, job, "stopped", "aborted; its pod was gone before it could say so")
    found = diagnose(job, claim)
    if found.word in (Reason.COMPLETED, Reason.ABORTED):
        return FinishTask(job.task, job, "completed" if found.word is Reason.COMPLETED else "stopped", found.reason)
    policy = view.policy(job)
    if found.cause is Cause.TASK and claim.failures < policy.retry_own_failures:
        return _requeue(job, task, _marked(claim, found), found.reason)
    if found.cause in (Cause.TASK, Cause.CONFIG):
        return FinishTask(job.task, job, "failed", with_history(found.reason, claim.history), found.wants_log)
    reason = _no_restart(policy, claim, found)
    if reason:
        return FinishTask(job.task, job, "failed", with_history(reason, claim.history), found.wants_log)
    if _started_late(view, job, task):
        return _start_over(view, job, task, _marked(claim, found))
    return _requeue(job, task, _marked(claim, found), found.reason) if view.doubt_is_over(job) else None


def _runs_elsewhere(job: JobFacts, task: Task, claim: Claim) -> bool:
    """Started by somebody else long after our Job was over: the claim is an old run's, which nobody clears.

    Two signs, since neither is sure: the server's clock may be off, and a pod may die before its first report.
    """
    since = job.over_since
    late = since is not None and task.status_changed > since + _CLOCKS_APART
    return late and bool(task.last_worker) and bool(claim.pod) and claim.pod not in task.last_worker


def _started_late(view: View, job: JobFacts, task: Task) -> bool:
    """A reset and a new entry fell between two calls of a pod's claim: in_progress, and still in a queue.

    Nobody runs it, and no pod can claim it: a claim wants `queued`.
    """
    ours = task.claim is None or task.claim.job_uid == job.uid
    return ours and bool(view.seen(job.task)) and view.newest(job) and not view.living_job_of(job.task)


def _start_over(view: View, job: JobFacts, task: Task, claim: Claim) -> Requeue | None:
    if not view.doubt_lasts(job):
        return None
    (place, *_) = view.seen(job.task)
    why = "it was reset while its pod was about to start"
    return Requeue(job.task, job, place.queue, claim, task.claim, task.status, why, leave=place.queue)


def _over_queued(view: View, job: JobFacts, task: Task) -> Action | Verdict | None:
    places = view.places(job.task)
    if places:
        return None if own(job, places) else SETTLED  # its own entry: `Filling` makes the next Job of it
    if not doubtful(view, job):
        return SETTLED
    if not view.doubt_is_over(job):
        return None
    claim = task.claim
    if claim and claim.requeued and claim.job_uid == job.uid:
        return _requeue(job, task, claim, "")
    found = diagnose(job, claim)
    if claim is None or claim.job_uid != job.uid:
        # Out of the queue and not claimed: its pod died between the two calls, or we between taking and failing it.
        if found.cause in (Cause.TASK, Cause.CONFIG):
            return FailQueued(job.task, job, "", f"{NEVER_BEGAN}: {found.reason}", found.wants_log, task.claim)
        history = claim.history if claim and claim.requeued else ()
        pod = job.last_pod.name if job.last_pod else ""
        failures = claim.failures if claim and claim.requeued else 0
        claim = Claim(job.uid, job.attempt, pod=pod, job=job.name, history=history, failures=failures)
    elif reason := _no_restart(view.policy(job), claim, found):
        return FailQueued(job.task, job, "", with_history(reason, claim.history), seen=task.claim)
    if claim.attempt >= most_attempts(claim, view.policy(job)):
        reason = with_history(_no_attempt_left(claim.attempt, found), claim.history)
        return FailQueued(job.task, job, "", reason, seen=task.claim)
    return _requeue(job, task, _marked(claim, found), found.reason)


def doubtful(view: View, job: JobFacts) -> bool:
    """Whether the task of a Job that is over runs and waits nowhere, as far as read, and that is ours to see to."""
    task = view.task(job)
    if task is None:
        return False
    if task.status == "in_progress" and _started_late(view, job, task):
        return True
    if task.status == "in_progress" and task.claim is None and started_by_pod_of(job, task):
        return not view.places(job.task)
    if view.places(job.task):
        return False
    holder = task.claim.job_uid if task.claim else ""
    if task.status == "in_progress":
        return holder == job.uid
    if task.status != "queued" or view.living_job_of(job.task):
        return False
    return holder == job.uid or (view.newest(job) and not view.living(holder))


def _requeue(job: JobFacts, task: Task, claim: Claim, why: str) -> Requeue:
    return Requeue(job.task, job, job.queue, claim, task.claim, task.status, why or "going on after a restart")


def _marked(claim: Claim, found: Diagnosis) -> Claim:
    """The claim as the next Job must find it: requeued, with a line about the attempt that ended."""
    failures = claim.failures + (found.cause is Cause.TASK)
    return replace(
        claim, requeued=True, failures=failures, history=(*claim.history, attempt_line(claim.attempt, found))
    )


def _no_restart(queue: QueueSettings, claim: Claim, found: Diagnosis) -> str:
    """Why a disrupted task is not started again; empty when it is."""
    if queue.on_disruption == "fail":
        return f"disrupted: {found.reason} (onDisruption: fail)"
    return _no_attempt_left(claim.attempt, found) if claim.attempt >= most_attempts(claim, queue) else ""


def _no_attempt_left(attempt: int, found: Diagnosis) -> str:
    return f"disrupted: {found.reason}; attempt {attempt} was the last (maxAttempts)"
