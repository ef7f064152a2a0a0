"""What is: the facts that `plan` decides by, as frozen data. Nothing here asks anybody anything.

A Job of ours lives in three stages, all read from the facts: *living* (it has pods that may act, or will make some),
*over* (finished or stopped, and no pod of it can act any more), *settled* (its task needs nothing from us any more).
A Job that is over stays over, so facts about Jobs may be older than facts about queues and tasks, never newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from clearml_api.models import Queue, QueueEntry, Task
from controller.notes import Note, StopMark
from protocol import labels
from protocol.names import added_millis
from protocol.termination import TerminationMessage

FINISHED_PHASES = ("Succeeded", "Failed")
IMAGE_VOLUME, INIT_CONTAINER = "imageVolume", "initContainer"
"""The ways to bring podstrap into an image that lacks it."""
VANISHED = "Deleted"
"""The reason of the end of a Job that somebody deleted before its task was settled."""


@dataclass(frozen=True)
class PodFacts:
    """One pod: what the plan and the diagnosis need, nothing more."""

    name: str
    uid: str
    namespace: str = ""
    phase: str = "Pending"
    """Kubernetes' own: Pending, Running, Succeeded, Failed, Unknown."""
    node: str = ""
    created: datetime | None = None
    scheduled: datetime | None = None
    """When a node was chosen for it."""
    started: datetime | None = None
    finished: datetime | None = None
    deleting: bool = False
    """It was asked to go; until its phase is final its processes may still act."""
    gone_by: datetime | None = None
    """When it should have ended, its grace time included; None while nobody asked it to go."""
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    """The container's (OOMKilled, Error, StartError) or, when that says nothing, the pod's (Evicted, NodeLost)."""
    message: str = ""
    """The words beside `reason`, for a person."""
    termination: str = ""
    """The container's termination message as it is."""
    disruption: str = ""
    """The reason of the condition DisruptionTarget: the infrastructure took the pod."""
    waiting_reason: str = ""
    """Why it has not started: Unschedulable, ErrImagePull, ImagePullBackOff, CreateContainerConfigError …"""
    waiting_message: str = ""
    memory_limit: str = ""

    @property
    def may_act(self) -> bool:
        """Whether a process of it may still run or come to run."""
        return self.phase not in FINISHED_PHASES

    @property
    def last_words(self) -> TerminationMessage | None:
        """What bootstrap left, when it did."""
        return TerminationMessage.from_text(self.termination)


@dataclass(frozen=True)
class JobEnd:
    """The Job's final condition."""

    succeeded: bool
    reason: str = ""
    """PodFailurePolicy, BackoffLimitExceeded, DeadlineExceeded, Deleted …"""
    message: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class JobFacts:
    """One Job of ours with its pods, oldest first."""

    name: str
    uid: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None
    end: JobEnd | None = None
    stopped: bool = False
    """We stopped it (Kubernetes: spec.suspend): it makes no pods until it is deleted."""
    stopping: bool = False
    """Told to stop, but who makes its pods has not seen so yet."""
    deleting: bool = False
    """It is being deleted: no new pods, and it vanishes when its pods are gone."""
    pods_expected: int = 0
    """Pods that may act, as whoever makes them counts; `pods` may be a moment behind."""
    no_pod_why: str = ""
    """Why a pod of it cannot be made: quota, admission, a missing service account."""
    pods: tuple[PodFacts, ...] = ()

    @property
    def task(self) -> str:
        """The task's id."""
        return self.labels.get(labels.TASK, "")

    @property
    def queue(self) -> str:
        """The queue's id."""
        return self.labels.get(labels.QUEUE, "")

    @property
    def queue_name(self) -> str:
        """The queue's name when the Job was made."""
        return self.annotations.get(labels.QUEUE_NAME, "")

    @property
    def injection(self) -> str:
        """How podstrap was brought into its image: IMAGE_VOLUME, INIT_CONTAINER; empty for a baked one."""
        return self.annotations.get(labels.INJECTION, "")

    @property
    def added(self) -> int:
        """When its queue entry was added, milliseconds since the epoch; 0 when the label is damaged."""
        return _number(self.labels.get(labels.ADDED, ""))

    @property
    def attempt(self) -> int:
        """The attempt that its first pod is."""
        return max(1, _number(self.labels.get(labels.ATTEMPT, "")))

    @cached_property
    def told(self) -> Note | None:
        """The reason that was told last about it."""
        return Note.from_text(self.annotations[labels.TOLD]) if labels.TOLD in self.annotations else None

    @cached_property
    def mark(self) -> StopMark | None:
        """Why we stopped it, when its task is to hear of it."""
        text = self.annotations.get(labels.STOPPED_BECAUSE)
        return StopMark.from_text(text) if text and self.stopped else None

    @property
    def over(self) -> bool:
        """Nothing of it acts or will act."""
        ended = self.end is not None or (self.stopped and not self.stopping)
        return ended and not self.pods_expected and not any(pod.may_act for pod in self.pods)

    @property
    def vanished(self) -> bool:
        """Its object is gone; these facts are what was last seen of it."""
        return self.end is not None and self.end.reason == VANISHED

    @property
    def last_pod(self) -> PodFacts | None:
        """The newest pod."""
        return self.pods[-1] if self.pods else None

    @property
    def running(self) -> bool:
        """Whether a pod of it has started and not ended."""
        return any(pod.phase in ("Running", "Unknown") for pod in self.pods)

    @property
    def over_since(self) -> datetime | None:
        """When the last of its pods ended, or it was stopped; None when nothing tells."""
        stopped = self.mark.at if self.mark else None
        moments = [*(pod.finished for pod in self.pods), self.end.at if self.end else None, stopped]
        return max((moment for moment in moments if moment), default=None)

    def is_for(self, entry: QueueEntry) -> bool:
        """Whether it was made for this very queue entry."""
        return self.task == entry.task and self.added == added_millis(entry.added)


@dataclass(frozen=True)
class ClusterState:
    """All Jobs of one controller instance, as one snapshot."""

    jobs: tuple[JobFacts, ...] = ()
    home: str = ""
    """This controller instance in this cluster, unlike any other in the world: the mark on the claims of its pods."""
    injections: tuple[str, ...] = ()
    """The ways in which podstrap can be brought into an image here, best first; none: it need not be."""


@dataclass(frozen=True)
class QueueFacts:
    """A queue that the settings name, as far as it was read."""

    name: str
    """Its name on the server."""
    id: str
    entries: tuple[QueueEntry, ...] = ()
    complete: bool = True
    """Whether these are all entries."""
    depth: int = 0
    """How many entries it has, as far as was counted: never less than were read."""
    key: str = ""
    """Its key in the settings where that is not its name: an id or a pattern."""

    @property
    def settings_key(self) -> str:
        """By which the settings name it."""
        return self.key or self.name


@dataclass(frozen=True)
class Place:
    """An entry somewhere: of which queue, added when (milliseconds since the epoch)."""

    queue: str
    added: int


@dataclass(frozen=True)
class Refusal:
    """The cluster did not take a Job; it is tried again after `until`."""

    reason: str
    until: datetime


@dataclass(frozen=True)
class State:
    """Everything that one round decides by. Read in this order: Jobs, queues, tasks, places."""

    now: datetime
    jobs: tuple[JobFacts, ...] = ()
    queues: tuple[QueueFacts, ...] = ()
    tasks: Mapping[str, Task] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    """Tasks that were asked for: one that is not in `tasks` does not exist."""
    places: Mapping[str, tuple[Place, ...]] | None = None
    """Where every queued task of the server waits, all queues and all entries; None when it was not read."""
    doubtful_since: Mapping[str, datetime] = field(default_factory=dict)
    """Job uid -> since when, uninterrupted, its task has been in no queue without anybody running it."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """Job name -> why the cluster does not take it."""
    home: str = ""
    """ClusterState.home."""
    injections: tuple[str, ...] = ()
    """ClusterState.injections."""
    minute: bool = False
    """The round that also does what is done once a minute."""


def places_of(queues: list[Queue]) -> dict[str, tuple[Place, ...]]:
    """Task -> its entries, from a listing of all queues."""
    found: dict[str, tuple[Place, ...]] = {}
    for queue in queues:
        for entry in queue.entries:
            found[entry.task] = (*found.get(entry.task, ()), Place(queue.id, added_millis(entry.added)))
    return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
