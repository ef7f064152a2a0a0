"""What the controller asks of a cluster; kubernetes.py and local.py give it.

The rules both keep:
- `snapshot` is complete or raises: a Job that is missing in it does not exist.
- A pod whose Job object is gone while its processes may still act shows as a Job that is `deleting`, made from the
  pod's labels, until the pod is gone.
- `stop` ends a Job's pods (SIGTERM, the grace time, SIGKILL) and keeps the Job as a record until `delete`: a Job may
  hold the claim on a task at the moment we decide to end it, and what ended must be read before it is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from controller.state import ClusterState, JobFacts, PodFacts
from protocol import labels
from protocol.errors import PodstrapError


class ClusterError(PodstrapError):
    """The cluster could not be asked or did not answer. Trying again may help."""


class Refused(ClusterError):
    """The cluster understood the manifest and does not take it (invalid, forbidden, over quota)."""

    def __init__(self, message: str, *, causes: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.causes = causes
        """Field of the manifest and what is wrong with it, as far as the cluster tells."""


class NameTaken(ClusterError):
    """A Job of this name exists that is not this Job."""


class Cluster(Protocol):
    """Where Jobs run."""

    def snapshot(self) -> ClusterState:
        """All Jobs of ours and their pods. Raises ClusterError."""
        ...

    def create(self, manifest: Mapping[str, Any]) -> bool:
        """Make a Job. False when this very Job (by its labels) exists already. Raises Refused, NameTaken."""
        ...

    def probe(self, manifest: Mapping[str, Any]) -> None:
        """Whether such a Job would be taken, without making it. Raises Refused when not, ClusterError when unknown."""
        ...

    def stop(self, job: JobFacts, mark: str = "") -> None:
        """End its pods and make no new ones; the Job stays. Idempotent; a Job that is gone is no error.

        A mark is kept on the Job as its annotation labels.STOPPED_BECAUSE, written in the same change.
        """
        ...

    def give_up(self, job: JobFacts, pod: PodFacts, why: str) -> None:
        """Count a pod whose node does not answer as failed, so that its Job goes on. Idempotent.

        Its processes may still run: whoever asks has made sure that they may not act on the task.
        """
        ...

    def note(self, job: JobFacts, text: str) -> None:
        """Keep a text on the Job as its annotation labels.TOLD. A Job that is gone is no error."""
        ...

    def event(self, job: JobFacts, word: str, message: str, *, warning: bool) -> None:
        """Record what happened to a Job where people of this cluster look. Best effort: it raises nothing."""
        ...

    def delete(self, job: JobFacts) -> None:
        """Remove the Job of this uid and its pods. Idempotent."""
        ...

    def cover(self, namespaces: Iterable[str]) -> None:
        """See the Jobs of these namespaces from now on too; those of earlier ones may live, and stay seen.

        Raises ClusterError, nothing changed, where one cannot be seen.
        """
        ...

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as something changed that a round should look at."""
        ...

    def tail(self, namespace: str, pod: str, lines: int) -> str:
        """The last lines of a pod's log; empty when there are none."""
        ...


_IDENTITY = (labels.TASK, labels.ADDED, labels.ATTEMPT)


def same_job(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two Jobs' labels name the same task, queue entry and attempt: then AlreadyExists means done."""
    return all(one.get(label) and one.get(label) == other.get(label) for label in _IDENTITY)
