"""What `plan` can ask for: each action names its task and carries what was known when it was decided.

`perform` in acting.py reads the task again before it writes; an action whose reason has gone does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.notes import Note, StopMark
from controller.reasons import Reason
from controller.state import JobFacts, PodFacts
from protocol.claim import Claim


@dataclass(frozen=True)
class CreateJob:
    """Make a Job for a queue entry."""

    task: str
    queue: str
    name: str
    attempt: int
    manifest: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class StopJob:
    """End a Job's pods; the Job stays as a record until its task is settled."""

    task: str
    job: JobFacts = field(hash=False)
    why: str = ""
    mark: StopMark | None = None
    """What its task is to hear of it; kept on the Job until then."""


@dataclass(frozen=True)
class DeleteJob:
    """Forget a Job that is over and settled."""

    task: str
    job: JobFacts = field(hash=False)
    why: str = ""


@dataclass(frozen=True)
class FinishTask:
    """Set the end of a task that is in_progress by this Job's claim, in the pod's place."""

    task: str
    job: JobFacts = field(hash=False)
    status: str = "failed"
    """completed, failed or stopped."""
    reason: str = ""
    wants_log: bool = False
    unclaimed: bool = False
    """A reset has wiped the claim, and this Job's pod started the task all the same."""


@dataclass(frozen=True)
class FailQueued:
    """Take a task that never began out of its queue and fail it. With no queue: it is out of every queue already."""

    task: str
    job: JobFacts = field(hash=False)
    queue: str = ""
    reason: str = ""
    wants_log: bool = False
    seen: Claim | None = None
    """The claim as it was read: another one means somebody else acts."""


@dataclass(frozen=True)
class Requeue:
    """Put an orphan back to the front of its queue, its claim marked `requeued`."""

    task: str
    job: JobFacts = field(hash=False)
    queue: str
    claim: Claim
    """As it is to be written; when the task has it already, only the queue is written."""
    seen: Claim | None
    """As it was read: another one means somebody else acts."""
    status: str
    """As it was read."""
    why: str = ""
    leave: str = ""
    """The queue in which a left-over entry of it stands."""


@dataclass(frozen=True)
class RemoveEntry:
    """Take a left-over entry of a task that has ended out of its queue."""

    task: str
    queue: str


@dataclass(frozen=True)
class SetMessage:
    """Say on a queued task why it waits."""

    task: str
    message: str
    word: Reason
    console: bool = False
    """Tell it in the task's console too; what is said about a Job's pod is told by Tell."""


@dataclass(frozen=True)
class Fence:
    """Take the claim from a pod on a lost node; then note on the Job that this was done, and when."""

    task: str
    job: JobFacts = field(hash=False)
    claim: Claim | None
    """As it is to be written; None when there is none to be taken any more."""
    seen: Claim | None
    """As it was read: another one means somebody else acts."""
    note: Note | None = None


@dataclass(frozen=True)
class GiveUp:
    """Count a pod on a lost node as failed."""

    task: str
    job: JobFacts = field(hash=False)
    pod: PodFacts
    why: str


@dataclass(frozen=True)
class Tell:
    """Say why a Job's pod does not run, or how it ended: an Event on the Job, a line in the task's console."""

    task: str
    job: JobFacts = field(hash=False)
    note: Note
    console: bool = True


@dataclass(frozen=True)
class Ping:
    """Keep the server's watchdog from stopping a task whose Job lives."""

    task: str


Action = (
    CreateJob
    | StopJob
    | DeleteJob
    | FinishTask
    | FailQueued
    | Requeue
    | RemoveEntry
    | SetMessage
    | Fence
    | GiveUp
    | Tell
    | Ping
)
