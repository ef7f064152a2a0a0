"""A Job that is given up, a task that is tried again, a node that is lost: what is done, step by step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.actions import Action, CreateJob, FailQueued, Fence, FinishTask, GiveUp, Requeue, SetMessage, StopJob
from controller.notes import Note, StopMark
from controller.permissions import manifests
from controller.plan import plan
from controller.plan_lost import FENCE
from controller.reasons import Reason
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.state import JobEnd, JobFacts, PodFacts
from controller.waiting import UNCONFIRMED
from protocol import labels
from protocol.claim import Claim
from protocol.termination import Outcome
from tests.controller.test_plan import FAILED, HELD, NOW, ended, job, pod, settings, state, task
from tests.controller.test_plan_machine import render

HOUR = timedelta(hours=1)
IMPATIENT = QueueSettings(pending_timeout_seconds=60)


def do(*jobs: JobFacts, one: Any = None, queue: QueueSettings | None = None, q1: str = "") -> tuple[Action, ...]:
    return plan(state(one or task(), jobs=jobs, q1=q1), settings(queue), render).actions


def waits(**more: Any) -> JobFacts:
    one = PodFacts("p", "p", created=NOW - HOUR, waiting_reason="Unschedulable", waiting_message="0/3 nodes")
    return job(pods=(one,), created=NOW - HOUR, **more)


def stopped(mark: StopMark, *pods: PodFacts) -> JobFacts:
    return job(pods=pods, stopped=True, annotations={labels.STOPPED_BECAUSE: mark.to_text()})


MARK = StopMark(
    Reason.PENDING_TIMEOUT, "not started within 60 s (pendingTimeoutSeconds): unschedulable: 0/3 nodes", "p", at=NOW
)


def test_a_job_that_is_given_up_is_stopped_with_the_reason() -> None:
    (stop,) = do(waits(), queue=IMPATIENT, q1="a")
    assert isinstance(stop, StopJob) and stop.mark == MARK


def test_its_task_fails_with_it_whether_the_pod_is_still_known_or_not() -> None:
    gone = PodFacts("p", "p", phase="Failed", exit_code=137, reason="ContainerStatusUnknown")
    for pods in ((), (gone,)):
        (fail,) = do(stopped(MARK, *pods), q1="a")
        assert isinstance(fail, FailQueued)
        assert fail.reason.startswith(f"failed before it began: {MARK.reason}")


def test_a_second_pod_that_does_not_start_is_given_up_too_and_the_running_task_fails() -> None:
    first = replace(ended(75, said=Outcome.DISRUPTED), name="first")
    second = replace(waits().pods[0], name="second", uid="second")
    claim = replace(HELD, pod="first")
    running = task(status="in_progress", claim=claim)
    (stop,) = do(job(pods=(first, second)), one=running, queue=IMPATIENT)
    assert isinstance(stop, StopJob) and stop.mark and stop.mark.holder == "first"
    for known in ((first, replace(second, phase="Failed")), (first,), ()):  # a new controller knows fewer pods
        (fail,) = do(stopped(stop.mark, *known), one=running, queue=IMPATIENT)
        assert isinstance(fail, FinishTask) and fail.reason.startswith("not started within 60 s")


def test_a_pod_that_claimed_in_that_very_moment_makes_it_a_disruption() -> None:
    """The claim is the second pod's now: it began after all, and ended because its Job was stopped."""
    mark = replace(MARK, holder="first")
    running = task(status="in_progress", claim=replace(HELD, pod="second"))
    facts = replace(state(running, jobs=(stopped(mark),)), places={}, doubtful_since={"u1": NOW - HOUR})
    (again,) = plan(facts, settings(), render).actions
    assert isinstance(again, Requeue) and again.claim.requeued and again.claim.failures == 0


def test_a_registry_that_did_not_answer_gives_another_attempt_and_an_absent_image_does_not() -> None:
    away = StopMark(Reason.IMAGE_PULL_FAILED, "the image cannot be pulled (ErrImagePull): i/o timeout")
    for ago, kind in ((timedelta(seconds=9), SetMessage), (timedelta(seconds=11), CreateJob)):
        (again,) = do(stopped(replace(away, at=NOW - ago)), q1="a")
        assert isinstance(again, kind), "the pause counts from when it was stopped"
    absent = stopped(StopMark(Reason.IMAGE_NOT_FOUND, "the image cannot be pulled (ErrImagePull): not found"))
    (fail,) = do(absent, q1="a")
    assert isinstance(fail, FailQueued)


def test_the_pause_counts_from_the_end_of_the_last_job_or_from_the_return_into_the_queue() -> None:
    fresh = job(end=replace(FAILED, at=NOW - timedelta(seconds=5)), pods=(ended(finished=NOW - timedelta(seconds=9)),))
    (says,) = do(fresh, q1="a")
    assert isinstance(says, SetMessage) and says.word is Reason.RETRY_BACKOFF and "12:00:05" in says.message
    back = task(claim=Claim("u0", 1, "p", requeued=True, history=("attempt 1: evicted",)))
    (made,) = do(one=back, q1="a")  # put back five minutes ago
    assert isinstance(made, CreateJob) and made.attempt == 2


# The task's own failure

AGAIN = QueueSettings(retry_own_failures=2, max_attempts=1)
OWN = {
    "exit code": ended(3, said=Outcome.FAILED, why="exit code 3"),
    "memory, told by bootstrap": ended(137, said=Outcome.FAILED, why="OOMKilled: limit 1Gi"),
    "memory, and nobody could tell": ended(137, reason="OOMKilled"),
    "silent": ended(0, said=Outcome.RUNNING),
}


@pytest.mark.parametrize("how", OWN)
def test_own_failure_is_tried_again_as_often_as_the_queue_says_and_costs_no_attempt(how: str) -> None:
    over = job(end=FAILED, pods=(OWN[how],))
    for failures in (0, 1):
        claim = replace(HELD, attempt=failures + 1, failures=failures)
        (again,) = do(over, one=task(status="in_progress", claim=claim), queue=AGAIN)
        assert isinstance(again, Requeue)
        assert (again.claim.requeued, again.claim.failures, len(again.claim.history)) == (True, failures + 1, 1)
        (made,) = do(one=task(claim=again.claim), queue=AGAIN, q1="a")
        assert isinstance(made, CreateJob) and made.attempt == failures + 2
    last = task(status="in_progress", claim=replace(HELD, attempt=3, failures=2, history=("attempt 1: x",)))
    (end,) = do(over, one=last, queue=AGAIN)
    assert isinstance(end, FinishTask) and end.status == "failed" and "attempt 1: x" in end.reason
    (never,) = do(over, one=task(status="in_progress", claim=HELD))
    assert isinstance(never, FinishTask)


def test_a_disruption_costs_an_attempt_and_no_try_of_the_tasks_own() -> None:
    over = job(end=FAILED, pods=(ended(143, reason="Evicted"),))
    claim = replace(HELD, attempt=2, failures=1)  # one of its own, and one that maxAttempts allows
    (end,) = do(over, one=task(status="in_progress", claim=claim), queue=AGAIN)
    assert isinstance(end, FinishTask) and "attempt 2 was the last" in end.reason


@pytest.mark.parametrize(
    "over",
    [
        job(end=JobEnd(succeeded=False, reason="DeadlineExceeded"), pods=(ended(75, said=Outcome.DISRUPTED),)),
        job(end=FAILED, pods=(ended(128, reason="StartError"),)),
    ],
)
def test_what_would_end_the_same_way_is_not_tried_again(over: JobFacts) -> None:
    (end,) = do(over, one=task(status="in_progress", claim=HELD), queue=AGAIN)
    assert isinstance(end, FinishTask) and end.status == "failed"


def test_an_abort_is_no_failure_to_try_again() -> None:
    over = job(end=FAILED, pods=(ended(3, said=Outcome.FAILED),))
    (end,) = do(over, one=task(status="in_progress", claim=HELD, status_message="stopping"), queue=AGAIN)
    assert isinstance(end, FinishTask) and end.status == "stopped"


# A lost node

REPLACE = QueueSettings(on_node_lost="replace")


def lost(word: Reason | None = None, ago: timedelta = timedelta(), late: timedelta = UNCONFIRMED) -> JobFacts:
    then = NOW - ago
    told = {labels.TOLD: Note(word, "why", "p", then, then).to_text()} if word else {}
    return job(pods=(pod(deleting=True, gone_by=NOW - late, disruption="DeletionByTaintManager"),), annotations=told)


def test_a_lost_node_is_told_first_then_fenced_then_given_up() -> None:
    held, free = task(status="in_progress", claim=HELD), task(status="in_progress", claim=replace(HELD, pod=""))
    facts = state(held, jobs=(lost(),))
    first = plan(facts, settings(REPLACE), render)
    assert first.actions == () and [one.note.word for one in first.tellings] == [Reason.NODE_UNREACHABLE]
    (fence,) = do(lost(Reason.NODE_UNREACHABLE), one=held, queue=REPLACE)
    assert isinstance(fence, Fence) and fence.claim and fence.claim.pod == "" and fence.note is None
    (noted,) = do(lost(Reason.NODE_UNREACHABLE), one=free, queue=REPLACE)
    assert isinstance(noted, Fence) and noted.claim is None and noted.note and noted.note.word is Reason.NODE_LOST
    assert do(lost(Reason.NODE_LOST, FENCE - timedelta(seconds=1)), one=free, queue=REPLACE) == ()
    (end,) = do(lost(Reason.NODE_LOST, FENCE), one=free, queue=REPLACE)
    assert isinstance(end, GiveUp) and end.pod.name == "p"


def test_by_default_a_lost_node_is_waited_for() -> None:
    held = task(status="in_progress", claim=HELD)
    for word in (Reason.NODE_UNREACHABLE, Reason.NODE_LOST):
        assert do(lost(word, HOUR), one=held) == ()


def test_a_pod_that_may_still_be_on_its_way_out_is_not_lost() -> None:
    held = task(status="in_progress", claim=HELD)
    early = lost(Reason.NODE_UNREACHABLE, late=UNCONFIRMED - timedelta(seconds=1))
    assert do(early, one=held, queue=REPLACE) == ()
    by_hand = replace(early, pods=(replace(lost().pods[0], disruption=""),))
    assert do(by_hand, one=held, queue=REPLACE) == ()


# What the controller may do for it


def verbs(**more: Any) -> set[tuple[str, str]]:
    role = manifests(Settings(**more), "podstrap", "podstrap")[0]
    return {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}


def test_a_feature_that_is_off_takes_its_verbs_with_it() -> None:
    events = {("events", verb) for verb in ("create", "get", "patch")}
    removal = {("pods", "delete"), ("pods/status", "patch")}
    assert verbs() >= events and not verbs() & removal
    assert not verbs(kubernetes_events=False) & events
    assert verbs(queues={"a": {"on_node_lost": "replace"}}) >= removal
