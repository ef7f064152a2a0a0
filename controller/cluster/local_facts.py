"""What a Job and its pods of the local cluster look like to the controller, and how a pod's end is kept in a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from controller.cluster.local_files import Files, JobRecord, PodRecord, read, write
from controller.cluster.local_pod import NODE, memory_limit
from controller.state import JobEnd, JobFacts, PodFacts

LOST = "NodeLost"
"""The reason of a pod whose shim vanished: to this cluster, a node that is gone."""


@dataclass(frozen=True)
class Ended:
    """A line of a pod's `exit` file."""

    code: int
    signal: int
    at: float
    reason: str
    message: str


def job_facts(files: Files, job: JobRecord, pods: list[PodRecord]) -> JobFacts:
    """The Job as Kubernetes would show it, its pods in the order they were made."""
    metadata = job.manifest["metadata"]
    end = job.end
    return JobFacts(
        name=job.name,
        uid=job.uid,
        namespace=job.namespace,
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        created=_moment(job.created),
        end=JobEnd(end["succeeded"], end["reason"], end["message"], _moment(end["at"])) if end else None,
        stopped=job.stopped,
        deleting=job.deleting,
        pods=tuple(pod_facts(files, job, pod) for pod in pods),
    )


def pod_facts(files: Files, job: JobRecord, pod: PodRecord) -> PodFacts:
    """One pod as Kubernetes would show it."""
    folder = files.folder(pod.uid)
    started, taken = read(folder / "started").split(), folder / "taken"
    ended = read_exit(folder)
    phase = "Running" if started else "Pending"
    if ended:
        phase = "Failed" if ended.code else "Succeeded"
    disruption = read(taken)
    if ended and ended.reason == LOST:
        disruption = "DeletionByPodGC"
    return PodFacts(
        name=pod.name,
        uid=pod.uid,
        namespace=pod.namespace,
        phase=phase,
        node=NODE,
        created=_moment(pod.created),
        started=_moment(float(started[2])) if started else None,
        finished=_moment(ended.at) if ended else None,
        deleting=taken.exists(),
        exit_code=ended.code if ended else None,
        signal=ended.signal or None if ended else None,
        reason=ended.reason if ended else "",
        message=ended.message if ended else "",
        termination=read(folder / "termination"),
        disruption=disruption,
        waiting_reason="" if started or ended else "ContainerCreating",
        memory_limit=memory_limit(job),
    )


def write_exit(folder: Path, ended: Ended) -> None:
    """Say in the pod's folder that it is over."""
    write(folder / "exit", f"{ended.code} {ended.signal} {ended.at} {ended.reason} {ended.message}")


def read_exit(folder: Path) -> Ended | None:
    """How the pod in this folder ended; None while it lives."""
    words = read(folder / "exit").split(maxsplit=4)
    if len(words) < 3:
        return None
    code, number, at = int(words[0]), int(words[1]), float(words[2])
    if len(words) > 3:
        return Ended(code, number, at, words[3], words[4] if len(words) > 4 else "")
    if error := read(folder / "start-error"):
        return Ended(code, number, at, "StartError", error)
    return Ended(code, number, at, "Error" if code else "Completed", "")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
