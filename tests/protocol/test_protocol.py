"""The words both halves share: round trips, bounds, and what must never collide."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import exit_codes
from protocol.claim import Claim
from protocol.names import MAX_JOB_NAME, job_name
from protocol.termination import MAX_BYTES, Outcome, TerminationMessage

ADDED = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@given(st.text(min_size=1), st.datetimes(timezones=st.just(timezone.utc)), st.integers(1, 999), st.text())
def test_job_name_is_a_dns_label_for_any_task_and_prefix(task, added, attempt, prefix) -> None:
    name = job_name(task, added, attempt, prefix)
    assert len(name) <= MAX_JOB_NAME
    assert DNS_LABEL.fullmatch(name)


def test_job_name_tells_entries_and_attempts_apart() -> None:
    task = "ab" * 16
    names = {
        job_name(task, ADDED, 1),
        job_name(task, ADDED, 2),
        job_name(task, ADDED + timedelta(milliseconds=1), 1),
        job_name("cd" * 16, ADDED, 1),
    }
    assert len(names) == 4
    assert job_name(task, ADDED, 1) == job_name(task, ADDED, 1)
    assert task in job_name(task, ADDED, 1), "a person finds a task's Job by its id"


@given(
    st.builds(
        Claim, st.text(), st.integers(), st.text(), st.text(), st.text(), st.booleans(), st.text(), st.just(("x",))
    )
)
def test_claim_survives_its_text(claim) -> None:
    assert Claim.from_text(claim.to_text()) == claim


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "7", "{}", '{"job_uid":"a"}', '{"job_uid":"a","attempt":"x"}', 3]
)
def test_text_that_is_no_claim_reads_as_none(text) -> None:
    assert Claim.from_text(text) is None


def test_only_a_requeued_claim_counts_on() -> None:
    assert Claim("uid", 2, "pod").next_attempt() == 1
    assert Claim("uid", 2, "pod", requeued=True).next_attempt() == 3


def test_another_attempt_of_the_same_job_is_another_holder() -> None:
    mine = Claim("uid", 1, "pod-a")
    assert mine.same_holder(Claim("uid", 1, "pod-a", node="n", history=("x",)))
    assert not mine.same_holder(Claim("uid", 2, "pod-a"))
    assert not mine.same_holder(Claim("uid", 1, "pod-b"))
    assert not mine.same_holder(None)


@given(st.text(max_size=20000))
def test_termination_message_fits_what_kubernetes_keeps(reason) -> None:
    message = TerminationMessage(Outcome.FAILED, "t" * 32, "uid", 3, "run", reason, 3, 123, True)
    text = message.to_text()
    assert len(text.encode()) <= MAX_BYTES
    back = TerminationMessage.from_text(text)
    assert back is not None
    assert (back.outcome, back.exit_code, back.attempt, back.reported) == (Outcome.FAILED, 3, 3, True)
    if len(reason.encode()) < 500:
        assert back.reason == reason


@pytest.mark.parametrize("text", ["", "Killed", "{}", '{"outcome":"great","task":"t"}', "[1]"])
def test_somebody_elses_last_message_reads_as_none(text) -> None:
    assert TerminationMessage.from_text(text) is None


def test_a_tasks_own_75_never_looks_like_a_disruption() -> None:
    assert exit_codes.of_pod(75) == 1
    assert exit_codes.of_pod(3) == 3
    assert exit_codes.of_process(-9) == 137
    assert exit_codes.of_process(4) == 4
