"""What is told about a task and a Job: once for each change, whoever was killed before, and never in a flood."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from controller.notes import Note, StopMark
from controller.patience import LONGEST_BACKOFF_SECONDS, backoff_seconds, overdue
from controller.plan import MAX_TELLINGS, plan
from controller.reasons import Reason
from controller.settings_queue import QueueSettings
from controller.state import JobEnd, JobFacts, PodFacts
from protocol import labels
from tests.controller.test_plan import HELD, NOW, job, pod, settings, state, task
from tests.controller.test_plan_machine import render

FEW = "0/5 nodes are available: 3 Insufficient cpu, 2 node(s) had untolerated taint {gpu: only}."
MORE = "0/6 nodes are available: 4 Insufficient cpu, 2 node(s) had untolerated taint {gpu: only}."
ABSENT = "failed to resolve reference: r/i:1: not found"


def waits(reason: str, message: str, *, name: str = "p", **more: Any) -> JobFacts:
    created = more.pop("created", NOW)
    one = PodFacts(name, name, created=created, waiting_reason=reason, waiting_message=message)
    return job(pods=(one,), created=created, **more)


def told(one: JobFacts, word: Reason, reason: str, *, seconds: float = 0, pod: str = "p") -> JobFacts:
    """The Job as it stands when this was told so long ago."""
    then = NOW - timedelta(seconds=seconds)
    return replace(one, annotations={labels.TOLD: Note(word, reason, pod, then, then).to_text()})


def tellings(*jobs: JobFacts, now: datetime = NOW) -> list[tuple[Reason, str, bool]]:
    facts = replace(state(task(), jobs=jobs, q1="a"), now=now)
    return [(one.note.word, one.note.reason, one.console) for one in plan(facts, settings(), render).tellings]


def test_a_new_reason_is_told_once() -> None:
    one = waits("Unschedulable", FEW)
    assert tellings(one) == [(Reason.UNSCHEDULABLE, f"unschedulable: {FEW}", True)]
    assert tellings(told(one, Reason.UNSCHEDULABLE, f"unschedulable: {FEW}")) == []


def test_other_numbers_are_no_news() -> None:
    one = told(waits("Unschedulable", MORE), Reason.UNSCHEDULABLE, f"unschedulable: {FEW}", seconds=999)
    assert tellings(one) == []


@pytest.mark.parametrize("seconds", [1, 59, 61])
def test_a_pods_next_reason_waits_for_its_minute_and_is_not_lost(seconds: float) -> None:
    one = told(waits("ErrImagePull", ABSENT), Reason.UNSCHEDULABLE, f"unschedulable: {FEW}", seconds=seconds)
    assert [word for word, _, _ in tellings(one)] == ([Reason.IMAGE_NOT_FOUND] if seconds > 60 else [])


def test_another_pod_has_a_minute_of_its_own() -> None:
    one = told(waits("Unschedulable", FEW, name="p2"), Reason.UNSCHEDULABLE, f"unschedulable: {FEW}", seconds=5)
    assert len(tellings(one)) == 1


def test_a_pod_that_had_waited_and_runs_is_told_in_events_alone() -> None:
    ran = told(job(pods=(pod(),)), Reason.UNSCHEDULABLE, FEW, seconds=5)
    facts = state(task(status="in_progress", claim=HELD), jobs=(ran,))
    (one,) = plan(facts, settings(), render).tellings
    assert one.note.word is Reason.STARTED
    again = replace(ran, annotations={labels.TOLD: one.note.to_text()})
    assert plan(state(task(status="in_progress", claim=HELD), jobs=(again,)), settings(), render).tellings == ()


def test_a_failure_is_told_in_events_once_and_only_while_it_is_news() -> None:
    end = JobEnd(succeeded=False, reason="PodFailurePolicy", at=NOW - timedelta(minutes=1))
    failed = job(end=end, pods=(pod(phase="Failed", exit_code=137, reason="OOMKilled"),))
    assert [(word, console) for word, _, console in tellings(failed)] == [(Reason.OOM_KILLED, False)]
    assert tellings(told(failed, Reason.OOM_KILLED, "whatever", seconds=1)) == []
    assert tellings(failed, now=NOW + timedelta(hours=1)) == []
    assert tellings(job(end=JobEnd(succeeded=True, at=NOW), pods=(pod(phase="Succeeded", exit_code=0),))) == []


def test_a_thousand_reasons_at_once_do_not_hold_up_the_round() -> None:
    many = tuple(replace(waits("Unschedulable", FEW), uid=f"u{n}", name=f"j{n}") for n in range(1000))
    assert len(tellings(*many)) == MAX_TELLINGS


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "x" * 300, '{"word":"Nonsense"}', '{"word":7,"since":1}'])
def test_a_damaged_annotation_is_none(text: str) -> None:
    assert Note.from_text(text) is None
    assert StopMark.from_text(text) is None


def test_a_note_and_a_mark_come_back_as_they_were() -> None:
    note = Note(Reason.UNSCHEDULABLE, "ü" * 50, "p", NOW - timedelta(minutes=1), NOW)
    mark = StopMark(Reason.PENDING_TIMEOUT, "why", "p", "q", NOW)
    assert Note.from_text(note.to_text()) == note and StopMark.from_text(mark.to_text()) == mark


# How long it is waited


def late(one: JobFacts, queue: QueueSettings, seconds: float) -> Reason | None:
    found = overdue(one, queue, NOW + timedelta(seconds=seconds))
    return found.word if found else None


def test_a_pod_that_does_not_start_is_waited_for_as_long_as_the_queue_says() -> None:
    queue, one = QueueSettings(pending_timeout_seconds=60), waits("Unschedulable", FEW)
    assert [late(one, queue, 59), late(one, queue, 60)] == [None, Reason.PENDING_TIMEOUT]
    assert late(one, QueueSettings(), 10**7) is None
    found = overdue(one, queue, NOW + timedelta(seconds=61))
    assert found and found.reason == f"not started within 60 s (pendingTimeoutSeconds): unschedulable: {FEW}"


def test_each_pod_of_a_job_has_its_time_and_one_that_runs_has_all() -> None:
    queue, created = QueueSettings(pending_timeout_seconds=60), NOW - timedelta(hours=9)
    first = pod(phase="Failed", exit_code=75, finished=NOW)
    second = PodFacts("p2", "p2", created=NOW, waiting_reason="Unschedulable", waiting_message=FEW)
    assert late(job(pods=(first, second), created=created), queue, 59) is None
    assert late(job(pods=(first, second), created=created), queue, 61) is Reason.PENDING_TIMEOUT
    assert late(job(pods=(first,), created=created), queue, 59) is None
    assert late(job(pods=(pod(created=created, started=created),), created=created), queue, 61) is None


def test_a_job_without_a_pod_counts_from_its_own_beginning() -> None:
    queue, one = QueueSettings(pending_timeout_seconds=60), job(pods=(), created=NOW, no_pod_why="exceeded quota: none")
    assert [late(one, queue, 59), late(one, queue, 60)] == [None, Reason.PENDING_TIMEOUT]


def test_an_image_has_its_grace_from_the_first_failure_on_whatever_the_kubelet_calls_it() -> None:
    queue = QueueSettings(image_pull_grace_seconds=100)
    first = waits("ErrImagePull", ABSENT, created=NOW - timedelta(hours=2))
    assert late(first, queue, 0) is None, "two hours of pulling, and now the first error"
    backing_off = told(waits("ImagePullBackOff", 'Back-off pulling image "r/i:1"'), Reason.IMAGE_NOT_FOUND, ABSENT)
    assert [late(backing_off, queue, 99), late(backing_off, queue, 101)] == [None, Reason.IMAGE_NOT_FOUND]
    other = told(first, Reason.IMAGE_NOT_FOUND, ABSENT, pod="an earlier one")
    assert late(other, queue, 101) is None


def test_no_registry_can_mend_a_name() -> None:
    assert late(waits("InvalidImageName", "couldn't parse"), QueueSettings(), 0) is Reason.IMAGE_NAME_INVALID


def test_the_pause_between_attempts_doubles_up_to_ten_minutes() -> None:
    queue = QueueSettings(retry_backoff_seconds=10)
    assert [backoff_seconds(attempt, queue) for attempt in (2, 3, 4, 40)] == [10, 20, 40, LONGEST_BACKOFF_SECONDS]
