"""Reads the state of one round: the cluster, then the queues in one request, then the tasks that matter in another.

The order is the point. Jobs are read first because a Job that is over stays over; a queue entry is read after
them, a task after its entry, and the listing of all queues last: so "in no queue" is never older than "queued".

What the reader remembers between rounds only saves requests or times a grace: queue ids, Jobs whose tasks need
nothing more, how far to read. Forgetting it (a restart) costs a request, never a task.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from clearml_api import queues, tasks
from clearml_api.errors import QUEUE_NAME_TAKEN, ApiError
from clearml_api.models import ENDED, Queue, Task
from clearml_api.session import Session
from controller import queue_names, rules
from controller.acting import CALL
from controller.cluster.interface import Cluster
from controller.patience import overdue
from controller.plan import Plan, in_doubt, wants_places
from controller.plan_living import untold
from controller.plan_lost import worth_a_look
from controller.plan_queues import MAX_NEW_JOBS
from controller.plan_view import own
from controller.reasons import Diagnosis
from controller.settings import Settings
from controller.state import VANISHED, JobEnd, JobFacts, Place, PodFacts, QueueFacts, Refusal, State, places_of
from controller.waiting import waiting
from protocol import labels
from protocol.claim import Claim
from protocol.names import added_millis

log = logging.getLogger("podstrap.controller")

MARGIN = 8
"""Entries read beyond those that can be started: some may wait, be blocked, or be other agents'."""
_LOST_SECONDS = 5.0
"""A claim whose Job we have not seen for so long is one whose Job is gone."""
_ALL_ENTRIES = 1_000_000
_COUNTED = 10_000
"""Entries of a queue that are counted once a minute, in the request that is made anyway."""
_MOST_EXTRA = 100_000


class Reader:
    """One for the life of a controller."""

    def __init__(self, settings: Settings, session: Session, cluster: Cluster) -> None:
        self._settings = settings
        self._session = session
        self._cluster = cluster
        self._queue_ids: dict[str, str] = {}
        self._missing: set[str] = set()
        self._settled: frozenset[str] = frozenset()
        self._done: frozenset[str] = frozenset()
        """Settled with an ended task: for ever, whatever becomes of the task. The others are looked at once a minute.
        """
        self._unsettled: dict[str, JobFacts] = {}
        self._claims_without_job: dict[str, tuple[datetime, JobFacts]] = {}
        """Job uid -> since when we know of a claim by it without seeing it, and the Job as its claim describes it."""
        self._doubts: dict[str, tuple[object, datetime]] = {}
        self._said: dict[str, Diagnosis | None] = {}
        """Living Job uid -> why it waits, as of the last round."""
        self._depths: dict[str, int] = {}
        self._extra = 0
        self.refusals: dict[str, Refusal] = {}

    def take(self, settings: Settings) -> None:
        """Read by other settings from now on. What is known of Jobs and tasks stays; what was refused is tried anew."""
        self._settings = settings
        self._queue_ids, self._missing, self.refusals = {}, set(), {}

    def read(self, now: datetime, *, minute: bool) -> State:
        """What is. Raises ClusterError and what clearml_api raises: then nothing is known and nothing is done."""
        if minute:
            self._settled = self._done
        cluster = self._cluster.snapshot()
        jobs = self._jobs(cluster.jobs, now)
        if minute and cluster.home:
            self._look_for_lost(cluster.home, jobs, now)
        limit = self._limit(jobs)
        found = self._queues(limit, minute=minute)
        asked = frozenset(self._interesting(jobs, found, now, minute=minute))
        fields = (*tasks.MANIFEST, *(tasks.NAMES if rules.ask_names(self._settings) else ()))
        known = tasks.get_all(self._session, asked, fields, bounds=CALL) if asked else {}
        self.refusals = {name: one for name, one in self.refusals.items() if one.until > now}
        state = State(now, jobs, found, known, asked, refusals=self.refusals, home=cluster.home,
                      injections=cluster.injections, minute=minute)  # fmt: skip
        state = replace(state, doubtful_since=self._times_doubts(state))
        if wants_places(state, timedelta(seconds=self._settings.orphan_grace_seconds)):
            everything = queues.get_all(self._session, max_entries=_ALL_ENTRIES, bounds=CALL)
            state = replace(state, places=places_of(everything))
        return state

    def learn(self, state: State, plan: Plan) -> None:
        """Keep what saves requests in the next round."""
        self._settled = plan.settled
        ended = {task.id for task in state.tasks.values() if task.status in ENDED}
        ended |= state.asked - set(state.tasks)  # deleted: it never comes back under its id
        self._done &= plan.settled
        self._done |= {job.uid for job in state.jobs if job.uid in plan.settled and job.task in ended}
        self._unsettled = {job.uid: job for job in state.jobs if job.uid not in plan.settled}
        if plan.starved:
            self._extra = min(_MOST_EXTRA, max(MARGIN, self._extra * 2))
        else:
            self._extra = self._extra if plan.stuck else 0

    def _jobs(self, found: Iterable[JobFacts], now: datetime) -> tuple[JobFacts, ...]:
        """This instance's Jobs, and those that vanished before their tasks were settled, as `Deleted`."""
        instance = self._settings.instance
        jobs = tuple(job for job in found if job.labels.get(labels.CONTROLLER, instance) == instance)
        present = {job.uid for job in jobs}
        vanished = {uid: job for uid, job in self._unsettled.items() if uid not in present}
        for uid, (since, job) in list(self._claims_without_job.items()):
            if uid in present:
                del self._claims_without_job[uid]
            elif (now - since).total_seconds() >= _LOST_SECONDS:
                del self._claims_without_job[uid]
                vanished.setdefault(uid, job)
        return (*jobs, *(_vanished(job, now) for job in vanished.values()))

    def _look_for_lost(self, home: str, jobs: Iterable[JobFacts], now: datetime) -> None:
        """Claims by Jobs of ours that are gone: somebody deleted them while no controller ran."""
        present = {job.uid for job in jobs}
        for task in tasks.claimed(self._session, home, bounds=CALL).values():
            claim = task.claim
            if claim and claim.job_uid not in present:
                self._claims_without_job.setdefault(claim.job_uid, (now, _of_claim(task, claim)))

    def _limit(self, jobs: Iterable[JobFacts]) -> int:
        """Entries to read of each queue: those of Jobs that wait, those that there is room for, and some more."""
        living = [job for job in jobs if not job.over]
        most = self._settings.max_pods
        free = MAX_NEW_JOBS if most is None else max(0, min(MAX_NEW_JOBS, most - len(living)))
        return sum(1 for job in living if not job.running) + free + MARGIN + self._extra

    def _queues(self, limit: int, *, minute: bool) -> tuple[QueueFacts, ...]:
        """The settings' queues in one request: by their ids once all are known, else the listing of all.

        With a pattern among the keys it is always the listing of all: so a new queue is served from the next poll on.
        """
        keys = list(self._settings.queues)
        ids = [self._queue_ids[key] for key in keys if key in self._queue_ids]
        most = max(limit, _COUNTED) if minute else limit
        listing = queues.get_all(self._session, ids if len(ids) == len(keys) else (), max_entries=most, bounds=CALL)
        served = queue_names.served(keys, listing)
        self._queue_ids = {key: queue.id for key, queue in served if not queue_names.is_pattern(key)}
        self._see_to_missing(queue_names.without_queue(keys, listing))
        return tuple(self._facts(key, queue, limit, counted=minute) for key, queue in served)

    def _facts(self, key: str, queue: Queue, limit: int, *, counted: bool) -> QueueFacts:
        depth = len(queue.entries)
        if not counted and depth >= limit:
            depth = max(depth, self._depths.get(queue.id, 0))
        self._depths[queue.id] = depth
        complete = len(queue.entries) < limit
        key = "" if key == queue.name else key
        return QueueFacts(queue.name, queue.id, queue.entries[:limit], complete, depth, key)

    def _see_to_missing(self, keys: Mapping[str, str]) -> None:
        """Keys whose settings hold for no queue: made where that may be, else told once."""
        for key, why in keys.items():
            if why != queue_names.MISSING:
                if key not in self._missing:
                    log.warning("queue-without-effect queue=%r why=%r", key, why)
            elif self._settings.create_queues:
                self._create(key)
            elif key not in self._missing:
                log.warning("queue-missing queue=%r hint='create it, or set createQueueIfNotExists: true'", key)
        self._missing = set(keys)

    def _create(self, name: str) -> None:
        try:
            queues.create(self._session, name, bounds=CALL)
            log.info("queue-created queue=%r", name)
        except ApiError as error:
            if error.subcode != QUEUE_NAME_TAKEN:
                raise

    def _interesting(
        self, jobs: Iterable[JobFacts], found: Iterable[QueueFacts], now: datetime, *, minute: bool
    ) -> Iterable[str]:
        """Tasks of Jobs that are over and not settled, of living ones to which something may have happened, and the
        first entries that wait for a Job."""
        living = [job for job in jobs if not job.over]
        busy = {job.task for job in living}
        places: dict[str, list[Place]] = {}
        for queue in found:
            for entry in queue.entries:
                places.setdefault(entry.task, []).append(Place(queue.id, added_millis(entry.added)))
        for job in jobs:
            if not job.task or (job.over and job.uid in self._settled):
                continue
            if job.over or minute or self._suspicious(job, places, now):
                yield job.task
        self._said = {job.uid: waiting(job) for job in living}
        for queue in found:
            policy = self._settings.queues[queue.settings_key]
            mine = sum(1 for job in living if job.queue == queue.id)
            room = MAX_NEW_JOBS if policy.max_pods is None else max(0, policy.max_pods - mine)
            free = [entry.task for entry in queue.entries if entry.task not in busy]
            yield from free[: min(room, MAX_NEW_JOBS) + MARGIN + self._extra]

    def _suspicious(self, job: JobFacts, places: Mapping[str, list[Place]], now: datetime) -> bool:
        """Whether a living Job's task may have changed in a way that is ours to see to before the minute is over.

        One that waits in its place still is queued; one that runs is its pod's to watch.
        """
        waits = places.get(job.task)
        policy = queue_names.policy_of(self._settings, job.queue_name, job.queue)
        if not waits:
            if not job.running or untold(job, now) is not None:
                return True
            return worth_a_look(job, policy, now)
        if not own(job, waits) or waiting(job) != self._said.get(job.uid):
            return True
        return untold(job, now) is not None or overdue(job, policy, now) is not None

    def _times_doubts(self, state: State) -> dict[str, datetime]:
        by_uid = {job.uid: job for job in state.jobs}
        doubts: dict[str, tuple[object, datetime]] = {}
        for uid in in_doubt(state):
            mark = _mark(state.tasks.get(by_uid[uid].task))
            before = self._doubts.get(uid)
            doubts[uid] = before if before and before[0] == mark else (mark, state.now)
        self._doubts = doubts
        return {uid: since for uid, (_, since) in doubts.items()}


def _mark(task: Task | None) -> object:
    """Changes when somebody did something to the task: a doubt begins anew."""
    return task and (task.status, task.status_changed, task.claim)


def _of_claim(task: Task, claim: Claim) -> JobFacts:
    """All that is left of a Job: what its pod wrote on the task."""
    return JobFacts(
        name=claim.job,
        uid=claim.job_uid,
        labels={labels.TASK: task.id, labels.QUEUE: task.queue, labels.ATTEMPT: str(claim.attempt)},
    )


def _vanished(job: JobFacts, now: datetime) -> JobFacts:
    """A Job that somebody deleted: nothing of it acts any more."""
    if job.vanished:
        return job  # as of when it was missed
    end = JobEnd(succeeded=False, reason=VANISHED, message="the Job was deleted", at=now)
    return replace(job, end=end, pods=tuple(_gone(pod) for pod in job.pods))


def _gone(pod: PodFacts) -> PodFacts:
    return replace(pod, phase="Failed") if pod.may_act else pod
