"""What the decisions look at: the state, indexed, and the few questions that all of them ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from clearml_api.models import Task
from controller.actions import (
    SetMessage,
)
from controller.queue_names import policy_of
from controller.reasons import Diagnosis
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.state import JobFacts, Place, State
from protocol.claim import started_by
from protocol.names import added_millis

NEVER_BEGAN = "failed before it began"
STOPPING = "stopping"
"""The status message by which the server asks a worker to end its task (tasks.stop)."""


class View:
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
        return policy_of(self.settings, self.names.get(job.queue, job.queue_name), job.queue)

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


def holds(job: JobFacts, task: Task) -> bool:
    """Whether the task's claim is this Job's and stands."""
    return task.claim is not None and task.claim.job_uid == job.uid and not task.claim.requeued


def started_by_pod_of(job: JobFacts, task: Task) -> bool:
    """Whether one of the Job's pods was the last to change the task's status, to in_progress."""
    return task.status == "in_progress" and any(started_by(task.status_reason, pod.name) for pod in job.pods)


def own(job: JobFacts, places: Sequence[Place]) -> bool:
    """Whether one of these entries is the one that the Job was made for."""
    return Place(job.queue, job.added) in places


def say(task: Task, why: Diagnosis, *, console: bool = False) -> Iterator[SetMessage]:
    """Put a reason on a waiting task, only when it is another than the one that stands there."""
    if task.status == "queued" and task.status_message != why.reason:
        yield SetMessage(task.id, why.reason, why.word, console)


def attempt_line(attempt: int, found: Diagnosis) -> str:
    """One line of a task's history."""
    return f"attempt {attempt}: {found.reason.splitlines()[0] if found.reason else 'ended'}"


def with_history(reason: str, history: Sequence[str]) -> str:
    """A reason with what happened before."""
    return "\n".join((reason, *history))
