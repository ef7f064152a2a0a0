"""Why a Job that lives does not run yet: the word for it and one sentence for a person. Pure.

The order is that of causes: no pod can be made, no node takes it, no image, no container. What an image pull says is
sorted by what would help, because the kubelet's own reasons (ErrImagePull, ImagePullBackOff) take turns for one cause.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from controller.reasons import Diagnosis, Reason
from controller.state import JobFacts, PodFacts

STARTING = ("", "ContainerCreating", "PodInitializing")
"""https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/: not a reason, only a moment."""
_TAINT_MANAGER = "DeletionByTaintManager"
UNCONFIRMED = timedelta(seconds=15)
"""A kubelet that lives has said by then that a pod ended, counted from the end of the pod's grace time."""
_PULL = {
    "ErrImagePull": "the image cannot be pulled",
    "ImagePullBackOff": "the image cannot be pulled",
    "RegistryUnavailable": "the image's registry does not answer",
    "ImageInspectError": "the image is damaged",
    "SignatureValidationFailed": "the image's signature is not accepted",
}
_VOLUME, _SANDBOX = "a volume cannot be mounted", "the node cannot make the pod's sandbox"
EVENTS_OF_PODS = {
    "FailedMount": (Reason.VOLUME_NOT_MOUNTED, _VOLUME),
    "FailedAttachVolume": (Reason.VOLUME_NOT_MOUNTED, _VOLUME),
    "FailedMapVolume": (Reason.VOLUME_NOT_MOUNTED, _VOLUME),
    "FailedCreatePodSandBox": (Reason.SANDBOX_FAILED, _SANDBOX),
}
"""What a kubelet says only in Events, while the pod's status says that its containers are being created."""
_OTHERS = {
    **EVENTS_OF_PODS,
    "InvalidImageName": (Reason.IMAGE_NAME_INVALID, "the image's name is not valid"),
    "ErrImageNeverPull": (Reason.IMAGE_NEVER_PULLED, "the image is not on the node and its pull policy is Never"),
    "CreateContainerConfigError": (Reason.CONTAINER_CONFIG_ERROR, "the container's configuration cannot be used"),
    "CreateContainerError": (Reason.CONTAINER_CREATE_ERROR, "the container cannot be created"),
    "RunContainerError": (Reason.CONTAINER_CREATE_ERROR, "the container cannot be started"),
}
_DENIED = re.compile(
    r"unauthorized|authorization failed|authentication required|no basic auth|access denied|denied:|forbidden",
    re.IGNORECASE,
)
_ABSENT = re.compile(r"not found|manifest unknown|name unknown|does not exist|no such image", re.IGNORECASE)
_BARE = re.compile(r'Back-off pulling image "[^"]*"')
"""What older kubelets say between two tries; newer ones add the error."""
_SERVICE_ACCOUNT = re.compile(r"service ?account .*not found", re.IGNORECASE)
_REFUSED = re.compile(r"forbidden|denied the request|denied request|violates|admission", re.IGNORECASE)

IMAGE_PULLS = (Reason.IMAGE_PULL_FAILED, Reason.IMAGE_NOT_FOUND, Reason.IMAGE_PULL_DENIED, Reason.IMAGE_NEVER_PULLED)
"""What the registry, or somebody who pushes an image, may still mend."""


def waiting(job: JobFacts) -> Diagnosis | None:
    """Why it does not run yet; None when there is nothing to say."""
    pod = job.last_pod
    if job.no_pod_why and not (pod and pod.may_act):
        return Diagnosis(_no_pod(job.no_pod_why), f"its pod cannot be made: {job.no_pod_why}")
    if pod is None or not pod.may_act or pod.phase != "Pending" or pod.waiting_reason in STARTING:
        return None
    told = job.told
    if told and told.pod == pod.name and told.word in IMAGE_PULLS and _BARE.fullmatch(pod.waiting_message.strip()):
        return Diagnosis(told.word, told.reason)  # the cause stood in the error before, and nowhere else
    return not_started(pod)


def lost(job: JobFacts, now: datetime) -> Diagnosis | None:
    """Whether its pod stands on a node that does not answer: told to go by the node's taint, and not seen to end.

    Nobody can say whether its processes still run (docs/decisions/0009-lost-nodes.md).
    """
    pod = job.last_pod
    if pod is None or not pod.may_act or pod.disruption != _TAINT_MANAGER or pod.gone_by is None:
        return None
    if now < pod.gone_by + UNCONFIRMED:
        return None
    text = f"node {pod.node} does not answer: its pod {pod.name} was told to go and nobody has seen it end"
    return Diagnosis(Reason.NODE_UNREACHABLE, text)


def trouble(job: JobFacts, now: datetime) -> Diagnosis | None:
    """Why it does not run, whether it had begun or not."""
    return waiting(job) or lost(job, now)


def not_started(pod: PodFacts) -> Diagnosis | None:
    """Why its container has not started."""
    reason, message = pod.waiting_reason, pod.waiting_message.strip()
    if reason in _PULL:
        return Diagnosis(_pull(reason, message), join(f"{_PULL[reason]} ({reason})", message))
    if reason in _OTHERS:
        word, text = _OTHERS[reason]
        return Diagnosis(word, join(f"{text} ({reason})", message))
    if reason == "Unschedulable":
        return Diagnosis(Reason.UNSCHEDULABLE, f"unschedulable: {message}")
    if reason in STARTING:
        return None
    word = Reason.SCHEDULING_GATED if reason == "SchedulingGated" else Reason.POD_WAITING
    return Diagnosis(word, join(reason, message))


def _pull(reason: str, message: str) -> Reason:
    if reason == "SignatureValidationFailed" or _DENIED.search(message):
        return Reason.IMAGE_PULL_DENIED
    return Reason.IMAGE_NOT_FOUND if _ABSENT.search(message) else Reason.IMAGE_PULL_FAILED


def _no_pod(why: str) -> Reason:
    if "exceeded quota" in why:
        return Reason.QUOTA_EXCEEDED
    if _SERVICE_ACCOUNT.search(why):
        return Reason.SERVICE_ACCOUNT_MISSING
    return Reason.ADMISSION_REFUSED if _REFUSED.search(why) else Reason.POD_NOT_CREATED


def join(text: str, message: str) -> str:
    """A sentence of ours and what somebody else said, where anything was said."""
    return f"{text}: {message.strip()}" if message.strip() else text
