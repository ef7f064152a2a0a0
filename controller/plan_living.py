"""What the Jobs that live need: an end when their task went elsewhere or their time is over, a ping, a reason told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from clearml_api.models import Task
from controller import injection
from controller.actions import Action, Ping, StopJob, Tell
from controller.diagnosis import diagnose
from controller.notes import Note, StopMark, note_of
from controller.patience import overdue
from controller.plan_lost import given_up, replaced
from controller.plan_view import STOPPING, View, holds, own, say
from controller.reasons import Cause, Diagnosis, Reason
from controller.state import JobFacts
from controller.waiting import trouble, waiting

_NEWS = timedelta(minutes=10)
"""An end that is older than this is not told any more: nobody floods a cluster with the past after an upgrade."""


def living(view: View, job: JobFacts) -> Iterator[Action]:
    """What a Job that may still act needs: an end when its task went elsewhere, a ping, the reason why it waits."""
    if job.task not in view.state.asked or job.end is not None or job.stopped or job.deleting:
        return  # it goes already, or nothing is known about its task
    task = view.task(job)
    if why := _in_vain(view, job, task):
        yield StopJob(job.task, job, why)
    elif task is not None and (why := _cannot_bring(view, job, task)):
        text = f"waiting: the node's runtime takes no image volume ({why}); the next pod copies podstrap"
        yield from say(task, Diagnosis(Reason.IMAGE_VOLUME_REFUSED, text))
        refusal = f"{injection.REFUSED}{why}"
        yield StopJob(job.task, job, refusal, StopMark(Reason.IMAGE_VOLUME_REFUSED, refusal))
    elif task is not None and (task.status == "queued" or (task.status == "in_progress" and holds(job, task))):
        yield from _in_its_time(view, job, task)
    elif note := untold(job, view.state.now):  # its task needs nothing of it; the Job's own Events are for the cluster
        yield Tell(job.task, job, note, console=False)


def _in_its_time(view: View, job: JobFacts, task: Task) -> Iterator[Action]:
    """Its task is its own: is it still waited for, and what is there to say meanwhile?"""
    if not _began(job, task) and (late := overdue(job, view.policy(job), view.state.now)):
        holder = task.claim.pod if task.claim and task.claim.job_uid == job.uid else ""
        pod = job.last_pod.name if job.last_pod and job.last_pod.may_act else ""
        mark = StopMark(late.word, late.reason, pod, holder, view.state.now)
        yield StopJob(job.task, job, late.reason, mark)
        return
    if task.status == "in_progress" and view.state.minute:
        yield Ping(job.task)
    if view.policy(job).on_node_lost == "replace" and (step := replaced(job, task, view.state.now)):
        yield step
        return
    found = waiting(job)
    if found and task.status == "queued" and own(job, view.places(job.task)):
        yield from say(task, Diagnosis(found.word, f"waiting: {found.reason}"))
    if note := untold(job, view.state.now):
        yield Tell(job.task, job, note)


def untold(job: JobFacts, now: datetime) -> Note | None:
    """What is to be told about a living Job: why it waits, or that it does not wait any more."""
    if job.stopped or job.deleting or job.end is not None:
        return None
    if found := trouble(job, now):
        return None if given_up(job) else note_of(job, found, now)
    told = job.told
    if told is None or told.word is Reason.STARTED or not job.running or job.last_pod is None:
        return None
    return Note(Reason.STARTED, f"pod {job.last_pod.name} has started", job.last_pod.name, now, now)


def last_word(job: JobFacts, now: datetime) -> Note | None:
    """What is to be told about a Job that is over, in its Events alone: why it ended, unless all is well."""
    ended = job.end.at if job.end else None
    if job.vanished or (job.end and job.end.succeeded) or not (job.end or job.mark):
        return None
    if ended and now - ended > _NEWS:
        return None
    found, told = diagnose(job), job.told
    if found.cause is Cause.NONE or (told and (told.says(found, "") or (ended and told.at >= ended))):
        return None
    return Note(found.word, found.reason, "", now, now)


def _in_vain(view: View, job: JobFacts, task: Task | None) -> str:
    """Why a living Job cannot come to run its task any more; empty while it can, or while its pod will see itself.

    A pod that runs compares the claim at each poll and leaves by itself. The exception is a new entry of the same
    task, which must wait for this Job's end: then the end comes from here, at once.
    """
    if (pod := job.last_pod) and not pod.may_act and diagnose(job).cause is not Cause.INFRASTRUCTURE:
        return ""  # its last pod has ended, so it ends by itself in a moment
    places = view.places(job.task)
    if task is not None and task.status == "queued" and places and not own(job, places):
        return "superseded: its task has a new queue entry"
    if job.running or (task is not None and _began(job, task)):
        return ""
    if task is None:
        return "its task was deleted"
    if task.status == "queued":
        return ""
    if task.status != "in_progress":
        return f"its task is {task.status}"
    if not holds(job, task):
        return "its task runs elsewhere"
    return "its task is being aborted" if task.status_message == STOPPING else ""


def _cannot_bring(view: View, job: JobFacts, task: Task) -> str:
    """Why the runtime of a waiting pod's node does not mount our image, where another way may be taken."""
    pod = job.last_pod
    if task.status != "queued" or holds(job, task) or pod is None or pod.phase != "Pending":
        return ""
    return injection.refused(job) if injection.falls_back(view.settings, view.policy(job)) else ""


def _began(job: JobFacts, task: Task) -> bool:
    """Whether the newest pod has claimed the task: it runs or has ended, whatever its kubelet has said yet."""
    pod = job.last_pod
    return holds(job, task) and pod is not None and task.claim is not None and task.claim.pod == pod.name


def perhaps_moved(view: View, job: JobFacts) -> bool:
    """Whether a waiting Job's task is in none of our queues, as far as read: moved elsewhere, or further down."""
    task = view.task(job)
    waits = task is not None and task.status == "queued" and not job.running
    return waits and not job.stopped and not view.places(job.task)
