"""Read, plan, act: one round after the other, whatever fails.

An action that fails stops that action alone; a server or a cluster that does not answer ends the round. Nothing is
undone and nothing is destroyed: the next round reads what is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from clearml_api.errors import ApiUnreachable, LoginRefused, NotAnApi
from clearml_api.session import Session
from controller import job_template
from controller.acting import perform
from controller.actions import Action, CreateJob, FailQueued
from controller.cluster.interface import Cluster, Refused
from controller.observer import NOBODY, Observer
from controller.plan import Plan, plan
from controller.plan_queues import Render
from controller.reading import Reader
from controller.settings import Settings
from controller.state import Refusal, State
from protocol.errors import PodstrapError

log = logging.getLogger("podstrap.controller")

_REFUSED_SECONDS = 30.0
_OUTAGE = (ApiUnreachable, NotAnApi, LoginRefused)


@dataclass(frozen=True)
class Round:
    """What a round saw and did."""

    acted: int = 0
    """Actions performed or tried."""
    created: int = 0
    """Jobs made."""
    refused: int = 0
    """Jobs that the cluster did not take: put aside for a while, so the next round has their room for others."""
    living: int = 0
    unsettled: int = 0
    """Jobs that are over, their tasks not yet settled."""
    waiting: int = 0
    stuck: int = 0
    namespaces: frozenset[str] = frozenset()
    """Where there are Jobs."""

    @property
    def drained(self) -> bool:
        """Nothing runs, nothing waits, nothing is to be set."""
        return not (self.acted or self.living or self.unsettled or self.waiting)


@dataclass
class Loop:
    """The controller without its clock: `round` is one turn."""

    settings: Settings
    session: Session
    cluster: Cluster
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    monotonic: Callable[[], float] = time.monotonic
    render: Render = job_template.render
    may_act: Callable[[], bool] = lambda: True
    """Asked before each action: false ends the round, the rest is left to whoever may."""
    failed: set[str] = field(default_factory=set)
    """Tasks that ended failed while this controller saw to them."""
    observer: Observer = NOBODY

    def __post_init__(self) -> None:
        self._reader = Reader(self.settings, self.session, self.cluster)
        self._minute_at = float("-inf")
        self._complaints: dict[str, str] = {}
        self._watched: set[str] = set()

    def take(self, settings: Settings) -> None:
        """Go on under other settings from the next round on."""
        self.settings = settings
        self._reader.take(settings)

    def round(self) -> Round:
        """One turn. Raises PodstrapError when the server or the cluster does not answer: then try again later."""
        minute = self.monotonic() - self._minute_at >= self.settings.reconcile_seconds
        state = self._reader.read(self.now(), minute=minute)
        decided = plan(state, self.settings, self.render)
        self._reader.learn(state, decided)
        self._count_failed(state, decided)
        self.observer.decided(state, self.settings, decided)
        created, put_aside = 0, len(self._reader.refusals)
        for action in decided.actions:
            if not self.may_act():
                break
            created += self._try(action) and isinstance(action, CreateJob)
        refused = len(self._reader.refusals) - put_aside
        for telling in decided.tellings:
            if not self.may_act():
                break
            self._try(telling)
        if minute:
            self._minute_at = self.monotonic()
        living = sum(1 for job in state.jobs if not job.over)
        unsettled = len(state.jobs) - living - len(decided.settled)
        where = frozenset(job.namespace for job in state.jobs if job.namespace and not job.vanished)
        return Round(len(decided.actions), created, refused, living, unsettled, decided.waiting, decided.stuck, where)

    def _try(self, action: Action) -> bool:
        """Whether it was done."""
        key = f"{type(action).__name__} {action.task}"
        result = "failed"
        try:
            perform(action, self.session, self.cluster)
            self._complaints.pop(key, None)
            result = "done"
            return True
        except _OUTAGE:
            raise
        except Refused as error:
            result = "refused"
            if isinstance(action, CreateJob):
                until = self.now() + timedelta(seconds=_REFUSED_SECONDS)
                self._reader.refusals[action.name] = Refusal(str(error), until)
            self._complain(key, action, error)
        except PodstrapError as error:
            self._complain(key, action, error)
        finally:
            self.observer.acted(action, result)
        return False

    def _complain(self, key: str, action: Action, error: PodstrapError) -> None:
        """One line, again only when the words change."""
        text = str(error)
        if self._complaints.get(key) != text:
            log.warning("action-failed action=%s task=%s error=%r", type(action).__name__, action.task, text)
        self._complaints[key] = text

    def _count_failed(self, state: State, decided: Plan) -> None:
        for job in state.jobs:
            if not job.over:
                self._watched.add(job.uid)
            task = state.tasks.get(job.task)
            if job.uid in decided.settled and job.uid in self._watched and task:
                self._watched.discard(job.uid)
                if task.status == "failed":
                    self.failed.add(task.id)
        self.failed.update(action.task for action in decided.actions if isinstance(action, FailQueued))
