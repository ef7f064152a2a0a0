"""plan(): what is → what to do, case by case. The combinations are test_plan_machine.py's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from clearml_api.models import QueueEntry, Task
from controller.actions import (
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
from controller.plan import Plan, plan
from controller.reasons import Reason
from controller.settings import Settings
from controller.settings_queue import QueueLimits, QueueSettings
from controller.state import JobEnd, JobFacts, Place, PodFacts, QueueFacts, Refusal, State
from protocol import labels
from protocol.claim import RUNTIME_KEY, Claim
from protocol.errors import PodstrapError
from protocol.names import added_millis, job_name
from protocol.termination import Outcome, TerminationMessage
from tests.controller.test_plan_machine import render

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
ADDED = NOW - timedelta(minutes=5)
FAILED = JobEnd(succeeded=False, reason="PodFailurePolicy")
COMPLETE = JobEnd(succeeded=True, reason="Complete")


def job(task: str = "a", *, uid: str = "u1", added: datetime = ADDED, attempt: int = 1, **more: Any) -> JobFacts:
    found = {
        labels.TASK: task,
        labels.QUEUE: more.pop("queue", "q1"),
        labels.ADDED: str(added_millis(added)),
        labels.ATTEMPT: str(attempt),
    }
    pods = more.pop("pods", (pod(),))
    return JobFacts(job_name(task, added, attempt), uid, labels=found, pods=pods, **more)


def pod(**more: Any) -> PodFacts:
    outcome = more.pop("said", None)
    text = TerminationMessage(outcome, "a", reason=more.pop("why", "")).to_text() if outcome else ""
    return PodFacts("p", "p", **{"phase": "Running", "termination": text, **more})


def ended(code: int = 137, **more: Any) -> PodFacts:
    return pod(phase="Failed" if code else "Succeeded", exit_code=code, **more)


def task(name: str = "a", status: str = "queued", claim: Claim | None = None, **more: Any) -> Task:
    return Task(name, status=status, runtime={RUNTIME_KEY: claim.to_text()} if claim else {}, **more)


def state(*tasks: Task, jobs: tuple[JobFacts, ...] = (), q1: str = "", q2: str = "", **more: Any) -> State:
    queues = tuple(
        QueueFacts(name, qid, tuple(QueueEntry(one, ADDED) for one in names), more.pop(f"{qid}_complete", True))
        for name, qid, names in (("one", "q1", q1), ("two", "q2", q2))
    )
    known = {one.id: one for one in tasks}
    asked = frozenset({*known, *q1, *q2, *(one.task for one in jobs)})
    return State(NOW, jobs, queues, known, asked, **more)


def settings(q1: Any = None, q2: Any = None, **more: Any) -> Settings:
    queues = {"one": q1 or QueueSettings(), "two": q2 or QueueSettings()}
    return Settings(queues=queues, orphan_grace_seconds=30, **more)


def at_most(pods: int) -> QueueSettings:
    return QueueSettings(queue_settings=QueueLimits(max_pods=pods))


def decide(state: State, limits: Settings | None = None, render: Any = render) -> Plan:
    """What is done; what is told stands in test_telling.py."""
    return replace(plan(state, limits or settings(), render), tellings=())


def created(found: Plan) -> list[tuple[str, int]]:
    return [(one.task, one.attempt) for one in found.actions if isinstance(one, CreateJob)]


def doubted(facts: State, seconds: float = 31, places: Any = None) -> State:
    since = {one.uid: NOW - timedelta(seconds=seconds) for one in facts.jobs}
    return replace(facts, doubtful_since=since, places=places if places is not None else {})


HELD = Claim("u1", 1, "p")


# Queue entries


def test_queues_in_the_settings_order_entries_in_the_queues_order_within_the_limits() -> None:
    facts = state(*(task(name) for name in "abcdef"), q1="fed", q2="cba")
    assert created(decide(facts)) == [(name, 1) for name in "fedcba"]
    limited = settings(at_most(2), max_pods=3)
    assert created(decide(facts, limited)) == [("f", 1), ("e", 1), ("c", 1)]


def test_capacity_is_counted_from_the_jobs_that_live() -> None:
    jobs = (
        job("x", uid="1"),
        job("y", uid="2", end=COMPLETE, pods=(ended(0),)),
        job("z", uid="3", end=COMPLETE, pods=(pod(),)),
    )
    tasks = [task(name, "in_progress", Claim(uid, 1, "p")) for name, uid in (("x", "1"), ("y", "2"), ("z", "3"))]
    facts = state(*tasks, task("a"), task("b"), jobs=jobs, q1="ab")
    assert created(decide(facts, settings(at_most(3)))) == [("a", 1)]


def test_task_that_finds_no_room_says_so_once() -> None:
    facts = state(task("a"), task("b"), q1="ab")
    limited = settings(at_most(1))
    (message,) = [one for one in decide(facts, limited).actions if isinstance(one, SetMessage)]
    assert message.task == "b" and "maxPods 1" in message.message
    again = state(task("a"), task("b", status_message=message.message), q1="ab")
    assert not [one for one in decide(again, limited).actions if isinstance(one, SetMessage)]


def test_paused_queue_gets_no_job() -> None:
    found = decide(state(task("a"), q1="a"), settings(QueueSettings(paused=True)))
    assert [type(one) for one in found.actions] == [SetMessage] and found.waiting == 0


def test_template_that_does_not_render_stops_its_task_alone() -> None:
    def picky(one: Task, **more: Any) -> dict[str, Any]:
        if one.id == "a":
            raise PodstrapError("docker argument --privileged is not allowed")
        if one.id == "b":
            raise KeyError("a bug")
        return render(one, **more)

    found = decide(state(*(task(name) for name in "abc"), q1="abc"), settings(at_most(1)), picky)
    assert created(found) == [("c", 1)] and found.stuck == 2
    messages = {one.task: one.message for one in found.actions if isinstance(one, SetMessage)}
    assert "--privileged is not allowed" in messages["a"] and "a bug" in messages["b"]


def test_job_that_the_cluster_refuses_waits_and_others_go_on() -> None:
    refusals = {job_name("a", ADDED, 1): Refusal("over quota", NOW + timedelta(seconds=9))}
    found = decide(state(task("a"), task("b"), q1="ab", refusals=refusals), settings(max_pods=1))
    assert created(found) == [("b", 1)]
    assert found.actions[0] == SetMessage(
        "a", "waiting: the cluster refuses its Job: over quota", Reason.JOB_REFUSED, console=True
    )


@pytest.mark.parametrize("status", ["created", "in_progress", "stopped", "completed", None])
def test_left_over_entry_gets_no_job_and_starves_nobody(status: str | None) -> None:
    tasks = [task("b"), *([task("a", status)] if status else [])]
    assert created(decide(state(*tasks, q1="ab"))) == [("b", 1)]


def test_queue_whose_read_entries_cannot_run_is_read_further() -> None:
    assert decide(state(task("a", "completed"), q1="a", q1_complete=False)).starved
    assert not decide(state(task("a"), q1="a", q1_complete=False)).starved


def test_entry_waits_while_any_job_of_its_task_lives() -> None:
    older = job(added=ADDED - timedelta(hours=1), stopped=True)
    assert created(decide(state(task(), jobs=(older,), q1="a"))) == []


# Attempts


def test_requeued_claim_goes_on_counting_another_does_not() -> None:
    assert created(decide(state(task(claim=Claim("gone", 2, "p", requeued=True)), q1="a"))) == [("a", 3)]
    assert created(decide(state(task(claim=Claim("gone", 2, "p")), q1="a"))) == [("a", 1)]


def test_job_that_ended_before_its_claim_by_the_infrastructure_gets_the_next_attempt() -> None:
    lost = job(attempt=2, end=FAILED, pods=(ended(signal=9),))
    assert created(decide(state(task(), jobs=(lost,), q1="a"))) == [("a", 3)]


def test_beyond_max_attempts_the_task_fails_with_its_history() -> None:
    lost = job(attempt=3, end=FAILED, pods=(ended(signal=9),))
    claim = Claim("gone", 2, "p", requeued=True, history=("attempt 2: node lost",))
    (action,) = decide(state(task(claim=claim), jobs=(lost,), q1="a")).actions
    assert isinstance(action, FailQueued) and action.queue == "q1"
    assert "3 attempts" in action.reason and "attempt 2: node lost" in action.reason


def test_job_that_could_not_begin_fails_its_task() -> None:
    never = job(end=FAILED, pods=(ended(128, reason="StartError", message="no such file"),))
    (action,) = decide(state(task(), jobs=(never,), q1="a")).actions
    assert isinstance(action, FailQueued)
    assert action.reason.startswith("failed before it began: ") and "no such file" in action.reason


# Living Jobs

ELSEWHERE = {
    "stopped": task(status="stopped"),
    "created": task(status="created"),
    "runs elsewhere": task(status="in_progress", claim=Claim("other", 1, "p")),
    "another agent's": task(status="in_progress"),
    "aborted between two pods": task(status="in_progress", claim=Claim("u1", 1, "earlier"), status_message="stopping"),
    "stopped between two pods": task(status="stopped", claim=Claim("u1", 1, "earlier")),
    "deleted": None,
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_pending_job_whose_task_is_gone_is_stopped_and_a_running_one_sees_for_itself(name: str) -> None:
    tasks = [one for one in (ELSEWHERE[name],) if one]
    (action,) = decide(state(*tasks, jobs=(job(pods=(pod(phase="Pending"),)),))).actions
    assert isinstance(action, StopJob)
    assert decide(state(*tasks, jobs=(job(),))).actions == ()


@pytest.mark.parametrize("status", ["in_progress", "completed", "failed", "stopped"])
def test_pod_that_claimed_before_its_kubelet_said_so_ends_by_itself(status: str) -> None:
    """A quick task has failed while its pod still counts as pending: stopping the Job would take the pod's log away."""
    waiting = job(pods=(pod(phase="Pending"),))
    assert decide(state(task(status=status, claim=HELD), jobs=(waiting,))).actions == ()


def test_job_whose_last_pod_has_ended_is_left_to_end_by_itself() -> None:
    """The pod's end is seen before the Job's: stopped now, its record would be gone in a moment."""
    left = job(pods=(ended(0, said=Outcome.CLAIM_LOST),))
    assert decide(state(task(status="created"), jobs=(left,))).actions == ()
    between = job(pods=(ended(75, said=Outcome.DISRUPTED),))
    assert [type(one) for one in decide(state(task(status="created"), jobs=(between,))).actions] == [StopJob]


def test_new_entry_supersedes_a_running_job() -> None:
    older = job(added=ADDED - timedelta(hours=1))
    (action,) = decide(state(task(), jobs=(older,), q1="a")).actions
    assert isinstance(action, StopJob) and "superseded" in action.why


def test_stopped_job_is_not_stopped_again_and_goes_when_its_task_is_settled() -> None:
    living = job(stopped=True)
    assert decide(state(task(status="stopped"), jobs=(living,))).actions == ()
    over = job(stopped=True, pods=(ended(75),))
    found = decide(state(task(status="stopped"), jobs=(over,)))
    assert [type(one) for one in found.actions] == [DeleteJob] and found.settled == {"u1"}


def test_pod_between_queue_and_claim_is_left_alone() -> None:
    assert decide(state(task(), jobs=(job(),))).actions == ()
    assert decide(state(task(claim=HELD), jobs=(job(),))).actions == ()


def test_task_moved_to_a_foreign_queue_takes_its_pending_job_with_it() -> None:
    pending = job(pods=(pod(phase="Pending"),))
    facts = state(task(), jobs=(pending,), minute=True, places={"a": (Place("foreign", 9),)})
    assert [type(one) for one in decide(facts).actions] == [StopJob]
    beyond = state(task(), jobs=(pending,), minute=True, places={"a": (Place("q1", added_millis(ADDED)),)})
    assert decide(beyond).actions == ()


def test_running_task_is_pinged_once_a_minute() -> None:
    facts = state(task(status="in_progress", claim=HELD), jobs=(job(),))
    assert decide(facts).actions == ()
    assert decide(replace(facts, minute=True)).actions == (Ping("a"),)


def test_pod_that_cannot_be_scheduled_says_so_on_its_task() -> None:
    pending = job(pods=(pod(phase="Pending", waiting_reason="Unschedulable", waiting_message="0/3 nodes"),))
    assert decide(state(task(), jobs=(pending,), q1="a")).actions == (
        SetMessage("a", "waiting: unschedulable: 0/3 nodes", Reason.UNSCHEDULABLE),
    )


# Jobs that are over

OUTCOMES = {
    "completed": (ended(0, said=Outcome.COMPLETED), "completed"),
    "failed": (ended(3, said=Outcome.FAILED, why="exit code 3"), "failed"),
    "stopped": (ended(0, said=Outcome.STOPPED), "stopped"),
    "out of memory": (ended(reason="OOMKilled", memory_limit="1Gi", said=Outcome.RUNNING), "failed"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_end_that_the_pod_could_not_report_is_set_at_once(name: str) -> None:
    last, status = OUTCOMES[name]
    (action,) = decide(state(task(status="in_progress", claim=HELD), jobs=(job(end=FAILED, pods=(last,)),))).actions
    assert isinstance(action, FinishTask) and action.status == status
    if name == "out of memory":
        assert action.reason == "OOMKilled: limit 1Gi"


KILLED = job(end=FAILED, pods=(ended(signal=9, said=Outcome.RUNNING),))


def test_killed_pod_is_an_orphan_only_after_the_grace_and_only_in_no_queue() -> None:
    facts = state(task(status="in_progress", claim=HELD), jobs=(KILLED,))
    assert decide(facts) == Plan()
    assert decide(doubted(facts, 29)).actions == ()
    assert decide(replace(doubted(facts), places=None)).actions == ()
    (action,) = decide(doubted(facts)).actions
    assert isinstance(action, Requeue) and action.queue == "q1"
    assert action.claim.requeued and "SIGKILL" in action.claim.history[0]
    assert action.seen == HELD and action.status == "in_progress"


def test_disruption_fails_where_the_queue_says_so_or_no_attempt_is_left() -> None:
    facts = doubted(state(task(status="in_progress", claim=HELD), jobs=(KILLED,)))
    (action,) = decide(facts, settings(QueueSettings(on_disruption="fail"))).actions
    assert isinstance(action, FinishTask) and "onDisruption: fail" in action.reason
    last = replace(HELD, attempt=3, history=("attempt 1: evicted",))
    (action,) = decide(doubted(state(task(status="in_progress", claim=last), jobs=(KILLED,)))).actions
    assert isinstance(action, FinishTask) and action.status == "failed"
    assert "attempt 3 was the last" in action.reason and "attempt 1: evicted" in action.reason


def test_abort_that_nobody_could_answer_ends_as_stopped() -> None:
    facts = state(task(status="in_progress", claim=HELD, status_message="stopping"), jobs=(KILLED,))
    (action,) = decide(facts).actions
    assert isinstance(action, FinishTask) and action.status == "stopped"


@pytest.mark.parametrize("claim", [None, Claim("stale", 2, "p")])
def test_pod_that_died_between_queue_and_claim_leaves_an_orphan(claim: Claim | None) -> None:
    (action,) = decide(doubted(state(task(claim=claim), jobs=(KILLED,)))).actions
    assert isinstance(action, Requeue) and action.claim.requeued
    assert (action.claim.job_uid, action.claim.attempt, action.seen) == ("u1", 1, claim)


def test_requeue_that_was_cut_after_the_mark_goes_on() -> None:
    marked = replace(HELD, requeued=True, history=("attempt 1: x",))
    for status in ("queued", "in_progress"):
        (action,) = decide(doubted(state(task(status=status, claim=marked), jobs=(KILLED,)))).actions
        assert isinstance(action, Requeue) and action.claim == marked


def test_failing_that_was_cut_after_leaving_the_queue_goes_on() -> None:
    never = job(end=FAILED, pods=(ended(128, reason="StartError"),))
    (action,) = decide(doubted(state(task(), jobs=(never,)))).actions
    assert isinstance(action, FailQueued) and action.queue == ""


@pytest.mark.parametrize(
    "one",
    [
        task(status="completed", claim=HELD),
        task(status="in_progress", claim=Claim("other", 1, "p")),
        task(status="in_progress"),
        task(status="created"),
    ],
)
def test_job_whose_task_needs_nothing_is_settled(one: Task) -> None:
    found = decide(doubted(state(one, jobs=(KILLED,))))
    assert found.actions == () and found.settled == {"u1"}


def test_queued_task_of_a_living_later_job_is_no_orphan() -> None:
    later = job(uid="u2", added=ADDED + timedelta(minutes=1))
    assert decide(doubted(state(task(), jobs=(KILLED, later)))).actions == ()


def test_start_that_came_after_a_reset_does_not_keep_the_task_from_running() -> None:
    """tasks.started of a pod whose task was reset and enqueued again in the same instant: in_progress, yet queued."""
    facts = state(task(status="in_progress"), jobs=(KILLED,), q1="a")
    assert decide(facts).actions == ()
    (action,) = decide(doubted(facts)).actions
    assert isinstance(action, Requeue) and action.leave == "q1"
    assert action.claim.requeued and action.claim.next_attempt() == 1


def test_entry_that_an_ended_task_left_behind_is_removed() -> None:
    one = task(status="completed", claim=HELD, status_changed=NOW)
    over = job(end=COMPLETE, pods=(ended(0, said=Outcome.COMPLETED),))
    assert decide(state(one, jobs=(over,), q1="a")).actions == (RemoveEntry("a", "q1"),)
    again = replace(one, status_changed=ADDED - timedelta(seconds=1))
    assert decide(state(again, jobs=(over,), q1="a")).actions == ()


def test_old_claim_does_not_take_a_task_from_the_agent_that_runs_it_now() -> None:
    """Failed by us, enqueued again without a reset in a queue of clearml-agent: the runtime still has our claim."""
    over = job(end=FAILED, pods=(ended(3, said=Outcome.FAILED, finished=NOW - timedelta(minutes=9)),))
    theirs = task(status="in_progress", claim=HELD, last_worker="host:agent:0", status_changed=NOW)
    assert decide(state(theirs, jobs=(over,))) == Plan(settled=frozenset({"u1"}))
    ours = replace(theirs, last_worker="podstrap:p")
    assert [type(one) for one in decide(state(ours, jobs=(over,))).actions] == [FinishTask]
