"""What to do: a pure function from what is and the settings to a list of actions.

For each Job of ours, then for each queue entry:

    living   its task went elsewhere → stop it; runs → ping; waits → say why on the task
    over     its task needs an end → set it; is an orphan → back to its queue; needs nothing → settled
    entry    no living Job of its task and room → make a Job; the last one failed before it began → fail the task

Nothing is remembered between rounds except what only saves requests or times a grace (`State.doubtful_since`): a
round on the same facts gives the same actions, whoever was killed before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from controller import job_template
from controller.actions import (
    Action,
    DeleteJob,
    Tell,
)
from controller.plan_jobs import SETTLED, doubtful, over
from controller.plan_living import last_word, living, perhaps_moved
from controller.plan_queues import Filling, Render
from controller.plan_view import View
from controller.reasons import Reason
from controller.settings import Settings
from controller.state import State

MAX_TELLINGS = 20
"""Reasons told in one round: the others follow in the next, so that what matters more is not late."""


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
    held: Mapping[tuple[str, Reason], int] = field(default_factory=dict)
    """How many entries of a queue, by its name, get no Job as things are, and why."""
    tellings: tuple[Tell, ...] = ()
    """What is only told, after everything that is done."""


def plan(state: State, settings: Settings, render: Render = job_template.render) -> Plan:
    """Decide; pure."""
    view = View(state, settings)
    actions: list[Action] = []
    tellings: list[Tell] = []
    settled: set[str] = set()
    for job in state.jobs:
        if not job.over:
            for one in living(view, job):
                if isinstance(one, Tell):
                    tellings.append(one)
                else:
                    actions.append(one)
            continue
        if note := last_word(job, state.now):
            tellings.append(Tell(job.task, job, note, console=False))
        if (action := over(view, job)) is SETTLED:
            settled.add(job.uid)
            if job.stopped and not job.vanished:
                actions.append(DeleteJob(job.task, job, "stopped, settled"))
        elif action is not None:
            actions.append(action)
    filling = Filling(view, render)
    actions += filling.run()
    return Plan(
        tuple(actions),
        frozenset(settled),
        filling.waiting,
        filling.stuck,
        filling.starved,
        filling.held,
        tuple(tellings[:MAX_TELLINGS]),
    )


def in_doubt(state: State) -> frozenset[str]:
    """Jobs that are over while their task, as far as read, runs nowhere and waits nowhere: perhaps an orphan.

    The caller times how long this lasts without a break (`State.doubtful_since`).
    """
    view = View(state, None)
    return frozenset(job.uid for job in state.jobs if job.over and doubtful(view, job))


def wants_places(state: State, grace: timedelta) -> bool:
    """Whether deciding needs the listing of all entries of all queues: an orphan's grace is over, or a task moved."""
    view = View(state, None)
    if any(state.now - since >= grace for since in state.doubtful_since.values()):
        return True
    if not state.minute:
        return False
    return bool(state.doubtful_since) or any(perhaps_moved(view, job) for job in state.jobs if not job.over)
