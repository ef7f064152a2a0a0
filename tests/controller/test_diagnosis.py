"""Each way a pod can end: whose fault, and words a person can act on."""

from __future__ import annotations

import re

import pytest

from controller.diagnosis import binary_size, diagnose
from controller.reasons import REASONS, Cause, Reason
from controller.state import VANISHED, JobEnd, JobFacts, PodFacts
from controller.waiting import waiting
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
        Cause.CONFIG, "^deadline: Job was active",
    ),
    "deadline, called a disruption by its pod": (
        job(JobEnd(False, "DeadlineExceeded"), exit_code=75, termination=words(Outcome.DISRUPTED)),
        Cause.CONFIG, "deadline",
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
    facts, cause, reason = CASES[name]
    found = diagnose(facts)
    assert found.cause is cause
    assert re.search(reason, found.reason), found.reason


WAITING = {
    "unschedulable": (
        "Unschedulable", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        Reason.UNSCHEDULABLE, "^unschedulable: 0/3",
    ),
    "absent": (
        "ErrImagePull", 'failed to resolve reference "r/i:1": r/i:1: not found',
        Reason.IMAGE_NOT_FOUND, r"^the image cannot be pulled \(ErrImagePull\): failed .* not found$",
    ),
    "absent, backing off": (
        "ImagePullBackOff", 'Back-off pulling image "r/i:1": ErrImagePull: r/i:1: not found',
        Reason.IMAGE_NOT_FOUND, "ImagePullBackOff",
    ),
    "denied": (
        "ErrImagePull", "pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed", Reason.IMAGE_PULL_DENIED, "authorization failed",
    ),
    "no credentials": (
        "ErrImagePull", "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
        Reason.IMAGE_PULL_DENIED, "401",
    ),
    "registry away": (
        "ErrImagePull", 'failed to do request: Head "https://r/v2/i/manifests/1": dial tcp: lookup r: no such host',
        Reason.IMAGE_PULL_FAILED, "no such host",
    ),
    "registry slow": ("ErrImagePull", "toomanyrequests: rate limit", Reason.IMAGE_PULL_FAILED, "rate limit"),
    "name": ("InvalidImageName", "couldn't parse image name", Reason.IMAGE_NAME_INVALID, "name is not valid"),
    "never": ("ErrImageNeverPull", "", Reason.IMAGE_NEVER_PULLED, "pull policy is Never"),
    "config": ("CreateContainerConfigError", 'secret "x" not found', Reason.CONTAINER_CONFIG_ERROR, '"x" not found'),
    "gated": ("SchedulingGated", "", Reason.SCHEDULING_GATED, "^SchedulingGated$"),
    "init container": ("CrashLoopBackOff", "init container a: back-off", Reason.POD_WAITING, "^CrashLoopBackOff: init"),
}  # fmt: skip


@pytest.mark.parametrize("name", WAITING)
def test_waiting_pod_says_why(name: str) -> None:
    reason, message, word, expected = WAITING[name]
    found = waiting(job(None, phase="Pending", waiting_reason=reason, waiting_message=message))
    assert found and found.word is word, found
    assert re.search(expected, found.reason), found


NO_POD = {
    'pods "a-" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0': Reason.QUOTA_EXCEEDED,
    'pods "a-" is forbidden: error looking up service account n/x: serviceaccount "x" not found':
        Reason.SERVICE_ACCOUNT_MISSING,
    'pods "a-" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false':
        Reason.ADMISSION_REFUSED,
    'admission webhook "w.example.org" denied the request: no latest tags': Reason.ADMISSION_REFUSED,
    "Internal error occurred: failed calling webhook": Reason.POD_NOT_CREATED,
}  # fmt: skip


@pytest.mark.parametrize("said", NO_POD)
def test_a_job_without_a_pod_says_why(said: str) -> None:
    found = waiting(JobFacts("j", "u", no_pod_why=said))
    assert found and found.word is NO_POD[said]
    assert said in found.reason


@pytest.mark.parametrize(
    "facts", [job(None, phase="Running"), job(None, phase="Pending", waiting_reason="ContainerCreating")]
)
def test_a_pod_that_runs_or_is_about_to_has_no_reason(facts: JobFacts) -> None:
    assert waiting(facts) is None


def test_every_reason_has_its_place_and_its_summary() -> None:
    assert set(REASONS) == set(Reason)
    assert all(re.fullmatch(r"([A-Z][a-z]*|OOM)+", one.value) for one in Reason)
    assert len({about.summary for about in REASONS.values()}) == len(Reason)


@pytest.mark.parametrize(("count", "text"), [(512, "512"), (2**29, "512Mi"), (8568459100, "7.98Gi"), (2**40, "1Ti")])
def test_sizes_read_like_kubernetes_quantities(count: int, text: str) -> None:
    assert binary_size(count) == text
