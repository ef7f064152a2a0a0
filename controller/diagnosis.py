"""Why a Job that is over ended: the word for it, a sentence for a person, and so whose fault it was.

Pure: facts in, `Diagnosis` out. The order of the rules is the order of trust: bootstrap's own last words first, then
what the cluster says about the Job, the pod and the container, then the bare exit code. `waiting` is its sister for
Jobs that live.
"""

from __future__ import annotations

import signal

from controller.notes import StopMark
from controller.reasons import Diagnosis, Reason
from controller.state import VANISHED, JobFacts, PodFacts
from controller.waiting import join, not_started
from protocol import exit_codes
from protocol.claim import Claim
from protocol.termination import Outcome, TerminationMessage

_CREATE = {
    "CreateContainerConfigError": (Reason.CONTAINER_CONFIG_ERROR, "the container's configuration cannot be used"),
    "CreateContainerError": (Reason.CONTAINER_CREATE_ERROR, "the container cannot be created"),
    "RunContainerError": (Reason.START_FAILED, "the container cannot be started"),
    "StartError": (Reason.START_FAILED, "the container's command cannot be started"),
    "ContainerCannotRun": (Reason.START_FAILED, "the container's command cannot be started"),
    "InitContainerFailed": (Reason.INIT_CONTAINER_FAILED, "an init container failed"),
}
_TAKEN = {
    "Evicted": (Reason.EVICTED, "evicted"),
    "Preempting": (Reason.PREEMPTED, "preempted"),
    "Preempted": (Reason.PREEMPTED, "preempted"),
    "NodeLost": (Reason.NODE_LOST, "node lost"),
    "NodeShutdown": (Reason.NODE_SHUTDOWN, "the node shut down"),
    "Terminated": (Reason.NODE_SHUTDOWN, "the node shut down"),
    "Shutdown": (Reason.NODE_SHUTDOWN, "the node shut down"),
    "UnexpectedAdmissionError": (Reason.NODE_REFUSED, "the node did not admit the pod"),
    "NodeAffinity": (Reason.NODE_REFUSED, "the node did not admit the pod"),
    "OutOfcpu": (Reason.NODE_REFUSED, "the node had no room for the pod"),
    "OutOfmemory": (Reason.NODE_REFUSED, "the node had no room for the pod"),
    "OutOfpods": (Reason.NODE_REFUSED, "the node had no room for the pod"),
}
_DISRUPTION = {
    "EvictionByEvictionAPI": (Reason.EVICTED, "evicted through the Eviction API"),
    "PreemptionByScheduler": (Reason.PREEMPTED, "preempted by a pod of higher priority"),
    "DeletionByTaintManager": (Reason.NODE_TAINTED, "removed from a tainted node"),
    "DeletionByPodGC": (Reason.NODE_LOST, "node lost: its node does not exist any more"),
    "TerminationByKubelet": (Reason.DISRUPTED, "ended by the node (eviction, shutdown or preemption)"),
}
_RUN_PHASES = ("", "run", "report")
"""Of a TerminationMessage: before them the task is only prepared."""


def diagnose(job: JobFacts, claim: Claim | None = None) -> Diagnosis:
    """Why a Job that is over ended. `claim`: its task's, where it was read."""
    pod = job.last_pod
    words = pod.last_words if pod else None
    if (mark := job.mark) and not _began_after_all(job, mark, claim):
        return mark.diagnosis
    if words and words.outcome in (Outcome.COMPLETED, Outcome.FAILED, Outcome.STOPPED):
        return _said(words)
    if job.end and job.end.reason == "DeadlineExceeded":  # its pods were told to go, and say "disrupted"
        text = f"deadline: {job.end.message or 'it ran longer than activeDeadlineSeconds'}"
        return Diagnosis(Reason.DEADLINE_EXCEEDED, text)
    if words and words.outcome is not Outcome.RUNNING:
        return _said(words)
    if pod is None:
        return _without_pod(job)
    if taken := _taken(pod):
        return taken
    if pod.reason == "OOMKilled":
        return Diagnosis(Reason.OOM_KILLED, _out_of_memory(pod, words))
    if setup := _setup(pod):
        return setup
    if job.end and not job.vanished and not job.stopped and (never := not_started(pod)):
        return never
    if pod.may_act or pod.exit_code is None:
        return Diagnosis(Reason.POD_DELETED, "pod deleted before it ended")
    return _by_exit_code(pod, words)


def _began_after_all(job: JobFacts, mark: StopMark, claim: Claim | None) -> bool:
    """Whether a pod of it started, or claimed the task, in the moment in which we stopped it for not starting.

    A pod's exit code is no sign: a kubelet gives one (137) to a container that never was.
    """
    if claim is not None and claim.job_uid == job.uid and claim.pod != mark.holder:
        return True
    return any(pod.started is not None or pod.last_words is not None for pod in job.pods if pod.name == mark.pod)


def _said(words: TerminationMessage) -> Diagnosis:
    if words.outcome is Outcome.FAILED:
        reason = words.reason or f"exit code {words.exit_code}"
        if words.phase == "claim":
            return Diagnosis(Reason.CLAIM_FAILED, reason)
        if reason.startswith("OOMKilled"):
            return Diagnosis(Reason.OOM_KILLED, reason)
        return Diagnosis(Reason.TASK_FAILED if words.phase in _RUN_PHASES else Reason.SETUP_FAILED, reason)
    if words.outcome is Outcome.DISRUPTED:
        return Diagnosis(Reason.DISRUPTED, words.reason or "taken away by the infrastructure")
    ends = {Outcome.COMPLETED: Reason.COMPLETED, Outcome.STOPPED: Reason.ABORTED}
    return Diagnosis(ends.get(words.outcome, Reason.CLAIM_LOST), words.reason or words.outcome.value)


def _without_pod(job: JobFacts) -> Diagnosis:
    if job.end is None or job.end.reason in (VANISHED, "") or job.stopped:
        if job.end:
            return Diagnosis(Reason.JOB_DELETED, "the Job was deleted")
        return Diagnosis(Reason.JOB_STOPPED, "the Job was stopped")
    text = f"{job.end.reason}: {job.end.message}".rstrip(": ")
    return Diagnosis(Reason.JOB_ENDED, f"the Job ended and its pod is gone ({text})")


def _taken(pod: PodFacts) -> Diagnosis | None:
    """What of the infrastructure took the pod; None when nothing did."""
    if pod.reason in _TAKEN:
        word, text = _TAKEN[pod.reason]
        return Diagnosis(word, join(text, pod.message))
    if pod.disruption:
        word, text = _DISRUPTION.get(pod.disruption, (Reason.DISRUPTED, pod.disruption))
        return Diagnosis(word, join(text, pod.message))
    if pod.exit_code == exit_codes.DISRUPTED:
        return Diagnosis(Reason.POD_DELETED, f"pod deleted or taken away (exit code {exit_codes.DISRUPTED})")
    return None


def _setup(pod: PodFacts) -> Diagnosis | None:
    if pod.reason not in _CREATE:
        return None
    word, text = _CREATE[pod.reason]
    return Diagnosis(word, join(f"{text} ({pod.reason})", pod.message))


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
        return Diagnosis(Reason.KILLED, text, wants_log=True)
    if code == 0:
        silent = f"the pod ended with 0{phase} and did not say how the task ended"
        return Diagnosis(Reason.NO_LAST_WORD, silent, wants_log=True)
    if words is None:
        return Diagnosis(Reason.NEVER_BEGAN, f"the pod ended with exit code {code} before it began", wants_log=True)
    text = f"the pod ended with exit code {code}{phase} without a last word"
    return Diagnosis(Reason.NO_LAST_WORD, text, wants_log=True)


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
