"""What `podstrap status` and `podstrap explain` say: pure, from the same facts that the plan decides by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from clearml_api.models import Queue, Task
from controller import job_template, queue_names
from controller.diagnosis import diagnose
from controller.injection import falls_back
from controller.patience import given_up_at
from controller.plan_queues import REFUSED, next_attempt, pausing
from controller.reasons import REASONS, Cause
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.state import JobFacts
from controller.waiting import trouble
from protocol.errors import PodstrapError


@dataclass(frozen=True)
class QueueRow:
    """One queue: how much waits, how much lives."""

    queue: str
    entries: int
    jobs: int
    running: int
    limit: int | None
    note: str = ""
    """paused, or missing on the server."""


@dataclass(frozen=True)
class JobRow:
    """One Job."""

    task: str
    name: str
    queue: str
    stage: str
    """pending, running, stopping, succeeded, failed."""
    attempt: int
    job: str
    pod: str
    node: str
    seconds: float | None
    """Since it was made."""
    word: str
    """The reason's word, as in Events and metrics."""
    reason: str
    """Why it waits or how it ended."""


@dataclass(frozen=True)
class Finding:
    """One step of an explanation: what was looked at, and what stands there."""

    cause: str
    text: str
    stops: bool = False
    """This is what holds the task up, or what ended it."""


def queue_rows(settings: Settings, queues: Sequence[Queue], jobs: Sequence[JobFacts]) -> list[QueueRow]:
    """In the settings' order."""
    rows = []
    served, unused = queue_names.served(settings.queues, queues), queue_names.without_queue(settings.queues, queues)
    for key, policy in settings.queues.items():
        if key in unused:
            rows.append(QueueRow(key, 0, 0, 0, policy.max_pods, unused[key]))
        rows += [_queue_row(key, queue, policy, jobs) for own, queue in served if own == key]
    return rows


def _queue_row(key: str, queue: Queue, policy: QueueSettings, jobs: Sequence[JobFacts]) -> QueueRow:
    living = [job for job in jobs if job.queue == queue.id and not job.over]
    running = sum(1 for job in living if job.running)
    notes = ["paused"] if policy.paused else []
    notes += [f"as {key}"] if key != queue.name else []
    return QueueRow(queue.name, len(queue.entries), len(living), running, policy.max_pods, ", ".join(notes))


def job_rows(jobs: Sequence[JobFacts], tasks: Mapping[str, Task], now: datetime) -> list[JobRow]:
    """Living first, then the newest."""
    ordered = sorted(jobs, key=lambda job: (job.over, -(job.created.timestamp() if job.created else 0.0)))
    return [_job_row(job, tasks.get(job.task), now) for job in ordered]


def stage(job: JobFacts) -> str:
    """In one word."""
    if job.over:
        return "succeeded" if job.end and job.end.succeeded else "stopped" if job.end is None else "failed"
    if job.stopped or job.deleting:
        return "stopping"
    return "running" if job.running else "pending"


def explain(
    task: Task | None, settings: Settings, queues: Sequence[Queue], jobs: Sequence[JobFacts], now: datetime
) -> Iterator[Finding]:
    """Why a task waits or why it ended, in order of cause. `queues`: all of the server, with all their entries."""
    if task is None:
        yield Finding("task", "the server does not know it: deleted, or of another server", stops=True)
        return
    yield Finding(
        "task", f"{task.name!r} is {task.status}" + (f": {task.status_message}" if task.status_message else "")
    )
    ours = sorted((job for job in jobs if job.task == task.id), key=lambda job: (job.added, job.attempt))
    living = [job for job in ours if not job.over]
    if task.status == "queued":
        yield from _queued(task, settings, queues, jobs, living, now)
    for job in ours:
        yield from _of_job(job, settings, queues, now)
    if (claim := task.claim) is not None:
        held = (
            "was put back into its queue"
            if claim.requeued
            else "holds it"
            if task.status == "in_progress"
            else "had it"
        )
        where = f" on node {claim.node}" if claim.node else ""
        yield Finding("claim", f"pod {claim.pod}{where} of Job {claim.job} {held}, attempt {claim.attempt}")
        for line in claim.history:
            yield Finding("history", line)
    if task.status == "in_progress" and not living:
        yield Finding("run", "no Job of this controller runs it: another agent does, or it is about to be put back")


def _queued(
    task: Task, settings: Settings, queues: Sequence[Queue], jobs: Sequence[JobFacts], living: Sequence[JobFacts],
    now: datetime,
) -> Iterator[Finding]:  # fmt: skip
    found = next(
        ((queue, n) for queue in queues for n, entry in enumerate(queue.entries) if entry.task == task.id), None
    )
    if found is None:
        yield Finding("queue", "it stands in no queue: its pod has just claimed it, or it is about to be put back")
        return
    queue, position = found
    key = queue_names.key_of(settings.queues, queue.name, queue.id)
    policy = settings.queues[key] if key is not None else None
    yield Finding("queue", f"place {position + 1} of {len(queue.entries)} in {queue.name!r}", stops=policy is None)
    if policy is None:
        yield Finding(
            "queue", f"these settings do not serve {queue.name!r}: {', '.join(settings.queues) or 'none'}", stops=True
        )
        return
    if policy.paused:
        yield Finding("limits", f"queue {queue.name} is paused", stops=True)
    if living:
        return
    entry = queue.entries[position]
    yield from _limits(queue, policy, settings, jobs)
    past = sorted((job for job in jobs if job.over and job.is_for(entry)), key=lambda job: job.attempt)
    back = falls_back(settings, policy)
    attempt, history, _ = next_attempt(task, past, policy, falls_back=back)
    if pause := pausing(task, entry, past, policy, now, attempt=attempt, history=history, falls_back=back):
        yield Finding("limits", pause, stops=True)
    yield from _template(task, queue, policy, settings, added=entry.added, now=now)
    if task.status_message.startswith(REFUSED):
        yield Finding("admission", task.status_message.removeprefix("waiting: "), stops=True)


def _limits(queue: Queue, policy: QueueSettings, settings: Settings, jobs: Sequence[JobFacts]) -> Iterator[Finding]:
    living = [job for job in jobs if not job.over]
    mine = sum(1 for job in living if job.queue == queue.id)
    for what, limit, used in (("queue", policy.max_pods, mine), ("all queues", settings.max_pods, len(living))):
        if limit is not None:
            yield Finding("limits", f"{what}: {used} of {limit} pods (maxPods)", stops=used >= limit)


def _template(
    task: Task, queue: Queue, policy: QueueSettings, settings: Settings, *, added: datetime, now: datetime
) -> Iterator[Finding]:
    try:
        job_template.render(
            task,
            queue_id=queue.id,
            queue_name=queue.name,
            added=added,
            attempt=1,
            settings=settings,
            queue=policy,
            now=now,
        )
    except PodstrapError as error:
        yield Finding("template", str(error), stops=True)
    else:
        yield Finding("template", "its Job can be made")


def _of_job(job: JobFacts, settings: Settings, queues: Sequence[Queue], now: datetime) -> Iterator[Finding]:
    """Where in the order of causes it stands, by the reason's word."""
    label = f"{job.name}, attempt {job.attempt}"
    found = diagnose(job) if job.over else trouble(job, now)
    if found is None:
        yield Finding("job", f"{label}: {stage(job)}")
        return
    about = REASONS[found.word]
    stops = not job.over or found.cause is not Cause.NONE
    yield Finding(about.stage.value, f"{label} {stage(job)} [{found.word.value}]: {found.reason}", stops=stops)
    name = next((queue.name for queue in queues if queue.id == job.queue), job.queue_name)
    if end := given_up_at(job, queue_names.policy_of(settings, name, job.queue)):
        yield Finding("limits", f"{label} is given up at {end:%H:%M:%S} UTC if that lasts")


def _job_row(job: JobFacts, task: Task | None, now: datetime) -> JobRow:
    pod = job.last_pod
    why = diagnose(job) if job.over and stage(job) != "succeeded" else trouble(job, now)
    return JobRow(
        task=job.task, name=task.name if task else "", queue=job.queue_name or job.queue, stage=stage(job),
        attempt=job.attempt, job=job.name, pod=pod.name if pod else "", node=pod.node if pod else "",
        seconds=(now - job.created).total_seconds() if job.created else None,
        word=why.word.value if why else "", reason=why.reason if why else "",
    )  # fmt: skip
