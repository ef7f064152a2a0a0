"""What a round saw, as the numbers of the gauges. Pure: the same facts give the same numbers, whoever was restarted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from controller import telemetry_metrics as m
from controller.overview import stage
from controller.plan import Plan
from controller.queue_names import is_pattern
from controller.reasons import Reason
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.state import JobFacts, QueueFacts, State
from controller.waiting import waiting

Numbers = Mapping[m.Metric, Mapping[tuple[str, ...], float]]
"""Metric -> values of its labels -> number."""

_MENDED_BY_A_PERSON = (Reason.TEMPLATE_INVALID, Reason.JOB_REFUSED)
_STAGES = ("pending", "running", "stopping", "succeeded", "failed", "stopped")
_NO_LIMIT = float("inf")


def picture(state: State, settings: Settings, plan: Plan) -> Numbers:
    """Every series of SNAPSHOT; the queues of the settings have theirs at zero too."""
    names = queue_names(state)
    living = [job for job in state.jobs if not job.over]
    free = _free(settings.max_pods, len(living))
    found: dict[m.Metric, dict[tuple[str, ...], float]] = {metric: {} for metric in m.SNAPSHOT}
    found[m.PLACES_FREE][()] = free
    found[m.JOBS_UNSETTLED][()] = len(state.jobs) - len(living) - len(plan.settled)
    found[m.TASKS_IN_DOUBT][()] = len(state.doubtful_since)
    for (queue, word), count in plan.held.items():
        found[m.QUEUE_WAITING][queue, word.value] = count
    facts = {queue.name: queue for queue in state.queues}
    busy = {job.task for job in living}
    for name, policy in _served(state, settings).items():
        mine = sum(1 for job in living if names.get(job.queue) == name)
        found[m.QUEUE_FREE][name,] = 0 if policy.paused else min(free, _free(policy.max_pods, mine))
        found[m.QUEUE_PAUSED][name,] = policy.paused
        found[m.QUEUE_MISSING][name,] = name not in facts
        read = facts.get(name)
        blocked = sum(plan.held.get((name, word), 0) for word in _MENDED_BY_A_PERSON)
        found[m.QUEUE_ENTRIES].update(_entries(name, read, busy, blocked))
        found[m.QUEUE_OLDEST][name,] = _oldest(read, busy, state.now)
        found[m.JOBS].update(dict.fromkeys(((name, one) for one in _STAGES), 0))
    for (queue, stage_of_it), count in Counter((queue_of(job, names), stage(job)) for job in state.jobs).items():
        found[m.JOBS][queue, stage_of_it] = count
    found[m.JOBS_WAITING].update(_waiting(living, names))
    return found


def _served(state: State, settings: Settings) -> dict[str, QueueSettings]:
    """Name -> settings of each queue that is served, and of each that is named and missing."""
    served = {queue.name: settings.queues[queue.settings_key] for queue in state.queues}
    known = {queue.settings_key for queue in state.queues}
    missing = {key: policy for key, policy in settings.queues.items() if not (key in known or is_pattern(key))}
    return served | missing


def queue_names(state: State) -> dict[str, str]:
    """A queue's id -> its name."""
    return {queue.id: queue.name for queue in state.queues}


def queue_of(job: JobFacts, names: Mapping[str, str]) -> str:
    """The queue of a Job by its name, else by the name it had when the Job was made."""
    return names.get(job.queue) or job.queue_name


def _entries(name: str, queue: QueueFacts | None, busy: set[str], blocked: int) -> Mapping[tuple[str, ...], float]:
    read = queue.entries if queue else ()
    depth = max(queue.depth, len(read)) if queue else 0
    starting = sum(1 for entry in read if entry.task in busy)
    counts = (starting, max(0, depth - starting - blocked), blocked)
    return {(name, state): count for state, count in zip(m.ENTRY_STATES, counts, strict=True)}


def _oldest(queue: QueueFacts | None, busy: set[str], now: datetime) -> float:
    ages = ((now - entry.added).total_seconds() for entry in (queue.entries if queue else ()) if entry.task not in busy)
    return max(0.0, max(ages, default=0.0))


def _waiting(living: Iterable[JobFacts], names: Mapping[str, str]) -> Mapping[tuple[str, ...], float]:
    found: Counter[tuple[str, ...]] = Counter()
    for job in living:
        if why := waiting(job):
            found[queue_of(job, names), why.word.value] += 1
    return found


def _free(limit: int | None, used: int) -> float:
    return _NO_LIMIT if limit is None else max(0, limit - used)
