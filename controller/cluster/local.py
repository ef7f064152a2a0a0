"""A cluster on this machine: the very Job manifests that Kubernetes would get, run as processes.

State lies in a folder (local_files.py); each pod runs under its own small shim (shim.py), so pods outlive a killed
controller and a restarted one just goes on. Every call first takes one level-triggered step over all Jobs, under a
lock: pods that ended are seen, Jobs end or make their next pod as Kubernetes' would (local_rules.py), deadlines and
ttlSecondsAfterFinished pass. Needs Linux (subreaper, pidfd).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from controller.cluster.interface import ClusterError, NameTaken, same_job
from controller.cluster.local_facts import LOST, Ended, job_facts, pod_facts, write_exit
from controller.cluster.local_files import Files, JobRecord, PodRecord, hold, new_pod, read, record_of, write
from controller.cluster.local_pod import CannotStart, container_of, outer_environment
from controller.cluster.local_rules import end_of
from controller.state import ClusterState, JobEnd, JobFacts, PodFacts
from protocol import environment as names
from protocol import labels

_SHIM = Path(__file__).with_name("shim.py")
_GRACE_SECONDS = 30
_LONGEST_BACKOFF_SECONDS = 1.0
_LOG_TAIL_BYTES = 64 * 1024


class LocalCluster:
    """Runs Jobs in `root`. `secrets`: what secretKeyRefs resolve to, by key or by the variable's name."""

    def __init__(
        self,
        root: Path,
        secrets: Mapping[str, str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._files = Files(root.absolute())
        self._secrets = dict(secrets or {})
        self._environ = dict(environ) if environ is not None else outer_environment()
        self._clock = clock
        self._shims: list[subprocess.Popen[bytes]] = []
        self._watched: dict[str, int] = {}
        self._due = float("inf")
        self._ended: dict[str, JobFacts] = {}

    def snapshot(self) -> ClusterState:
        """One step, then everything as it is."""
        with self._step():
            pods = self._files.pods()
            found = tuple(self._facts(job, pods.get(job.uid, [])) for job in self._files.jobs())
            self._ended = {job.uid: job for job in found if job.end}
            return ClusterState(found)

    def create(self, manifest: Mapping[str, Any]) -> bool:
        """Take the Job; its pod starts before this returns."""
        job = record_of(manifest, self._clock())
        with self._locked():
            known = self._files.job(job.namespace, job.name)
            if known is None:
                self._files.save(job)
            elif same_job(known.manifest["metadata"].get("labels") or {}, manifest["metadata"].get("labels") or {}):
                return False
            else:
                raise NameTaken(f"a Job {job.namespace}/{job.name} exists that belongs to another task or queue entry")
            self._advance(job, [])
        return True

    def stop(self, job: JobFacts, mark: str = "") -> None:
        """No more pods; those there are get SIGTERM."""
        self._change(job.namespace, job.name, job.uid, stopped=True, note=(labels.STOPPED_BECAUSE, mark))

    def give_up(self, job: JobFacts, pod: PodFacts, why: str) -> None:
        """No pod here is on a node that could be lost without this controller."""

    def note(self, job: JobFacts, text: str) -> None:
        """An annotation in the Job's file."""
        self._change(job.namespace, job.name, job.uid, note=(labels.TOLD, text))

    def event(self, job: JobFacts, word: str, message: str, *, warning: bool) -> None:
        """Nobody looks for Events here: the controller's log has them."""

    def delete(self, job: JobFacts) -> None:
        """The Job vanishes when its pods are gone."""
        self._change(job.namespace, job.name, job.uid, deleting=True)

    def evict(self, pod_uid: str) -> None:
        """Take a pod away as the Eviction API does: its Job makes another."""
        with self._step():
            self._take(pod_uid, "EvictionByEvictionAPI")

    def tail(self, namespace: str, pod: str, lines: int) -> str:
        """The last lines of a pod's log."""
        with self._locked():
            found = [one for pods in self._files.pods().values() for one in pods if one.name == pod]
        for one in found:
            if one.namespace == namespace:
                file = self._files.folder(one.uid) / "log"
                with suppress(FileNotFoundError), file.open("rb") as log:
                    log.seek(max(0, file.stat().st_size - _LOG_TAIL_BYTES))
                    return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])
        return ""

    def probe(self, manifest: Mapping[str, Any]) -> None:
        """Processes of this machine use little of a manifest: nobody judges the rest."""

    def cover(self, namespaces: Iterable[str]) -> None:
        """All are seen: they are names only."""

    def wait(self, seconds: float) -> bool:
        """Until a pod ends or something is due; woken by the kernel, not by polling."""
        due = self._due - self._clock()
        poller = select.poll()
        for descriptor in self._watched.values():
            poller.register(descriptor, select.POLLIN)
        ended = poller.poll(max(0.0, min(seconds, due)) * 1000)
        return bool(ended) or due <= seconds

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._files.locked():
                yield
        except (OSError, ValueError) as error:
            raise ClusterError(f"the local cluster's folder {self._files.root} cannot be used: {error}") from error

    @contextmanager
    def _step(self) -> Iterator[None]:
        with self._locked():
            self._advance_all()
            yield

    def _change(
        self, namespace: str, name: str, uid: str, *, stopped: bool = False, deleting: bool = False,
        note: tuple[str, str] = ("", ""),
    ) -> None:  # fmt: skip
        with self._locked():
            job = self._files.job(namespace, name)
            if job is None or job.uid != uid:
                return
            job.stopped, job.deleting = job.stopped or stopped, job.deleting or deleting
            if note[1]:
                job.manifest["metadata"].setdefault("annotations", {})[note[0]] = note[1]
            self._files.save(job)
            self._advance(job, self._files.pods_of(uid))

    # One step

    def _advance_all(self) -> None:
        self._due = float("inf")
        self._shims = [shim for shim in self._shims if shim.poll() is None]
        pods = self._files.pods()
        living: set[str] = set()
        for job in self._files.jobs():
            living |= self._advance(job, pods.get(job.uid, []))
        for uid in [uid for uid in self._watched if uid not in living]:
            os.close(self._watched.pop(uid))

    def _advance(self, job: JobRecord, pods: list[PodRecord]) -> set[str]:
        """Carry one Job on as far as it goes now; the uids of its pods that live."""
        if job.end:  # it ended when no pod of it lived any more
            if job.deleting or self._ttl_is_over(job):
                self._files.forget(job)
            return set()
        living = {pod.uid for pod in pods if self._lives(job, pod)}
        self._watch(living)
        if living:
            self._pass_deadline(job)
            if job.deleting or job.stopped or job.failing:
                for uid in living:
                    self._take(uid, "")
            return living
        if job.deleting:
            self._files.forget(job)
            return set()
        return self._next(job, pods)

    def _next(self, job: JobRecord, pods: list[PodRecord]) -> set[str]:
        """No pod of an unfinished Job lives: it ends, or makes its next pod."""
        facts = [pod_facts(self._files, job, pod) for pod in pods]
        end = end_of(job.spec, facts) if facts else None
        self._pass_deadline(job)
        if job.failing and not (end and end.succeeded):
            end = JobEnd(succeeded=False, reason=job.failing, message=_deadline_words(job))
        if end:
            at = end.at.timestamp() if end.at else self._clock()
            job.end = {"succeeded": end.succeeded, "reason": end.reason, "message": end.message, "at": at}
            self._files.save(job)
            self._ttl_is_over(job)
            return set()
        if job.stopped:
            return set()
        if wait := self._backoff(facts):
            self._due = min(self._due, self._clock() + wait)
            return set()
        pod = new_pod(job, len(pods), self._clock())
        self._files.add(pod)
        living = {pod.uid} if self._lives(job, pod) else set()
        self._watch(living)
        if not living:
            self._due = self._clock()
        return living

    def _backoff(self, pods: list[PodFacts]) -> float:
        """Seconds before the next pod: none before the first replacement, then doubling up to a second."""
        if len(pods) < 2 or pods[-1].finished is None:
            return 0.0
        pause = min(_LONGEST_BACKOFF_SECONDS, 0.05 * 2.0 ** len(pods))
        return max(0.0, pods[-1].finished.timestamp() + pause - self._clock())

    def _pass_deadline(self, job: JobRecord) -> None:
        seconds = job.spec.get("activeDeadlineSeconds")
        if seconds is None or job.failing or job.end:
            return
        deadline = job.created + float(seconds)
        if self._clock() >= deadline:
            job.failing = "DeadlineExceeded"
            self._files.save(job)
        else:
            self._due = min(self._due, deadline)

    def _ttl_is_over(self, job: JobRecord) -> bool:
        seconds = job.spec.get("ttlSecondsAfterFinished")
        if job.end is None or seconds is None:
            return False
        due = float(job.end["at"]) + float(seconds)
        if due > self._clock():
            self._due = min(self._due, due)
        return due <= self._clock()

    # Pods

    def _lives(self, job: JobRecord, pod: PodRecord) -> bool:
        """Whether anything of the pod may still act. Starts a pod that never started; clears up after a lost shim."""
        folder = self._files.folder(pod.uid)
        if (folder / "exit").exists():
            return False
        lock = hold(folder / "alive")
        if lock is None:
            return True
        try:
            if (folder / "exit").exists():  # written between the two looks
                return False
            if (folder / "started").exists():
                return not self._bury(pod)
            if (folder / "taken").exists():
                write_exit(folder, Ended(137, 9, self._clock(), "Deleted", "deleted before it started"))
                return False
            return self._start(job, pod, lock)
        finally:
            os.close(lock)

    def _start(self, job: JobRecord, pod: PodRecord, lock: int) -> bool:
        """Start the shim, which inherits the lock: it is held from before the start to the shim's end."""
        folder = self._files.folder(pod.uid)
        try:
            container = container_of(job, pod, self._files, self._secrets, self._environ)
        except CannotStart as error:
            ended = Ended(128, 0, self._clock(), "CreateContainerConfigError", str(error))
            write_exit(folder, ended)
            return False
        grace = job.pod_spec.get("terminationGracePeriodSeconds")
        grace = _GRACE_SECONDS if grace is None else grace
        command = [sys.executable, "-I", "-S", str(_SHIM), str(folder), str(grace), str(lock), "--", *container.argv]
        shim = subprocess.Popen(
            command, env=dict(container.environment), cwd=container.folder, pass_fds=[lock], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._shims.append(shim)
        self._watch_pid(pod.uid, shim.pid)
        return True

    def _bury(self, pod: PodRecord) -> bool:
        """The shim vanished (kill -9, reboot): kill what is left of the pod, then it has failed. False: not yet."""
        mark = f"{names.POD_UID}={pod.uid}".encode()
        left = list(_processes_with(mark))
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if left and any(_processes_with(mark)):
            self._due = self._clock() + 0.05
            return False
        message = "the process above the pod vanished"
        write_exit(self._files.folder(pod.uid), Ended(137, 9, self._clock(), LOST, message))
        return True

    def _take(self, pod_uid: str, disruption: str) -> None:
        """Tell a pod to go: SIGTERM, and SIGKILL after its grace (the shim sees to that). Idempotent."""
        folder = self._files.folder(pod_uid)
        if not folder.exists() or (folder / "exit").exists():
            return
        if not (folder / "taken").exists():
            write(folder / "taken", disruption)
        if started := read(folder / "started").split():
            with suppress(ProcessLookupError):
                os.kill(int(started[0]), signal.SIGTERM)
        else:
            self._due = self._clock() + 0.02

    def _watch(self, living: set[str]) -> None:
        for uid in living - set(self._watched):
            if started := read(self._files.folder(uid) / "started").split():
                self._watch_pid(uid, int(started[0]))

    def _watch_pid(self, uid: str, pid: int) -> None:
        with suppress(ProcessLookupError):
            self._watched[uid] = os.pidfd_open(pid)

    # Facts

    def _facts(self, job: JobRecord, pods: list[PodRecord]) -> JobFacts:
        known = self._ended.get(job.uid)
        if known and (known.stopped, known.deleting) == (job.stopped, job.deleting):
            return known
        return job_facts(self._files, job, pods)


def _deadline_words(job: JobRecord) -> str:
    return f"it ran longer than activeDeadlineSeconds {job.spec.get('activeDeadlineSeconds')}"


def _processes_with(mark: bytes) -> Iterator[int]:
    """Processes whose environment at their start had this variable; not zombies."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)
