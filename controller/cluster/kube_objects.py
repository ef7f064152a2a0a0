"""The few fields of Kubernetes' Jobs and pods that we read, and what they say as facts.

Decoding skips everything else, so ten thousand pods cost a second and no memory worth naming. Field names are
Kubernetes' own: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from controller.job_template_keys import CONTAINER
from controller.state import FINISHED_PHASES, JobEnd, JobFacts, PodFacts
from protocol import labels

T = TypeVar("T")

_KEPT_ANNOTATIONS = (labels.QUEUE_NAME, labels.INJECTION, labels.TOLD, labels.STOPPED_BECAUSE)
_SAYS_NOTHING = ("", "Error", "Completed", "ContainerStatusUnknown")
"""Reasons of a container beside which the pod's own says more."""
_MESSAGE_LENGTH = 4096
"""Kubernetes' own limit for a termination message."""
INIT_FAILED = "InitContainerFailed"


class Meta(msgspec.Struct):
    """ObjectMeta, and a list's."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creationTimestamp: datetime | None = None
    deletionTimestamp: datetime | None = None


class Condition(msgspec.Struct):
    """Of a Job or a pod."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    lastTransitionTime: datetime | None = None


class JobSpec(msgspec.Struct):
    """What we change of a Job."""

    suspend: bool = False


class JobStatus(msgspec.Struct):
    """How far it is."""

    active: int = 0
    terminating: int = 0
    conditions: list[Condition] = []


class Job(msgspec.Struct):
    """batch/v1 Job."""

    metadata: Meta
    spec: JobSpec = msgspec.field(default_factory=JobSpec)
    status: JobStatus = msgspec.field(default_factory=JobStatus)


class Waiting(msgspec.Struct):
    """ContainerStateWaiting."""

    reason: str = ""
    message: str = ""


class Running(msgspec.Struct):
    """ContainerStateRunning."""

    startedAt: datetime | None = None


class Terminated(msgspec.Struct):
    """ContainerStateTerminated."""

    exitCode: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    startedAt: datetime | None = None
    finishedAt: datetime | None = None


class ContainerState(msgspec.Struct):
    """One of the three is set."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct):
    """Of a container or an init container."""

    name: str = ""
    state: ContainerState = msgspec.field(default_factory=ContainerState)


class Resources(msgspec.Struct):
    """A container's."""

    limits: dict[str, str | int | float] = {}


class Container(msgspec.Struct):
    """Of a pod's spec."""

    name: str = ""
    resources: Resources = msgspec.field(default_factory=Resources)


class PodSpec(msgspec.Struct):
    """Where it runs and what it may use."""

    nodeName: str = ""
    containers: list[Container] = []


class PodStatus(msgspec.Struct):
    """How far it is."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    startTime: datetime | None = None
    conditions: list[Condition] = []
    containerStatuses: list[ContainerStatus] = []
    initContainerStatuses: list[ContainerStatus] = []


class Pod(msgspec.Struct):
    """v1 Pod."""

    metadata: Meta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class Page(msgspec.Struct, Generic[T]):
    """One page of a list."""

    metadata: ListMeta
    items: list[T] = []


class ListMeta(msgspec.Struct):
    """Where a list stands, and where its next page begins."""

    resourceVersion: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Event(msgspec.Struct):
    """A line of a watch."""

    type: str
    object: msgspec.Raw


class Named(msgspec.Struct):
    """What a bookmark carries."""

    metadata: Meta


class Incident(msgspec.Struct):
    """v1 Event: what somebody saw happen to an object."""

    reason: str = ""
    message: str = ""
    type: str = ""
    count: int = 1
    lastTimestamp: datetime | None = None
    eventTime: datetime | None = None


class Version(msgspec.Struct):
    """What /version answers; a provider may write `35+`."""

    major: str = ""
    minor: str = ""

    @property
    def number(self) -> tuple[int, int]:
        """(0, 0) when it does not say."""
        major, minor = (re.match(r"\d+", text) for text in (self.major, self.minor))
        return (int(major[0]), int(minor[0])) if major and minor else (0, 0)


def job_facts(job: Job) -> JobFacts:
    """The Job without its pods. `pods_unseen` counts what its controller knows of, in `active` and `terminating`."""
    meta = job.metadata
    suspended = any(one.type == "Suspended" and one.status == "True" for one in job.status.conditions)
    return JobFacts(
        name=meta.name,
        uid=meta.uid,
        namespace=sys.intern(meta.namespace),
        labels=kept_labels(meta.labels),
        annotations=kept_annotations(meta),
        created=meta.creationTimestamp,
        end=_end(job),
        stopped=job.spec.suspend,
        # Told to stop, it may still make pods until its controller has seen so, which is when this condition comes.
        stopping=job.spec.suspend and not suspended,
        deleting=meta.deletionTimestamp is not None,
        pods_expected=job.status.active + job.status.terminating,
    )


def job_of_pod(pod: PodFacts, pod_labels: Mapping[str, str], annotations: Mapping[str, str]) -> JobFacts:
    """A Job whose object is gone while this pod of it is not."""
    return JobFacts(
        name=pod_labels.get(labels.JOB_NAME, ""),
        uid=pod_labels.get(labels.JOB_UID, ""),
        namespace=pod.namespace,
        labels=kept_labels(pod_labels),
        annotations=annotations,
        created=pod.created,
        deleting=True,
    )


def pod_facts(pod: Pod) -> PodFacts:
    """What the plan and the diagnosis need of a pod."""
    meta, status = pod.metadata, pod.status
    state = next((one.state for one in status.containerStatuses if one.name == CONTAINER), ContainerState())
    ended = state.terminated
    reason, message = _reason(status, ended)
    waiting = _waiting(status, state) if status.phase == "Pending" else Waiting()
    disruption = next(
        (one for one in status.conditions if one.type == "DisruptionTarget" and one.status == "True"), None
    )
    began = ended.startedAt if ended else state.running.startedAt if state.running else None
    return PodFacts(
        name=meta.name,
        uid=meta.uid,
        namespace=sys.intern(meta.namespace),
        phase=sys.intern(status.phase),
        node=sys.intern(pod.spec.nodeName),
        created=meta.creationTimestamp,
        scheduled=_scheduled(status),
        started=began,
        finished=_finished(status, ended, disruption),
        deleting=meta.deletionTimestamp is not None,
        gone_by=meta.deletionTimestamp,
        exit_code=ended.exitCode if ended else None,
        signal=(ended.signal or None) if ended else None,
        reason=sys.intern(reason),
        message=message or (disruption.message if disruption else ""),
        termination=ended.message[:_MESSAGE_LENGTH] if ended else "",
        disruption=sys.intern(disruption.reason) if disruption else "",
        waiting_reason=sys.intern(waiting.reason),
        waiting_message=waiting.message,
        memory_limit=_memory_limit(pod.spec.containers),
    )


def kept_annotations(meta: Meta) -> dict[str, str]:
    """Those that we read."""
    return {key: meta.annotations[key] for key in _KEPT_ANNOTATIONS if key in meta.annotations}


def kept_labels(found: Mapping[str, str]) -> dict[str, str]:
    """Our own."""
    return {sys.intern(key): value for key, value in found.items() if key.startswith(labels.PREFIX)}


def _end(job: Job) -> JobEnd | None:
    for one in job.status.conditions:
        if one.type in ("Complete", "Failed") and one.status == "True":
            succeeded = one.type == "Complete"
            return JobEnd(
                succeeded, "" if succeeded else one.reason, "" if succeeded else one.message, one.lastTransitionTime
            )
    return None


def _reason(status: PodStatus, ended: Terminated | None) -> tuple[str, str]:
    """The container's reason, else the init container's that failed, else the pod's."""
    if ended and ended.reason not in _SAYS_NOTHING:
        return ended.reason, ended.message or status.message
    if status.reason:
        return status.reason, status.message
    if ended is None and status.phase in FINISHED_PHASES:
        for one in status.initContainerStatuses:
            if one.state.terminated and one.state.terminated.exitCode:
                code, said = one.state.terminated.exitCode, one.state.terminated.message.strip()
                why = one.state.terminated.reason
                detail = f" ({why})" if why not in _SAYS_NOTHING else ""
                return INIT_FAILED, f"{one.name} ended with exit code {code}{detail}" + (f": {said}" if said else "")
    return (ended.reason if ended else ""), status.message


def _waiting(status: PodStatus, state: ContainerState) -> Waiting:
    """Why it has not started: the scheduler's words, then the init containers', then the container's."""
    for one in status.conditions:
        if one.type == "PodScheduled" and one.status == "False":
            return Waiting(one.reason or "Unschedulable", one.message)
    for init in status.initContainerStatuses:
        if init.state.waiting and init.state.waiting.reason not in ("", "PodInitializing"):
            return Waiting(init.state.waiting.reason, f"init container {init.name}: {init.state.waiting.message}")
    return state.waiting or Waiting()


def _scheduled(status: PodStatus) -> datetime | None:
    found = (one for one in status.conditions if one.type == "PodScheduled" and one.status == "True")
    return next((one.lastTransitionTime for one in found), None)


def _finished(status: PodStatus, ended: Terminated | None, disruption: Condition | None) -> datetime | None:
    if ended:
        return ended.finishedAt
    return disruption.lastTransitionTime if disruption and status.phase in FINISHED_PHASES else None


def _memory_limit(containers: Iterable[Container]) -> str:
    limit = next((one.resources.limits.get("memory") for one in containers if one.name == CONTAINER), None)
    return sys.intern(str(limit)) if limit is not None else ""
