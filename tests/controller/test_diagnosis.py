"""Each way a pod can end: whose fault, and words a person can act on."""

from __future__ import annotations

import pytest

from controller.diagnosis import Cause, binary_size, diagnose, waiting
from controller.state import VANISHED, JobEnd, JobFacts, PodFacts
from protocol.termination import Outcome, TerminationMessage


def words(outcome: Outcome, reason: str = "", phase: str = "run", peak: int | None = None) -> str:
    return TerminationMessage(outcome, "t", reason=reason, phase=phase, peak_memory_bytes=peak).to_text()


FAILED = JobEnd(succeeded=False, reason="PodFailurePolicy")


def job(end: JobEnd | None = FAILED, **pod: object) -> JobFacts:
    return JobFacts("job", "uid", end=end, pods=(PodFacts("pod", "p", **{"phase": "Failed", **pod}),))  # type: ignore[arg-type]


RUNNING = words(Outcome.RUNNING)
CASES = {
    "bootstrap said why": (
        job(exit_code=3, termination=words(Outcome.FAILED, "exit code 3")),
        Cause.TASK, r"^exit code 3$",
    ),
    "bootstrap could not begin": (
        job(exit_code=1, termination=words(Outcome.FAILED, "ClearML refuses the access key", "claim")),
        Cause.CONFIG, "access key",
    ),
    "completed": (job(exit_code=0, termination=words(Outcome.COMPLETED)), Cause.NONE, "completed"),
    "claim lost": (job(exit_code=0, termination=words(Outcome.CLAIM_LOST)), Cause.NONE, "claim-lost"),
    "disrupted": (job(exit_code=75, termination=words(Outcome.DISRUPTED, "SIGTERM")), Cause.INFRASTRUCTURE, "SIGTERM"),
    "75 without words": (job(exit_code=75), Cause.INFRASTRUCTURE, "pod deleted or taken away"),
    "out of memory": (
        job(exit_code=137, reason="OOMKilled", memory_limit="8Gi", termination=words(Outcome.RUNNING, peak=8568459100)),
        Cause.TASK, r"^OOMKilled: limit 8Gi, peak 7\.98Gi$",
    ),
    "out of memory, nothing known": (job(exit_code=137, reason="OOMKilled"), Cause.TASK, "more memory than its limit"),
    "evicted by the node": (
        job(exit_code=137, reason="Evicted", message="The node was low on resource: ephemeral-storage"),
        Cause.INFRASTRUCTURE, "^evicted: The node was low",
    ),
    "evicted by the API": (
        job(exit_code=137, disruption="EvictionByEvictionAPI"), Cause.INFRASTRUCTURE, "Eviction API"
    ),
    "preempted": (job(exit_code=143, disruption="PreemptionByScheduler"), Cause.INFRASTRUCTURE, "preempted"),
    "node lost": (job(exit_code=None, disruption="DeletionByPodGC"), Cause.INFRASTRUCTURE, "node lost"),
    "out of memory beats a signal, disruption beats memory": (
        job(exit_code=137, reason="OOMKilled", disruption="TerminationByKubelet"), Cause.INFRASTRUCTURE, "by the node"
    ),
    "deadline": (
        job(JobEnd(False, "DeadlineExceeded", "Job was active longer than specified deadline"), exit_code=143),
        Cause.TASK, "^deadline: Job was active",
    ),
    "deadline, called a disruption by its pod": (
        job(JobEnd(False, "DeadlineExceeded"), exit_code=75, termination=words(Outcome.DISRUPTED)),
        Cause.TASK, "deadline",
    ),
    "deadline, but the task had ended": (
        job(JobEnd(False, "DeadlineExceeded"), exit_code=3, termination=words(Outcome.FAILED, "exit code 3")),
        Cause.TASK, "exit code 3",
    ),
    "killed in the middle": (
        job(exit_code=137, signal=9, termination=RUNNING), Cause.INFRASTRUCTURE, r"signal 9 \(SIGKILL\) in phase run"
    ),
    "crashed": (job(exit_code=139, termination=RUNNING), Cause.INFRASTRUCTURE, r"signal 11 \(SIGSEGV\)"),
    "ended before it began": (job(exit_code=1), Cause.CONFIG, "exit code 1 before it began"),
    "no such command": (
        job(exit_code=128, reason="StartError", message="exec: podstrap: not found"),
        Cause.CONFIG, "podstrap: not found",
    ),
    "image": (
        job(exit_code=None, phase="Pending", waiting_reason="ImagePullBackOff", waiting_message="manifest unknown"),
        Cause.CONFIG, r"image cannot be pulled \(ImagePullBackOff\): manifest unknown",
    ),
    "silent zero": (job(exit_code=0, phase="Succeeded", termination=RUNNING), Cause.TASK, "did not say how"),
    "pod deleted": (job(exit_code=None, phase="Failed"), Cause.INFRASTRUCTURE, "pod deleted"),
    "job deleted": (JobFacts("j", "u", end=JobEnd(False, VANISHED)), Cause.INFRASTRUCTURE, "Job was deleted"),
    "job stopped before a pod": (JobFacts("j", "u", stopped=True), Cause.INFRASTRUCTURE, "stopped"),
    "no pod left": (
        JobFacts("j", "u", end=JobEnd(False, "BackoffLimitExceeded")), Cause.INFRASTRUCTURE, "BackoffLimitExceeded"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_end_is_told_by_cause_and_reason(name: str) -> None:
    import re

    facts, cause, reason = CASES[name]
    found = diagnose(facts)
    assert found.cause is cause
    assert re.search(reason, found.reason), found.reason


WAITING = {
    "unschedulable": (
        "Unschedulable",
        "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        "^unschedulable: 0/3",
    ),
    "image": ("ErrImagePull", "not found", r"^the image cannot be pulled \(ErrImagePull\): not found$"),
    "config": ("CreateContainerConfigError", 'secret "x" not found', 'secret "x" not found'),
    "starting": ("ContainerCreating", "", "^$"),
    "other": ("SchedulingGated", "", "^SchedulingGated$"),
}


@pytest.mark.parametrize("name", WAITING)
def test_waiting_pod_says_why(name: str) -> None:
    import re

    reason, message, expected = WAITING[name]
    facts = job(None, phase="Pending", waiting_reason=reason, waiting_message=message)
    assert re.search(expected, waiting(facts)), waiting(facts)


def test_running_pod_does_not_wait() -> None:
    assert waiting(job(None, phase="Running", waiting_reason="")) == ""


@pytest.mark.parametrize(("count", "text"), [(512, "512"), (2**29, "512Mi"), (8568459100, "7.98Gi"), (2**40, "1Ti")])
def test_sizes_read_like_kubernetes_quantities(count: int, text: str) -> None:
    assert binary_size(count) == text
