"""What became of Jobs from one round to the next: ends, lost pods, steps of starts. For counters and histograms.

The first look at a Job only remembers it when it was there before this process: so a restart counts nothing twice.
What is remembered is only for counting; forgetting it changes nothing that the controller does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from clearml_api.models import Task
from controller import telemetry_metrics as m
from controller.diagnosis import diagnose
from controller.reasons import Cause, Reason
from controller.state import JobFacts, PodFacts, State
from controller.telemetry_picture import queue_names, queue_of
from protocol import timeline
from protocol.termination import Outcome

_SAID = {one.value for one in Outcome} - {Outcome.RUNNING.value}


@dataclass(frozen=True)
class Change:
    """One more for a counter, or one observation of `seconds` for a histogram."""

    metric: m.Metric
    labels: tuple[str, ...]
    seconds: float | None = None


class Changes:
    """One for the time that a controller leads."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobFacts] | None = None
        """By uid, as of the last round; None before the first."""
        self._timelines: dict[str, int] = {}
        """Task -> hash of the timeline that it had when it was last read."""

    def seen(self, state: State) -> Iterator[Change]:
        """What is new. To be used up before the next call."""
        names, before = queue_names(state), self._jobs
        self._jobs = {job.uid: job for job in state.jobs}
        if before is not None:
            for job in state.jobs:
                if (earlier := before.get(job.uid)) is not job:  # the cluster's store keeps what has not changed
                    yield from _of_job(earlier, job, queue_of(job, names))
        yield from self._starts(state, names)

    def _starts(self, state: State, names: Mapping[str, str]) -> Iterator[Change]:
        """Timelines that appeared on tasks since these were last read: a first look may find that of an earlier run."""
        queues = {job.task: queue_of(job, names) for job in state.jobs}
        kept = {task: mark for task, mark in self._timelines.items() if task in queues or task in state.asked}
        for task in state.tasks.values():
            text = _timeline_of(task)
            mark, earlier = hash(text), kept.get(task.id)
            kept[task.id] = mark
            if text and earlier is not None and earlier != mark and task.id in queues:
                yield from _of_timeline(timeline.from_text(text), queues[task.id])
        self._timelines = kept


def _of_job(before: JobFacts | None, job: JobFacts, queue: str) -> Iterator[Change]:
    yield from _of_first_pod(before, job, queue)
    known = {pod.uid for pod in before.pods if not pod.may_act} if before else set()
    for pod in job.pods:
        if not pod.may_act and pod.uid not in known and not job.stopped and (word := _lost(job, pod)):
            yield Change(m.PODS_LOST, (queue, word.value))
    if job.over and not (before and before.over):
        yield Change(m.JOBS_ENDED, (queue, *_end(job)))


def _of_first_pod(before: JobFacts | None, job: JobFacts, queue: str) -> Iterator[Change]:
    """Its steps, as they become known. A later pod of the same Job is a restart, not a start."""
    pod, earlier = _first(job), _first(before)
    if pod is None:
        return
    if pod.scheduled and job.created and not (earlier and earlier.scheduled):
        yield Change(m.STARTUP, (queue, m.POD_SCHEDULED), _between(job.created, pod.scheduled))
    if pod.started and pod.scheduled and not (earlier and earlier.started):
        yield Change(m.STARTUP, (queue, m.POD_STARTED), _between(pod.scheduled, pod.started))


def _of_timeline(phases: Mapping[str, float], queue: str) -> Iterator[Change]:
    for name in timeline.PHASES:
        if name in phases:
            yield Change(m.STARTUP, (queue, name), phases[name])
    if (seconds := timeline.until_claimed(phases)) is not None:
        yield Change(m.CLAIM, (queue,), seconds)


def _lost(job: JobFacts, pod: PodFacts) -> Reason | None:
    """The word when the infrastructure ended this pod."""
    found = diagnose(replace(job, pods=(pod,)))
    return found.word if found.cause is Cause.INFRASTRUCTURE else None


def _end(job: JobFacts) -> tuple[str, str, str]:
    """Outcome, cause and reason."""
    said = job.last_pod.last_words if job.last_pod else None
    if said and said.outcome.value in _SAID and not (job.stopped and said.outcome is Outcome.DISRUPTED):
        found = diagnose(job)
        return said.outcome.value, found.cause.value, found.word.value
    if job.stopped and not job.mark:  # else it was given up, and its task hears of it
        return "withdrawn", Cause.NONE.value, Reason.JOB_STOPPED.value
    found = diagnose(job)
    ends = {Cause.INFRASTRUCTURE: "disrupted", Cause.NONE: "withdrawn"}
    return ends.get(found.cause, "failed"), found.cause.value, found.word.value


def _first(job: JobFacts | None) -> PodFacts | None:
    return job.pods[0] if job and job.pods else None


def _between(one: datetime, other: datetime) -> float:
    return max(0.0, (other - one).total_seconds())


def _timeline_of(task: Task) -> str:
    properties = task.hyperparams.get("properties")
    one = properties.get(timeline.TIMELINE) if isinstance(properties, Mapping) else None
    value = one.get("value") if isinstance(one, Mapping) else None
    return value if isinstance(value, str) else ""
