"""How long we wait: for a pod that does not start, for an image, and between two attempts. Pure.

Every time is measured from something that stands in the cluster or on the server, so a restart waits no longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from clearml_api.models import QueueEntry
from controller.notes import family
from controller.reasons import Diagnosis, Reason
from controller.settings_queue import QueueSettings
from controller.state import JobFacts
from controller.waiting import waiting
from protocol.claim import Claim

LONGEST_BACKOFF_SECONDS = 600.0
"""As Kubernetes' own between two pods of a Job."""


def overdue(job: JobFacts, queue: QueueSettings, now: datetime) -> Diagnosis | None:
    """Why a Job is not waited for any longer; None while it is."""
    if job.running or job.stopped or job.deleting or job.end is not None:
        return None
    found = waiting(job)
    if found and found.word is Reason.IMAGE_NAME_INVALID:
        return found  # no registry can mend a name
    grace = queue.image_pull_grace_seconds
    if found and family(found.word) == "image" and _passed(_told_since(job, found), grace, now):
        return Diagnosis(found.word, f"{found.reason} (tried for {grace:g} s, imagePullGraceSeconds)")
    if _passed(pending_since(job), queue.pending_timeout_seconds, now):
        why = found.reason if found else _no_reason(job)
        text = f"not started within {queue.pending_timeout_seconds} s (pendingTimeoutSeconds): {why}"
        return Diagnosis(Reason.PENDING_TIMEOUT, text)
    return None


def given_up_at(job: JobFacts, queue: QueueSettings) -> datetime | None:
    """When a Job that waits now will not be waited for any longer, as things stand; None: never, or it runs."""
    found, since = waiting(job), pending_since(job)
    if job.running or job.over:
        return None
    ends = []
    if since and queue.pending_timeout_seconds is not None:
        ends.append(since + timedelta(seconds=queue.pending_timeout_seconds))
    if found and family(found.word) == "image" and (first := _told_since(job, found)):
        ends.append(first + timedelta(seconds=queue.image_pull_grace_seconds))
    return min(ends, default=None)


def pending_since(job: JobFacts) -> datetime | None:
    """Since when it has had no container of the task's running: its pod's beginning, else its last pod's end."""
    pod = job.last_pod
    if pod is None:
        return job.created
    if pod.may_act:
        return None if pod.started else pod.created
    return pod.finished or job.created


def not_before(entry: QueueEntry, attempt: int, past: Sequence[JobFacts], queue: QueueSettings) -> datetime | None:
    """The earliest moment of an entry's next attempt; None when it is at once.

    Counted from the end of the last one: the Job's, or the moment at which the controller put the task back.
    """
    if attempt < 2 or not queue.retry_backoff_seconds:
        return None
    since = (past[-1].over_since or past[-1].created) if past else entry.added
    return since + timedelta(seconds=backoff_seconds(attempt, queue)) if since else None


def backoff_seconds(attempt: int, queue: QueueSettings) -> float:
    """Before this attempt: the queue's own seconds before the second, doubled for each further one."""
    return float(min(queue.retry_backoff_seconds * 2.0 ** min(attempt - 2, 20), LONGEST_BACKOFF_SECONDS))


def most_attempts(claim: Claim | None, queue: QueueSettings) -> int:
    """Pods that may run a task: its own failures, which the queue asked to try again, cost it none."""
    return queue.max_attempts + (claim.failures if claim else 0)


def _told_since(job: JobFacts, found: Diagnosis) -> datetime | None:
    told, pod = job.told, job.last_pod
    if told is None or pod is None or told.pod != pod.name or family(told.word) != family(found.word):
        return None  # told in this round: the grace begins now
    return told.since


def _no_reason(job: JobFacts) -> str:
    pod = job.last_pod
    if pod is None or not pod.may_act:
        return "it has no pod, and nobody says why"
    where = f" on node {pod.node}" if pod.node else ""
    return f"its pod {pod.name} is {pod.waiting_reason or pod.phase}{where}"


def _passed(since: datetime | None, seconds: float | None, now: datetime) -> bool:
    return since is not None and seconds is not None and now - since >= timedelta(seconds=seconds)
