"""`podstrap explain`: each reason in its place in the order of causes, marked where it holds the task up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from clearml_api.models import Queue, QueueEntry, Task
from controller import overview
from controller.plan import plan
from controller.reasons import REASONS, Reason
from controller.settings_queue import QueueSettings
from controller.state import JobEnd, JobFacts, PodFacts
from protocol.claim import Claim
from tests.controller.test_plan import ADDED, NOW, job, pod, settings, state, task
from tests.controller.test_plan_machine import render

ORDER = [
    "task", "queue", "limits", "template", "admission", "scheduler", "image", "container", "claim", "setup", "run",
    "cluster", "history",
]  # fmt: skip


def explained(one: Task, *jobs: JobFacts, policy: QueueSettings | None = None, **more: Any) -> list[tuple[str, str]]:
    """Causes and texts; those that hold the task up begin with `>`."""
    queues = [Queue("q1", "one", (QueueEntry("a", ADDED),) if one.status == "queued" else ())]
    found = overview.explain(one, settings(policy, **more), queues, jobs, NOW)
    return [(line.cause, ("> " if line.stops else "") + line.text) for line in found]


def held_up(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(cause, text.removeprefix("> ")) for cause, text in found if text.startswith("> ")]


def waits(reason: str, message: str = "") -> JobFacts:
    return job(pods=(PodFacts("p", "p", created=NOW, waiting_reason=reason, waiting_message=message),), created=NOW)


WAITING = {
    "Unschedulable": ("scheduler", Reason.UNSCHEDULABLE),
    "ErrImagePull": ("image", Reason.IMAGE_PULL_FAILED),
    "InvalidImageName": ("image", Reason.IMAGE_NAME_INVALID),
    "CreateContainerConfigError": ("container", Reason.CONTAINER_CONFIG_ERROR),
    "FailedMount": ("container", Reason.VOLUME_NOT_MOUNTED),
}


@pytest.mark.parametrize("reason", WAITING)
def test_a_pod_that_waits_is_explained_in_its_place(reason: str) -> None:
    place, word = WAITING[reason]
    ((cause, text),) = held_up(explained(task(), waits(reason, "their words")))
    assert cause == place and f"[{word.value}]: " in text and "their words" in text


def test_a_job_without_a_pod_was_held_up_at_admission() -> None:
    ((cause, text),) = held_up(explained(task(), job(pods=(), no_pod_why="exceeded quota: none")))
    assert cause == "admission" and "[QuotaExceeded]: its pod cannot be made: exceeded quota" in text


def test_a_job_that_the_cluster_refuses_is_told_by_its_task() -> None:
    refused = task(status_message="waiting: the cluster refuses its Job: no blocked tasks")
    assert held_up(explained(refused))[-1] == ("admission", "the cluster refuses its Job: no blocked tasks")


def test_the_pause_before_the_next_attempt_holds_it_up_and_says_why() -> None:
    killed = pod(phase="Failed", exit_code=137, finished=NOW - timedelta(seconds=3))
    over = job(end=JobEnd(succeeded=False, reason="PodFailurePolicy"), pods=(killed,))
    policy = QueueSettings(retry_backoff_seconds=60)
    (pause,) = [text for cause, text in held_up(explained(task(), over, policy=policy)) if cause == "limits"]
    assert pause.startswith("attempt 2 of 3 begins at 12:00:57 UTC after attempt 1: killed by signal 9")
    (said,) = plan(state(task(), jobs=(over,), q1="a"), settings(policy), render).actions
    assert said.message == f"waiting: {pause}", "the task says the same"
    later = replace(state(task(), jobs=(over,), q1="a"), now=NOW + timedelta(seconds=58))
    assert [type(one).__name__ for one in plan(later, settings(policy), render).actions] == ["CreateJob"]


def test_when_it_will_be_given_up_is_told() -> None:
    found = explained(task(), waits("Unschedulable"), policy=QueueSettings(pending_timeout_seconds=90))
    assert ("limits", f"{job().name}, attempt 1 is given up at 12:01:30 UTC if that lasts") in found


def test_causes_come_in_their_order() -> None:
    failed = job(
        end=JobEnd(succeeded=False, reason="PodFailurePolicy"),
        pods=(pod(phase="Failed", exit_code=137, reason="OOMKilled"),),
    )
    claim = Claim("u1", 1, "p", job=failed.name, history=("attempt 0: evicted",))
    for found in (explained(task(), waits("Unschedulable")), explained(task(status="failed", claim=claim), failed)):
        places = [ORDER.index(cause) for cause, _ in found if cause not in ("claim", "limits")]
        assert places == sorted(places), found


def test_every_reason_has_a_place_in_the_order() -> None:
    assert {about.stage.value for about in REASONS.values()} <= set(ORDER)
