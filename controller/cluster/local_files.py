"""The local cluster's state as files: whole or not at all, readable after kill -9 at any instruction.

lock                     held for each step: two controllers never do the same thing
jobs/NAMESPACE/NAME      one Job: its manifest and what became of it, JSON
pods/UID/pod             one pod: who it is, JSON; beside it started, exit, taken, log, termination, home, volumes
claims/NAMESPACE/NAME    a persistent volume claim's folder
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from controller.cluster.interface import Refused
from protocol import labels


@dataclass
class JobRecord:
    """A Job's file. Times in seconds since the epoch."""

    name: str
    namespace: str
    uid: str
    created: float
    manifest: dict[str, Any]
    stopped: bool = False
    deleting: bool = False
    failing: str = ""
    """The reason by which it fails once its pods are gone (DeadlineExceeded)."""
    end: dict[str, Any] | None = None
    """succeeded, reason, message, at"""

    @property
    def spec(self) -> dict[str, Any]:
        """The Job's spec."""
        return dict(self.manifest["spec"])

    @property
    def pod_spec(self) -> dict[str, Any]:
        """The pod's spec."""
        return dict(self.manifest["spec"]["template"]["spec"])


@dataclass(frozen=True)
class PodRecord:
    """A pod's file."""

    name: str
    uid: str
    job_uid: str
    namespace: str
    created: float
    number: int
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


class Files:
    """Everything below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("jobs", "pods", "claims"):
            (root / name).mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        self._known_jobs: dict[Path, tuple[tuple[int, int], JobRecord]] = {}
        self._known_pods: dict[str, PodRecord] = {}
        with self.locked():
            for half in root.glob("pods/.*"):  # made or removed halfway by a controller that was killed
                shutil.rmtree(half, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One step at a time, over all controllers of this folder."""
        with (self.root / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def jobs(self) -> list[JobRecord]:
        """All Jobs, oldest first."""
        found = {file: self._read_job(file) for file in self.root.glob("jobs/*/[!.]*")}
        self._known_jobs = {file: self._known_jobs[file] for file in found}
        return sorted(found.values(), key=lambda job: (job.created, job.name))

    def job(self, namespace: str, name: str) -> JobRecord | None:
        """One Job."""
        file = self._job_file(namespace, name)
        return self._read_job(file) if file.exists() else None

    def save(self, job: JobRecord) -> None:
        """Write a Job's file."""
        write(self._job_file(job.namespace, job.name), json.dumps(asdict(job)))

    def forget(self, job: JobRecord) -> None:
        """Remove a Job with its pods' folders."""
        for pod in self.pods_of(job.uid):
            gone = self._beside(pod.uid)  # first out of sight in one step, then removed
            self.folder(pod.uid).replace(gone)
            shutil.rmtree(gone, ignore_errors=True)
        self._job_file(job.namespace, job.name).unlink(missing_ok=True)

    def pods(self) -> dict[str, list[PodRecord]]:
        """Job uid -> its pods, oldest first."""
        found: dict[str, list[PodRecord]] = {}
        uids = [uid for uid in os.listdir(self.root / "pods") if not uid.startswith(".")]  # noqa: PTH208 (many)
        self._known_pods = {uid: self._known_pods.get(uid) or self._read_pod(uid) for uid in uids}
        for pod in self._known_pods.values():
            found.setdefault(pod.job_uid, []).append(pod)
        for pods in found.values():
            pods.sort(key=lambda pod: pod.number)
        return found

    def pods_of(self, job_uid: str) -> list[PodRecord]:
        """One Job's pods."""
        return self.pods().get(job_uid, [])

    def add(self, pod: PodRecord) -> None:
        """Make a pod's folder; it appears with everything in it or not at all."""
        beside = self._beside(pod.uid)
        for name in ("home", "volumes"):
            (beside / name).mkdir(parents=True)
        for name in ("alive", "log", "termination"):
            (beside / name).touch(0o600)
        (beside / "pod").write_text(json.dumps(asdict(pod)))
        beside.replace(self.folder(pod.uid))

    def folder(self, pod_uid: str) -> Path:
        """A pod's folder."""
        return self.root / "pods" / pod_uid

    def _beside(self, pod_uid: str) -> Path:
        return self.root / "pods" / f".{pod_uid}"

    def _read_job(self, file: Path) -> JobRecord:
        """From memory while the file is the same: every write makes a new one."""
        found = file.stat()
        mark = (found.st_ino, found.st_mtime_ns)
        known = self._known_jobs.get(file)
        if known is None or known[0] != mark:
            known = self._known_jobs[file] = (mark, JobRecord(**json.loads(file.read_text())))
        return replace(known[1])

    def _read_pod(self, uid: str) -> PodRecord:
        return PodRecord(**json.loads((self.folder(uid) / "pod").read_text()))

    def _job_file(self, namespace: str, name: str) -> Path:
        return self.root / "jobs" / namespace / name


def write(file: Path, text: str) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{uuid4().hex}")
    beside.write_text(text)
    beside.replace(file)


def read(file: Path) -> str:
    """The text, empty when there is no such file; what is not UTF-8 is replaced."""
    try:
        return file.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def hold(file: Path) -> int | None:
    """An inheritable descriptor that holds the lock on a file; None when somebody alive holds it."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def record_of(manifest: Mapping[str, Any], now: float) -> JobRecord:
    """The record of a new Job. Raises Refused."""
    try:
        metadata = manifest["metadata"]
        if manifest["kind"] != "Job" or not manifest["spec"]["template"]["spec"]["containers"]:
            raise Refused(f"a Job with a container is wanted, not {manifest['kind']!r}")
        name, namespace = str(metadata["name"]), str(metadata.get("namespace") or "default")
    except (KeyError, TypeError) as error:
        raise Refused(f"the manifest is no whole Job: {error!r} is missing") from error
    if not all(part and set(part) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for part in (name, namespace)):
        raise Refused(f"{namespace}/{name}: names are lower-case letters, digits and '-'")
    return JobRecord(name, namespace, str(uuid4()), now, dict(manifest))


def new_pod(job: JobRecord, number: int, now: float) -> PodRecord:
    """The record of a Job's next pod."""
    metadata = job.manifest["spec"]["template"].get("metadata") or {}
    own = {labels.JOB_UID: job.uid, labels.JOB_NAME: job.name, "job-name": job.name}
    uid = str(uuid4())
    return PodRecord(
        name=f"{job.name[:57]}-{uid[:5]}",
        uid=uid,
        job_uid=job.uid,
        namespace=job.namespace,
        created=now,
        number=number,
        labels={**(metadata.get("labels") or {}), **own},
        annotations=dict(metadata.get("annotations") or {}),
    )
