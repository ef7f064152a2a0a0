"""What each queue entry needs: a Job while there is room, a reason why it waits, or its end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from clearml_api.models import QueueEntry, Task
from controller import injection
from controller.actions import (
    Action,
    CreateJob,
    FailQueued,
    SetMessage,
)
from controller.diagnosis import diagnose
from controller.patience import most_attempts, not_before
from controller.plan_view import NEVER_BEGAN, View, attempt_line, say, with_history
from controller.reasons import Cause, Diagnosis, Reason
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.state import IMAGE_VOLUME, JobFacts, QueueFacts
from protocol.claim import Claim
from protocol.errors import PodstrapError
from protocol.names import job_name

log = logging.getLogger("podstrap.controller")

REFUSED = "waiting: the cluster refuses its Job"
"""What the message of such a task begins with."""
MAX_NEW_JOBS = 100
"""Jobs made in one round: the rest waits for the next, which follows at once."""


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
        home: str = "",
        injections: tuple[str, ...] = (),
        refused: str = "",
    ) -> dict[str, Any]: ...


@dataclass
class Filling:
    """Makes Jobs for entries, queue by queue in the settings' order, while there is room."""

    view: View
    render: Render
    waiting: int = 0
    stuck: int = 0
    starved: bool = False
    held: Counter[tuple[str, Reason]] = field(default_factory=Counter)
    _room: int = 0
    _taken: set[str] = field(default_factory=set)

    def run(self) -> Iterator[Action]:
        state, settings = self.view.state, self.view.settings
        living = [job for job in state.jobs if not job.over]
        self._room = min(MAX_NEW_JOBS, _left(settings.max_pods, len(living)))
        facts: dict[str, list[QueueFacts]] = {}
        for queue in state.queues:
            facts.setdefault(queue.settings_key, []).append(queue)
        for key, policy in settings.queues.items():
            for queue in facts.get(key, ()):
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
                yield from self._hold(queue, task, _no_room(queue.name, policy, full=room <= 0))
                continue
            for action in self._entry(queue, policy, entry, task):
                yield action
                if isinstance(action, CreateJob):
                    made, room, self._room = True, room - 1, self._room - 1
        self.starved = self.starved or (not queue.complete and not made and min(room, self._room) > 0)

    def _hold(self, queue: QueueFacts, task: Task, why: Diagnosis, *, console: bool = False) -> Iterator[SetMessage]:
        """It gets no Job as things are."""
        self.held[queue.name, why.word] += 1
        yield from say(task, why, console=console)

    def _entry(self, queue: QueueFacts, policy: QueueSettings, entry: QueueEntry, task: Task) -> Iterator[Action]:
        past = sorted(
            (job for job in self.view.jobs.get(entry.task, ()) if job.is_for(entry)), key=lambda job: job.attempt
        )
        falls_back = injection.falls_back(self.view.settings, policy)
        attempt, history, failure = next_attempt(task, past, policy, falls_back=falls_back)
        refused = next((why for job in past if (why := injection.refused(job))), "")
        injections = tuple(one for one in self.view.state.injections if not (refused and one == IMAGE_VOLUME))
        if failure is not None and (over := self.view.jobs.get(entry.task)):
            self._taken.add(entry.task)
            job, reason = past[-1] if past else over[-1], with_history(failure.reason, history)
            yield FailQueued(entry.task, job, queue.id, reason, failure.wants_log, task.claim)
            return
        if pause := pausing(task, entry, past, policy, self.view.state.now, attempt=attempt, history=history,
                           falls_back=falls_back):  # fmt: skip
            self.waiting += 1
            yield from self._hold(queue, task, Diagnosis(Reason.RETRY_BACKOFF, f"waiting: {pause}"), console=True)
            return
        name = job_name(entry.task, entry.added, attempt, self.view.settings.pod_name_prefix)
        refusal = self.view.state.refusals.get(name)
        if refusal and refusal.until > self.view.state.now:
            self.waiting += 1
            text = f"{REFUSED}: {refusal.reason}"
            yield from self._hold(queue, task, Diagnosis(Reason.JOB_REFUSED, text), console=True)
            return
        try:
            manifest = self.render(
                task, queue_id=queue.id, queue_name=queue.name, added=entry.added, attempt=attempt,
                settings=self.view.settings, queue=policy, now=self.view.state.now, history=history,
                home=self.view.state.home, injections=injections, refused=refused,
            )  # fmt: skip
        except PodstrapError as error:
            self.stuck += 1
            text = f"waiting: its Job cannot be made: {error}"
            yield from self._hold(queue, task, Diagnosis(Reason.TEMPLATE_INVALID, text), console=True)
            return
        except Exception as error:  # the task's text is untrusted: what it breaks stops this task alone
            log.exception("render-bug task=%s queue=%s", entry.task, queue.name)
            self.stuck += 1
            text = f"waiting: its Job cannot be made: {type(error).__name__}: {error}"
            yield from self._hold(queue, task, Diagnosis(Reason.TEMPLATE_INVALID, text), console=True)
            return
        self._taken.add(entry.task)
        self.waiting += 1
        yield CreateJob(entry.task, queue.id, str(manifest["metadata"]["name"]), attempt, manifest)


def pausing(
    task: Task, entry: QueueEntry, past: Sequence[JobFacts], policy: QueueSettings, now: datetime, *, attempt: int,
    history: Sequence[str], falls_back: bool,
) -> str:  # fmt: skip
    """Until when an entry waits after its last attempt, and why; empty when it does not. Of what next_attempt says."""
    if falls_back and past and injection.refused(past[-1]):
        return ""  # nothing has failed: the next pod is brought podstrap another way
    begins = not_before(entry, attempt, past, policy)
    if begins is None or begins <= now:
        return ""
    why = f" after {history[-1]}" if history else ""
    most = most_attempts(_counting(task), policy)
    return f"attempt {attempt} of {most} begins at {begins:%H:%M:%S} UTC{why}"


def next_attempt(
    task: Task, past: Sequence[JobFacts], policy: QueueSettings, *, falls_back: bool
) -> tuple[int, tuple[str, ...], Diagnosis | None]:
    """The attempt of the next Job for an entry, the history before it, and why there is none.

    An attempt whose image volume was refused began nothing: it is none of `maxAttempts`.
    """
    claim = _counting(task)
    history = claim.history if claim else ()
    most = most_attempts(claim, policy)
    if not past:
        attempt = claim.next_attempt() if claim else 1
        if attempt > most:
            none_left = f"no attempt left (maxAttempts {policy.max_attempts})"
            return attempt, history, Diagnosis(Reason.NO_ATTEMPT_LEFT, none_left)
        return attempt, history, None
    ends = [diagnose(job) for job in past]
    found = ends[-1]
    history = (*history, *(attempt_line(job.attempt, end) for job, end in zip(past, ends, strict=True)))
    attempt = past[-1].attempt + 1
    refused = sum(1 for job in past if injection.refused(job))
    if injection.refused(past[-1]) and falls_back:
        return attempt, history, None
    if found.cause in (Cause.TASK, Cause.CONFIG):
        return attempt, history[:-1], replace(found, reason=f"{NEVER_BEGAN}: {found.reason}")
    if attempt - refused > most:
        reason = f"{NEVER_BEGAN} in {past[-1].attempt} attempts (maxAttempts): {found.reason}"
        return attempt, history, replace(found, reason=reason)
    return attempt, history, None


def _counting(task: Task) -> Claim | None:
    """The claim that the next attempt goes on counting from; None when it begins anew."""
    return task.claim if task.claim and task.claim.requeued else None


def _left(limit: int | None, used: int) -> int:
    return MAX_NEW_JOBS if limit is None else max(0, limit - used)


def _no_room(name: str, policy: QueueSettings, *, full: bool) -> Diagnosis:
    if policy.paused:
        return Diagnosis(Reason.QUEUE_PAUSED, f"waiting: queue {name} is paused")
    if full:
        text = f"waiting: queue {name} runs as many pods as it may (maxPods {policy.max_pods})"
        return Diagnosis(Reason.QUEUE_FULL, text)
    return Diagnosis(Reason.ALL_FULL, "waiting: as many pods run as may over all queues (maxPods)")
