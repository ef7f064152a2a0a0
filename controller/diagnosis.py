"""Why a pod ended, in words for a person, and whose fault it was: the infrastructure's, the task's or the settings'.

Pure: facts in, `Diagnosis` out. The order of the rules is the order of trust: bootstrap's own last words first, then
what the cluster says about the Job, the pod and the container, then the bare exit code.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum

from controller.state import VANISHED, JobFacts, PodFacts
from protocol import exit_codes
from protocol.termination import Outcome, TerminationMessage


class Cause(Enum):
    """Whose fault an end was; only INFRASTRUCTURE is a reason to run again."""

    NONE = "none"
    TASK = "task"
    CONFIG = "config"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True)
class Diagnosis:
    """A cause and one line (or a few) for a person."""

    cause: Cause
    reason: str
    wants_log: bool = False
    """The facts are thin: the pod's last log lines would help."""


_PULL = {
    "ErrImagePull": "the image cannot be pulled",
    "ImagePullBackOff": "the image cannot be pulled",
    "InvalidImageName": "the image's name is not valid",
    "ErrImageNeverPull": "the image is not on the node and its pull policy is Never",
    "RegistryUnavailable": "the image's registry does not answer",
    "ImageInspectError": "the image is damaged",
}
_CREATE = {
    "CreateContainerConfigError": "the container's configuration cannot be used",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be started",
    "StartError": "the container's command cannot be started",
    "ContainerCannotRun": "the container's command cannot be started",
    "InitContainerFailed": "an init container failed",
}
_TAKEN = {
    "Evicted": "evicted",
    "Preempting": "preempted",
    "Preempted": "preempted",
    "NodeLost": "node lost",
    "NodeShutdown": "the node shut down",
    "Terminated": "the node shut down",
    "Shutdown": "the node shut down",
    "UnexpectedAdmissionError": "the node did not admit the pod",
    "NodeAffinity": "the node did not admit the pod",
    "OutOfcpu": "the node had no room for the pod",
    "OutOfmemory": "the node had no room for the pod",
    "OutOfpods": "the node had no room for the pod",
}
_DISRUPTION = {
    "EvictionByEvictionAPI": "evicted through the Eviction API",
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "DeletionByTaintManager": "removed from a tainted node",
    "DeletionByPodGC": "node lost: its node does not exist any more",
    "TerminationByKubelet": "ended by the node (eviction, shutdown or preemption)",
}


def diagnose(job: JobFacts) -> Diagnosis:
    """Why a Job that is over ended."""
    pod = job.last_pod
    words = pod.last_words if pod else None
    if words and words.outcome in (Outcome.COMPLETED, Outcome.FAILED, Outcome.STOPPED):
        return _said(words)
    if job.end and job.end.reason == "DeadlineExceeded":  # its pods were told to go, and say "disrupted"
        return Diagnosis(Cause.TASK, f"deadline: {job.end.message or 'it ran longer than activeDeadlineSeconds'}")
    if words and words.outcome is not Outcome.RUNNING:
        return _said(words)
    if pod is None:
        return _without_pod(job)
    if taken := _taken(pod):
        return Diagnosis(Cause.INFRASTRUCTURE, taken)
    if pod.reason == "OOMKilled":
        return Diagnosis(Cause.TASK, _out_of_memory(pod, words))
    if setup := _setup(pod.reason, pod.message) or _setup(pod.waiting_reason, pod.waiting_message):
        return Diagnosis(Cause.CONFIG, setup)
    if pod.may_act or pod.exit_code is None:
        return Diagnosis(Cause.INFRASTRUCTURE, "pod deleted before it ended")
    return _by_exit_code(pod, words)


def waiting(job: JobFacts) -> str:
    """Why a Job that lives does not run yet, for the task's status message; empty when there is nothing to say."""
    pod = job.last_pod
    if job.no_pod_why and not (pod and pod.may_act):
        return f"its pod cannot be made: {job.no_pod_why}"
    if pod is None or not pod.may_act or pod.phase != "Pending" or not pod.waiting_reason:
        return ""
    if pod.waiting_reason in ("ContainerCreating", "PodInitializing"):
        return ""
    if setup := _setup(pod.waiting_reason, pod.waiting_message):
        return setup
    if pod.waiting_reason == "Unschedulable":
        return f"unschedulable: {pod.waiting_message}"
    return f"{pod.waiting_reason}: {pod.waiting_message}".rstrip(": ")


def _said(words: TerminationMessage) -> Diagnosis:
    if words.outcome is Outcome.FAILED:
        reason = words.reason or f"exit code {words.exit_code}"
        if words.phase == "claim":
            return Diagnosis(Cause.CONFIG, reason)
        return Diagnosis(Cause.TASK, reason)
    if words.outcome is Outcome.DISRUPTED:
        return Diagnosis(Cause.INFRASTRUCTURE, words.reason or "taken away by the infrastructure")
    return Diagnosis(Cause.NONE, words.reason or words.outcome.value)


def _without_pod(job: JobFacts) -> Diagnosis:
    if job.end is None or job.end.reason in (VANISHED, "") or job.stopped:
        stopped = f"the Job was stopped: {job.stopped_why}" if job.stopped_why else "the Job was stopped"
        return Diagnosis(Cause.INFRASTRUCTURE, "the Job was deleted" if job.end else stopped)
    text = f"{job.end.reason}: {job.end.message}".rstrip(": ")
    return Diagnosis(Cause.INFRASTRUCTURE, f"the Job ended and its pod is gone ({text})")


def _taken(pod: PodFacts) -> str:
    """What of the infrastructure took the pod; empty when nothing did."""
    if pod.reason in _TAKEN:
        return _join(_TAKEN[pod.reason], pod.message)
    if pod.disruption:
        return _join(_DISRUPTION.get(pod.disruption, pod.disruption), pod.message)
    if pod.exit_code == exit_codes.DISRUPTED:
        return f"pod deleted or taken away (exit code {exit_codes.DISRUPTED})"
    return ""


def _setup(reason: str, message: str) -> str:
    said = _PULL.get(reason) or _CREATE.get(reason)
    return _join(f"{said} ({reason})", message) if said else ""


def _out_of_memory(pod: PodFacts, words: TerminationMessage | None) -> str:
    parts = []
    if pod.memory_limit:
        parts.append(f"limit {pod.memory_limit}")
    if words and words.peak_memory_bytes:
        parts.append(f"peak {binary_size(words.peak_memory_bytes)}")
    return "OOMKilled" + (f": {', '.join(parts)}" if parts else ": the container used more memory than its limit")


def _by_exit_code(pod: PodFacts, words: TerminationMessage | None) -> Diagnosis:
    """No word of anybody but the number. A signal that nobody announced came from outside: infrastructure."""
    code = pod.exit_code or 0
    phase = f" in phase {words.phase}" if words and words.phase else ""
    number = pod.signal or (code - 128 if 128 < code < 128 + signal.NSIG else 0)
    if number:
        text = f"killed by signal {number} ({signal_name(number)}){phase} without a last word"
        return Diagnosis(Cause.INFRASTRUCTURE, text, wants_log=True)
    if code == 0:
        return Diagnosis(Cause.TASK, f"the pod ended with 0{phase} and did not say how the task ended", wants_log=True)
    if words is None:
        return Diagnosis(Cause.CONFIG, f"the pod ended with exit code {code} before it began", wants_log=True)
    return Diagnosis(Cause.TASK, f"the pod ended with exit code {code}{phase} without a last word", wants_log=True)


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def binary_size(count: int) -> str:
    """Bytes as Kubernetes writes quantities, two decimals where they say something: 7.98Gi, 512Mi."""
    size = float(count)
    for unit in ("", "Ki", "Mi", "Gi"):
        if size < 1024:
            return f"{size:.2f}".rstrip("0").rstrip(".") + unit
        size /= 1024
    return f"{size:.2f}".rstrip("0").rstrip(".") + "Ti"


def _join(text: str, message: str) -> str:
    return f"{text}: {message.strip()}" if message.strip() else text
