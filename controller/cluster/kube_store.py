"""What the watches have seen, joined: each Job with its pods. Threads put, the controller's round reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from controller.cluster.kube_objects import Job, Pod, job_facts, job_of_pod, kept_annotations, kept_labels, pod_facts
from controller.state import FINISHED_PHASES, JobFacts, PodFacts
from protocol import labels


@dataclass(frozen=True)
class _Owned:
    """A pod and what makes a Job of it when its Job's object is gone."""

    facts: PodFacts
    job_uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Store:
    """All namespaces of one controller. `changed` is set when something happened that a round should look at."""

    def __init__(self, changed: threading.Event) -> None:
        self._lock = threading.Lock()
        self._changed = changed
        self._jobs: dict[str, dict[str, JobFacts]] = {}
        """Namespace -> uid -> Job without pods."""
        self._pods: dict[str, dict[str, _Owned]] = {}
        self._pods_of: dict[str, dict[str, PodFacts]] = {}
        """Job uid -> pod uid -> pod."""
        self._gone: dict[str, PodFacts] = {}
        """Job uid -> the last pod of it whose object is gone while the Job's is not."""
        self._made: dict[str, tuple[float, JobFacts]] = {}
        """Jobs that we made and no watch has told of yet, and when (monotonic seconds)."""
        self._joined: dict[str, JobFacts] = {}

    def jobs(self, namespace: str) -> JobsOf:
        """The side of a namespace's watch of Jobs."""
        with self._lock:
            self._jobs[namespace] = {}
        return JobsOf(self, namespace)

    def pods(self, namespace: str) -> PodsOf:
        """The side of a namespace's watch of pods."""
        with self._lock:
            self._pods[namespace] = {}
        return PodsOf(self, namespace)

    def created(self, job: JobFacts) -> None:
        """The API server has answered with this Job."""
        with self._lock:
            if job.uid not in self._jobs.get(job.namespace, {}):
                self._made[job.uid] = (time.monotonic(), job)

    def facts(self) -> Iterator[JobFacts]:
        """Every Job with its pods, and those that are gone but for their pods."""
        with self._lock:
            known = [job for jobs in self._jobs.values() for job in jobs.values()]
            known += [job for _, job in self._made.values()]
            found = [self._join(job) for job in known]
            uids = {job.uid for job in known}
            found += self._ghosts(uids)
        return iter(found)

    def _join(self, job: JobFacts) -> JobFacts:
        """Cached: ten thousand Jobs of which one changed cost one."""
        joined = self._joined.get(job.uid)
        if joined is None:
            pods = [*self._pods_of.get(job.uid, {}).values()]
            gone = self._gone.get(job.uid)
            pods += [gone] if gone else []
            pods.sort(key=lambda pod: (pod.created.timestamp() if pod.created else 0.0, pod.may_act))
            joined = self._joined[job.uid] = replace(job, pods=tuple(pods))
        return joined

    def _ghosts(self, known: set[str]) -> list[JobFacts]:
        ghosts: dict[str, JobFacts] = {}
        for pods in self._pods.values():
            for pod in pods.values():
                if pod.job_uid in known or not pod.job_uid or not pod.facts.may_act:
                    continue
                ghost = ghosts.get(pod.job_uid) or job_of_pod(pod.facts, pod.labels, pod.annotations)
                ghosts[pod.job_uid] = replace(ghost, pods=(*ghost.pods, pod.facts))
        return list(ghosts.values())

    # What the watches call

    def put_job(self, namespace: str, job: Job) -> None:
        facts = job_facts(job)
        with self._lock:
            self._made.pop(facts.uid, None)
            before = self._jobs[namespace].get(facts.uid)
            self._jobs[namespace][facts.uid] = facts
            self._joined.pop(facts.uid, None)
        if before is None or _job_mark(before) != _job_mark(facts):
            self._look(before is not None or facts.end is not None)

    def drop_job(self, namespace: str, uid: str) -> None:
        with self._lock:
            self._forget(namespace, uid)
        self._look(True)

    def replace_jobs(self, namespace: str, found: Mapping[str, Job], began: float) -> None:
        """A whole list. A Job of ours that it lacks was deleted, unless we made it after the list began."""
        with self._lock:
            for uid in [uid for uid in self._jobs[namespace] if uid not in found]:
                self._forget(namespace, uid)
            for uid, (made, job) in list(self._made.items()):
                if job.namespace == namespace and (uid in found or made < began):
                    del self._made[uid]
            self._jobs[namespace] = {uid: job_facts(job) for uid, job in found.items()}
            self._joined.clear()
        self._look(True)

    def put_pod(self, namespace: str, pod: Pod) -> None:
        owned = _owned(pod)
        with self._lock:
            before = self._pods[namespace].get(owned.facts.uid)
            self._keep(namespace, owned)
        if before is None or _pod_mark(before.facts) != _pod_mark(owned.facts):
            self._look(before is not None or not owned.facts.may_act)

    def drop_pod(self, namespace: str, pod: Pod) -> None:
        """Its object is gone: nothing of it acts any more, as far as Kubernetes can say."""
        owned = _owned(pod)
        with self._lock:
            self._pods[namespace].pop(owned.facts.uid, None)
            self._pods_of.get(owned.job_uid, {}).pop(owned.facts.uid, None)
            self._joined.pop(owned.job_uid, None)
            if owned.job_uid in self._jobs[namespace]:
                facts = owned.facts
                self._gone[owned.job_uid] = replace(facts, phase="Failed") if facts.may_act else facts
            elif not self._pods_of.get(owned.job_uid):
                self._pods_of.pop(owned.job_uid, None)
        self._look(True)

    def replace_pods(self, namespace: str, found: Mapping[str, Pod]) -> None:
        with self._lock:
            for owned in self._pods[namespace].values():
                self._pods_of.get(owned.job_uid, {}).pop(owned.facts.uid, None)
            self._pods[namespace] = {}
            self._joined.clear()
            for pod in found.values():
                self._keep(namespace, _owned(pod))
        self._look(True)

    def _keep(self, namespace: str, owned: _Owned) -> None:
        self._pods[namespace][owned.facts.uid] = owned
        self._pods_of.setdefault(owned.job_uid, {})[owned.facts.uid] = owned.facts
        self._joined.pop(owned.job_uid, None)

    def _forget(self, namespace: str, uid: str) -> None:
        self._jobs[namespace].pop(uid, None)
        for kept in (self._made, self._gone, self._joined):
            kept.pop(uid, None)
        if not self._pods_of.get(uid):
            self._pods_of.pop(uid, None)

    def _look(self, matters: bool) -> None:
        if matters:
            self._changed.set()


@dataclass(frozen=True)
class JobsOf:
    """kube_watch.Store of Jobs."""

    store: Store
    namespace: str

    def replace(self, found: dict[str, Job], began: float) -> None:
        self.store.replace_jobs(self.namespace, found, began)

    def put(self, one: Job) -> None:
        self.store.put_job(self.namespace, one)

    def drop(self, one: Job) -> None:
        self.store.drop_job(self.namespace, one.metadata.uid)


@dataclass(frozen=True)
class PodsOf:
    """kube_watch.Store of pods."""

    store: Store
    namespace: str

    def replace(self, found: dict[str, Pod], began: float) -> None:  # noqa: ARG002  (the Jobs' side needs it)
        self.store.replace_pods(self.namespace, found)

    def put(self, one: Pod) -> None:
        self.store.put_pod(self.namespace, one)

    def drop(self, one: Pod) -> None:
        self.store.drop_pod(self.namespace, one)


def _owned(pod: Pod) -> _Owned:
    found = pod.metadata.labels
    uid = found.get(labels.JOB_UID, "")
    of_job = {labels.JOB_UID: uid, labels.JOB_NAME: found.get(labels.JOB_NAME, "")}
    return _Owned(pod_facts(pod), uid, {**kept_labels(found), **of_job}, kept_annotations(pod.metadata))


def _job_mark(job: JobFacts) -> object:
    return (job.end, job.stopped, job.stopping, job.deleting, job.pods_expected == 0)


def _pod_mark(pod: PodFacts) -> object:
    """Changes when a round has something to do: an end, a deletion, another reason to wait."""
    return (pod.phase in FINISHED_PHASES, pod.deleting, pod.waiting_reason, pod.waiting_message, pod.exit_code)
