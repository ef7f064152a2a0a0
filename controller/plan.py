"""What to do: a pure function from what is and the settings to a list of actions.

For each Job of ours, then for each queue entry:

    living   its task went elsewhere → stop it; runs → ping; waits → say why on the task
    over     its task needs an end → set it; is an orphan → back to its queue; needs nothing → settled
    entry    no living Job of its task and room → make a Job; the last one failed before it began → fail the task

Nothing is remembered between rounds except what only saves requests or times a grace (`State.doubtful_since`): a
round on the same facts gives the same actions, whoever was killed before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol

from clearml_api.models import QueueEntry, Task
from controller import job_template
from controller.actions import (
    Action,
    CreateJob,
    DeleteJob,
    FailQueued,
    FinishTask,
    Ping,
    RemoveEntry,
    Requeue,
    SetMessage,
    StopJob,
)
from controller.diagnosis import Cause, Diagnosis, diagnose, waiting
from controller.settings import QueueSettings, Settings
from controller.state import ENDED, JobFacts, Place, QueueFacts, State
from protocol.claim import Claim
from protocol.errors import PodstrapError
from protocol.names import added_millis, job_name
from protocol.termination import Outcome

log = logging.getLogger("podstrap.controller")

NEVER_BEGAN = "failed before it began"
_STOPPING = "stopping"
"""The status message by which the server asks a worker to end its task (tasks.stop)."""
_CLOCKS_APART = timedelta(seconds=10)
"""The server's clock and the cluster's, at most, as a rule."""
_MAX_NEW_JOBS = 50
"""Jobs made in one round: the rest waits for the next, a fraction of a second later."""


class Render(Protocol):
    """job_template.render."""

    def __call__(
        self,
        task: Task,
        *,
        queue_id: str,
        queue_name: str,
        added: datetime,
        attempt: int,
        settings: Settings,
        queue: QueueSettings,
        now: datetime,
        history: Sequence[str] = (),
    ) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Plan:
    """What to do now, and what the loop may skip or must wait for."""

    actions: tuple[Action, ...] = ()
    settled: frozenset[str] = frozenset()
    """Uids of Jobs that are over and whose tasks need nothing from us any more."""
    waiting: int = 0
    """Queue entries that have or may get a Job."""
    stuck: int = 0
    """Queue entries whose template does not render: they wait for other settings."""
    starved: bool = False
    """A queue had room but none of the entries read can run, and there are more: read further."""


def plan(state: State, settings: Settings, render: Render = job_template.render) -> Plan:
    """Decide; pure."""
    view = _View(state, settings)
    actions: list[Action] = []
    settled: set[str] = set()
    for job in state.jobs:
        if not job.over:
            actions += _living(view, job)
        elif (action := _over(view, job)) is _SETTLED:
            settled.add(job.uid)
            if job.stopped and not job.vanished:
                actions.append(DeleteJob(job.task, job, "stopped, settled"))
        elif action is not None:
            actions.append(action)
    filling = _Filling(view, render)
    actions += filling.run()
    return Plan(tuple(actions), frozenset(settled), filling.waiting, filling.stuck, filling.starved)


def in_doubt(state: State) -> frozenset[str]:
    """Jobs that are over while their task, as far as read, runs nowhere and waits nowhere: perhaps an orphan.

    The caller times how long this lasts without a break (`State.doubtful_since`).
    """
    view = _View(state, None)
    return frozenset(job.uid for job in state.jobs if job.over and _doubtful(view, job))


def wants_places(state: State, grace: timedelta) -> bool:
    """Whether deciding needs the listing of all entries of all queues: an orphan's grace is over, or a task moved."""
    view = _View(state, None)
    if any(state.now - since >= grace for since in state.doubtful_since.values()):
        return True
    if not state.minute:
        return False
    return bool(state.doubtful_since) or any(_perhaps_moved(view, job) for job in state.jobs if not job.over)


class _Verdict(Enum):
    SETTLED = "settled"


_SETTLED = _Verdict.SETTLED


class _View:
    """The state, indexed."""

    def __init__(self, state: State, settings: Settings | None) -> None:
        self.state = state
        self._settings = settings
        self.jobs: dict[str, list[JobFacts]] = {}
        for job in state.jobs:
            self.jobs.setdefault(job.task, []).append(job)
        self._living = {job.uid for job in state.jobs if not job.over}
        self._entries: dict[str, tuple[Place, ...]] = {}
        for queue in state.queues:
            for entry in queue.entries:
                place = Place(queue.id, added_millis(entry.added))
                self._entries[entry.task] = (*self._entries.get(entry.task, ()), place)
        self.names = {queue.id: queue.name for queue in state.queues}

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            raise AssertionError("this question needs no settings")
        return self._settings

    def policy(self, job: JobFacts) -> QueueSettings:
        """The settings of a Job's queue; the defaults when they do not name it any more."""
        name = self.names.get(job.queue, job.queue_name)
        return self.settings.queues.get(name) or QueueSettings()

    def task(self, job: JobFacts) -> Task | None:
        return self.state.tasks.get(job.task)

    def places(self, task: str) -> tuple[Place, ...]:
        """Where a task waits, as far as read."""
        further = (self.state.places or {}).get(task, ())
        return self._entries.get(task, ()) or further

    def seen(self, task: str) -> tuple[Place, ...]:
        """A task's entries in the queues of the settings."""
        return self._entries.get(task, ())

    def foreign(self, task: str) -> bool:
        """Whether a task surely waits in a queue that is not the settings'."""
        return not self.seen(task) and any(place.queue not in self.names for place in self.places(task))

    def nowhere(self, task: str) -> bool:
        """Whether a task surely waits in no queue of the server."""
        return self.state.places is not None and not self.places(task)

    def living(self, uid: str) -> bool:
        return uid in self._living

    def living_job_of(self, task: str) -> bool:
        return any(not job.over for job in self.jobs.get(task, ()))

    def newest(self, job: JobFacts) -> bool:
        """Whether no later Job was made for the same task."""
        return job.uid == max(self.jobs[job.task], key=lambda one: (one.added, one.attempt, one.uid)).uid

    def doubt_lasts(self, job: JobFacts) -> bool:
        """Whether the grace of an orphan has passed."""
        since = self.state.doubtful_since.get(job.uid)
        return since is not None and self.state.now - since >= timedelta(seconds=self.settings.orphan_grace_seconds)

    def doubt_is_over(self, job: JobFacts) -> bool:
        """Whether it has, and all queues were looked through for the task."""
        return self.doubt_lasts(job) and self.nowhere(job.task)


def _holds(job: JobFacts, task: Task) -> bool:
    """Whether the task's claim is this Job's and stands."""
    return task.claim is not None and task.claim.job_uid == job.uid and not task.claim.requeued


def _own(job: JobFacts, places: Sequence[Place]) -> bool:
    return Place(job.queue, job.added) in places


# Living Jobs


def _living(view: _View, job: JobFacts) -> Iterator[Action]:
    if job.task not in view.state.asked or job.end is not None or job.stopped or job.deleting:
        return  # it goes already, or nothing is known about its task
    task = view.task(job)
    if why := _in_vain(view, job, task):
        yield StopJob(job.task, job, why)
    elif task is None:
        return
    elif task.status == "in_progress" and _holds(job, task):
        if view.state.minute:
            yield Ping(job.task)
    elif task.status == "queued" and _own(job, view.places(job.task)) and (why := waiting(job)):
        yield from _say(task, f"waiting: {why}")


def _in_vain(view: _View, job: JobFacts, task: Task | None) -> str:
    """Why a living Job cannot come to run its task any more; empty while it can, or while its pod will see itself.

    A pod that runs compares the claim at each poll and leaves by itself. The exception is a new entry of the same
    task, which must wait for this Job's end: then the end comes from here, at once.
    """
    places = view.places(job.task)
    if task is not None and task.status == "queued" and places and not _own(job, places):
        return "superseded: its task has a new queue entry"
    if job.running:
        return ""
    if task is None:
        return "its task was deleted"
    if task.status == "queued":
        return ""
    if task.status != "in_progress":
        return f"its task is {task.status}"
    if not _holds(job, task):
        return "its task runs elsewhere"
    return "its task is being aborted" if task.status_message == _STOPPING else ""


def _perhaps_moved(view: _View, job: JobFacts) -> bool:
    task = view.task(job)
    waits = task is not None and task.status == "queued" and not job.running
    return waits and not job.stopped and not view.places(job.task)


def _say(task: Task, message: str) -> Iterator[SetMessage]:
    if task.status == "queued" and task.status_message != message:
        yield SetMessage(task.id, message)


# Jobs that are over


def _over(view: _View, job: JobFacts) -> Action | _Verdict | None:
    """The one thing that a Job's task needs, `_SETTLED` for nothing ever, None for nothing yet."""
    task = view.task(job)
    if task is None:
        return _SETTLED  # deleted, or settled before and not asked for
    if task.status == "in_progress":
        return _over_in_progress(view, job, task)
    if task.status == "queued":
        return _over_queued(view, job, task)
    return _left_over(view, job, task) or _SETTLED


def _left_over(view: _View, job: JobFacts, task: Task) -> RemoveEntry | None:
    """An entry that a task which ended has left behind: put there while its pod was about to start."""
    if task.status not in ENDED or not view.newest(job) or view.living_job_of(job.task):
        return None
    ended = added_millis(task.status_changed)
    for place in view.seen(job.task):
        if place.added < ended and (_holds(job, task) or _own(job, [place])):
            return RemoveEntry(job.task, place.queue)
    return None


def _over_in_progress(view: _View, job: JobFacts, task: Task) -> Action | _Verdict | None:
    claim = task.claim
    if claim is None and _started_late(view, job, task):
        return _start_over(view, job, task, Claim(job.uid, 0, pod="", job=job.name, requeued=True))
    if claim is None or claim.job_uid != job.uid or _runs_elsewhere(job, task, claim):
        return _SETTLED  # another agent's, or another Job's
    if view.foreign(job.task):
        return _SETTLED  # moved to a queue of others
    if claim.requeued:  # killed between the mark and the queue
        if _started_late(view, job, task):
            return _start_over(view, job, task, claim)
        return _requeue(job, task, claim, "") if view.doubt_is_over(job) else None
    if task.status_message == _STOPPING:
        return FinishTask(job.task, job, "stopped", "aborted; its pod was gone before it could say so")
    said = job.last_pod.last_words if job.last_pod else None
    if said and said.outcome in (Outcome.COMPLETED, Outcome.FAILED, Outcome.STOPPED):
        return FinishTask(job.task, job, said.outcome.value, said.reason)
    found = diagnose(job)
    if found.cause in (Cause.TASK, Cause.CONFIG):
        return FinishTask(job.task, job, "failed", _with_history(found.reason, claim.history), found.wants_log)
    reason = _no_restart(view.policy(job), claim.attempt, found)
    if reason:
        return FinishTask(job.task, job, "failed", _with_history(reason, claim.history), found.wants_log)
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


def _started_late(view: _View, job: JobFacts, task: Task) -> bool:
    """A reset and a new entry fell between two calls of a pod's claim: in_progress, and still in a queue.

    Nobody runs it, and no pod can claim it: a claim wants `queued`.
    """
    ours = task.claim is None or task.claim.job_uid == job.uid
    return ours and bool(view.seen(job.task)) and view.newest(job) and not view.living_job_of(job.task)


def _start_over(view: _View, job: JobFacts, task: Task, claim: Claim) -> Requeue | None:
    if not view.doubt_lasts(job):
        return None
    (place, *_) = view.seen(job.task)
    why = "it was reset while its pod was about to start"
    return Requeue(job.task, job, place.queue, claim, task.claim, task.status, why, leave=place.queue)


def _over_queued(view: _View, job: JobFacts, task: Task) -> Action | _Verdict | None:
    places = view.places(job.task)
    if places:
        return None if _own(job, places) else _SETTLED  # its own entry: `_Filling` makes the next Job of it
    if not _doubtful(view, job):
        return _SETTLED
    if not view.doubt_is_over(job):
        return None
    claim = task.claim
    if claim and claim.requeued and claim.job_uid == job.uid:
        return _requeue(job, task, claim, "")
    found = diagnose(job)
    if claim is None or claim.job_uid != job.uid:
        # Out of the queue and not claimed: its pod died between the two calls, or we between taking and failing it.
        if found.cause in (Cause.TASK, Cause.CONFIG):
            return FailQueued(job.task, job, "", f"{NEVER_BEGAN}: {found.reason}", found.wants_log, task.claim)
        history = claim.history if claim and claim.requeued else ()
        pod = job.last_pod.name if job.last_pod else ""
        claim = Claim(job.uid, job.attempt, pod=pod, job=job.name, history=history)
    elif reason := _no_restart(view.policy(job), claim.attempt, found):
        return FailQueued(job.task, job, "", _with_history(reason, claim.history), seen=task.claim)
    if claim.attempt >= view.policy(job).max_attempts:
        reason = _with_history(_no_attempt_left(claim.attempt, found), claim.history)
        return FailQueued(job.task, job, "", reason, seen=task.claim)
    return _requeue(job, task, _marked(claim, found), found.reason)


def _doubtful(view: _View, job: JobFacts) -> bool:
    """Whether the task of a Job that is over runs and waits nowhere, as far as read, and that is ours to see to."""
    task = view.task(job)
    if task is None:
        return False
    if task.status == "in_progress" and _started_late(view, job, task):
        return True
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
    return replace(claim, requeued=True, history=(*claim.history, _line(claim.attempt, found)))


def _line(attempt: int, found: Diagnosis) -> str:
    return f"attempt {attempt}: {found.reason.splitlines()[0] if found.reason else 'ended'}"


def _no_restart(queue: QueueSettings, attempt: int, found: Diagnosis) -> str:
    """Why a disrupted task is not started again; empty when it is."""
    if queue.on_disruption == "fail":
        return f"disrupted: {found.reason} (onDisruption: fail)"
    return _no_attempt_left(attempt, found) if attempt >= queue.max_attempts else ""


def _no_attempt_left(attempt: int, found: Diagnosis) -> str:
    return f"disrupted: {found.reason}; attempt {attempt} was the last (maxAttempts)"


def _with_history(reason: str, history: Sequence[str]) -> str:
    return "\n".join((reason, *history))


# Queue entries without a living Job


@dataclass
class _Filling:
    """Makes Jobs for entries, queue by queue in the settings' order, while there is room."""

    view: _View
    render: Render
    waiting: int = 0
    stuck: int = 0
    starved: bool = False
    _room: int = 0
    _taken: set[str] = field(default_factory=set)

    def run(self) -> Iterator[Action]:
        state, settings = self.view.state, self.view.settings
        living = [job for job in state.jobs if not job.over]
        self._room = min(_MAX_NEW_JOBS, _left(settings.max_pods, len(living)))
        facts = {queue.name: queue for queue in state.queues}
        for name, policy in settings.queues.items():
            if queue := facts.get(name):
                mine = sum(1 for job in living if job.queue == queue.id)
                yield from self._queue(queue, policy, _left(policy.max_pods, mine))

    def _queue(self, queue: QueueFacts, policy: QueueSettings, room: int) -> Iterator[Action]:
        made = False
        for entry in queue.entries:
            if self.view.living_job_of(entry.task) or entry.task in self._taken:
                self.waiting += 1
                continue
            task = self.view.state.tasks.get(entry.task)
            if entry.task not in self.view.state.asked:
                self.waiting += 1
                continue
            if task is None or task.status != "queued":
                continue  # a left-over entry: of a task that was deleted, or that ended without leaving its queue
            if policy.paused or min(room, self._room) <= 0:
                self.waiting += 0 if policy.paused else 1
                yield from _say(task, _no_room(queue.name, policy, full=room <= 0))
                continue
            for action in self._entry(queue, policy, entry, task):
                yield action
                if isinstance(action, CreateJob):
                    made, room, self._room = True, room - 1, self._room - 1
        self.starved = self.starved or (not queue.complete and not made and min(room, self._room) > 0)

    def _entry(self, queue: QueueFacts, policy: QueueSettings, entry: QueueEntry, task: Task) -> Iterator[Action]:
        past = sorted(
            (job for job in self.view.jobs.get(entry.task, ()) if job.is_for(entry)), key=lambda job: job.attempt
        )
        attempt, history, failure = _next_attempt(task, past, policy)
        if failure is not None and (over := self.view.jobs.get(entry.task)):
            self._taken.add(entry.task)
            job, reason = past[-1] if past else over[-1], _with_history(failure.reason, history)
            yield FailQueued(entry.task, job, queue.id, reason, failure.wants_log, task.claim)
            return
        name = job_name(entry.task, entry.added, attempt)
        refusal = self.view.state.refusals.get(name)
        if refusal and refusal.until > self.view.state.now:
            self.waiting += 1
            yield from _say(task, f"waiting: the cluster refuses its Job: {refusal.reason}")
            return
        try:
            manifest = self.render(
                task, queue_id=queue.id, queue_name=queue.name, added=entry.added, attempt=attempt,
                settings=self.view.settings, queue=policy, now=self.view.state.now, history=history,
            )  # fmt: skip
        except PodstrapError as error:
            self.stuck += 1
            yield from _say(task, f"waiting: its Job cannot be made: {error}")
            return
        except Exception as error:  # the task's text is untrusted: what it breaks stops this task alone
            log.exception("render-bug task=%s queue=%s", entry.task, queue.name)
            self.stuck += 1
            yield from _say(task, f"waiting: its Job cannot be made: {type(error).__name__}: {error}")
            return
        self._taken.add(entry.task)
        self.waiting += 1
        yield CreateJob(entry.task, queue.id, str(manifest["metadata"]["name"]), attempt, manifest)


def _next_attempt(
    task: Task, past: Sequence[JobFacts], policy: QueueSettings
) -> tuple[int, tuple[str, ...], Diagnosis | None]:
    """The attempt of the next Job for an entry, the history before it, and why there is none."""
    claim = task.claim
    history = claim.history if claim and claim.requeued else ()
    if not past:
        attempt = claim.next_attempt() if claim else 1
        if attempt > policy.max_attempts:
            none_left = f"no attempt left (maxAttempts {policy.max_attempts})"
            return attempt, history, Diagnosis(Cause.INFRASTRUCTURE, none_left)
        return attempt, history, None
    found = diagnose(past[-1])
    history = (*history, *(_line(job.attempt, diagnose(job)) for job in past))
    attempt = past[-1].attempt + 1
    if found.cause in (Cause.TASK, Cause.CONFIG):
        return attempt, history[:-1], replace(found, reason=f"{NEVER_BEGAN}: {found.reason}")
    if attempt > policy.max_attempts:
        reason = f"{NEVER_BEGAN} in {past[-1].attempt} attempts (maxAttempts): {found.reason}"
        return attempt, history, replace(found, reason=reason)
    return attempt, history, None


def _left(limit: int | None, used: int) -> int:
    return _MAX_NEW_JOBS if limit is None else max(0, limit - used)


def _no_room(name: str, policy: QueueSettings, *, full: bool) -> str:
    if policy.paused:
        return f"waiting: queue {name} is paused"
    if full:
        return f"waiting: queue {name} runs as many pods as it may (maxPods {policy.max_pods})"
    return "waiting: as many pods run as may over all queues (maxPods)"
