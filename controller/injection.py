"""How podstrap comes into a task's image: it is there already (baked), or our folder is brought beside it.

Two ways to bring it. An image volume mounts the folder straight from our own image: one pull a node, no copy; on by
default since Kubernetes 1.35. An init container copies the folder into a volume of the pod: works everywhere, costs
seconds. `auto` takes the first where the API server offers it. Whether a node's runtime mounts it is only seen when a
pod is there: then that attempt is given up before it began and the next one copies. What was learned stands on the Job
(its annotations, its pod), so a restarted controller knows it too.

Pure. The states of a refusing node are the kubelet's and the runtimes': see decision 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from controller.reasons import Reason
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.state import IMAGE_VOLUME, INIT_CONTAINER, JobFacts, PodFacts
from protocol.folder import HOME

OWN_IMAGES = ("podstrap/task*", "*/podstrap/task*")
"""Our own images have podstrap in them, wherever they are mirrored."""
REFUSED = "no image volume: "
"""What the reason of a Job begins with that was stopped because its node's runtime cannot mount our image."""
_IMAGE_VOLUMES_SINCE = (1, 35)
"""On by default (https://kubernetes.io/docs/concepts/storage/volumes/#image)."""
_CREATE = ("CreateContainerError", "ImageVolumeMountFailed")
"""Reasons in which a kubelet says that the runtime did not make the container: an older runtime does not know the
mount (containerd before 2.1, CRI-O before 1.31), a newer one says ImageVolumeMountFailed."""
_START = ("RunContainerError", "StartError", "ContainerCannotRun", "CreateContainerConfigError")
"""Reasons that are about the volume only when they name it: a runtime that mounts an image but not a path in it
(containerd 2.1: the root of the image stands at our path), a kubelet whose feature gate is off ("path is empty")."""


def baked(image: str, patterns: Iterable[str]) -> bool:
    """Whether an image has podstrap in it: one of ours, or one that the operator's patterns name.

    Patterns are those of fnmatch; `*` takes slashes too.
    """
    return any(fnmatchcase(image, pattern) for pattern in (*OWN_IMAGES, *patterns))


def offered(version: tuple[int, int]) -> tuple[str, ...]:
    """What an API server of this version offers, best first."""
    return (IMAGE_VOLUME, INIT_CONTAINER) if version >= _IMAGE_VOLUMES_SINCE else (INIT_CONTAINER,)


def method(wanted: str, ways: tuple[str, ...]) -> str:
    """How to bring the folder: the operator's word, else the first of the ways that the cluster offers."""
    return wanted if wanted != "auto" else ways[0] if ways else INIT_CONTAINER


def falls_back(settings: Settings, queue: QueueSettings) -> bool:
    """Whether a pod whose image volume is refused is given up for one with an init container."""
    return (queue.injection_method or settings.injection_method) == "auto"


def refused(job: JobFacts) -> str:
    """Why the node's runtime does not mount our image into this Job's pod; empty when it does or nobody knows yet.

    A container that cannot be made for another reason reads as refused too: then the next attempt, without an image
    volume, meets the same reason and says so.
    """
    if job.injection != IMAGE_VOLUME:
        return ""
    if job.mark and job.mark.word is Reason.IMAGE_VOLUME_REFUSED:
        return job.mark.reason.removeprefix(REFUSED)
    pod = job.last_pod
    return _refusal(pod) if pod else ""


def _refusal(pod: PodFacts) -> str:
    for reason, message in ((pod.waiting_reason, pod.waiting_message), (pod.reason, pod.message)):
        named = str(HOME) in message or "path is empty" in message
        if reason in _CREATE or (reason in _START and named):
            return f"{reason}: {message}".rstrip(": ")
    return ""
