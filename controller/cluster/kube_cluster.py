"""Kubernetes as the controller's cluster: Jobs and pods from watches, changes by single requests.

A snapshot costs no request. It never shows less than the API server said to us: a Job that we made is in it from
the answer to our POST on, before the watch has told of it, so that no limit is overrun by our own creations.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from controller import injection
from controller.cluster.interface import ClusterError, NameTaken, Refused, same_job
from controller.cluster.kube_events import Events
from controller.cluster.kube_objects import Job, Pod, Version, job_facts
from controller.cluster.kube_store import Store
from controller.cluster.kube_watch import Watch
from controller.cluster.kube_why import Explainer
from controller.cluster.kubernetes import PATCH, Api, ApiError, jobs_path, pods_path
from controller.job_template_keys import CONTAINER
from controller.state import IMAGE_VOLUME, INIT_CONTAINER, ClusterState, JobFacts, PodFacts
from protocol import labels

log = logging.getLogger("podstrap.controller")

_PATIENCE_SECONDS = 20.0
"""A watch that fails for longer than this makes a snapshot unusable."""
_FIRST_SYNC_SECONDS = 30.0
_LOG_BYTES = 32 * 1024
_NO_VOLUME_TYPE = "must specify a volume type"
"""What an API server says of an image volume when its feature gate is off: it drops the field unseen."""
_GATE_OFF = "this API server takes no image volumes: the Job is made with an init container in the next round"


class KubernetesCluster:
    """Jobs of one controller instance in the namespaces of its queues."""

    def __init__(
        self, api: Api, instance: str, namespaces: Iterable[str], home: str, *, events: bool = True
    ) -> None:  # fmt: skip
        self._api = api
        self._events = Events(api, instance, wanted=events)
        self._home = home
        self._changed = threading.Event()
        self._store = Store(self._changed)
        self._explainer = Explainer(api)
        self._injections: tuple[str, ...] = ()
        selector = ",".join(
            f"{key}={value}"
            for key, value in ((labels.MANAGED_BY, labels.MANAGED_BY_VALUE), (labels.CONTROLLER, instance))
        )
        self._selector = selector
        self._watches: list[Watch[Any]] = []
        self._covered: set[str] = set()
        self._watch(namespaces)

    def cover(self, namespaces: Iterable[str]) -> None:
        """Watch these too, once they have been listed: a namespace without a Role must not blind all others."""
        new = set(namespaces) - self._covered
        for namespace in sorted(new):
            for path in (pods_path(namespace), jobs_path(namespace)):
                self._api.request("GET", path, {"labelSelector": self._selector, "limit": 1})
        self._watch(new)

    def _watch(self, namespaces: Iterable[str]) -> None:
        begun: list[Watch[Any]] = []
        for namespace in sorted(set(namespaces)):
            pods, jobs = self._store.pods(namespace), self._store.jobs(namespace)
            begun.append(Watch(self._api, pods_path(namespace), self._selector, Pod, pods))
            begun.append(Watch(self._api, jobs_path(namespace), self._selector, Job, jobs))
            self._covered.add(namespace)
        for watch in begun:
            watch.start()
        self._watches += begun

    def close(self) -> None:
        """Stop watching."""
        for watch in self._watches:
            watch.stop()

    def snapshot(self) -> ClusterState:
        """What the watches know. Raises ClusterError while one of them cannot be relied on."""
        end = time.monotonic() + _FIRST_SYNC_SECONDS
        for watch in self._watches:
            watch.synced(end - time.monotonic())
            if why := watch.trouble(_PATIENCE_SECONDS):
                raise ClusterError(f"the state of the cluster is not known: {why}")
        self._changed.clear()
        self._explainer.look()
        jobs = tuple(self._explainer.explained(job) for job in self._store.facts())
        return ClusterState(jobs, self._home, self._ways_to_inject())

    def create(self, manifest: Mapping[str, Any]) -> bool:
        """POST, strict about unknown fields. Raises Refused with the server's words, NameTaken, ClusterError."""
        namespace, name = str(manifest["metadata"]["namespace"]), str(manifest["metadata"]["name"])
        try:
            raw = self._api.request("POST", jobs_path(namespace), {"fieldValidation": "Strict"}, manifest)
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return self._exists(namespace, name, manifest)
            if self._takes_no_image_volumes(error, manifest):
                raise ClusterError(f"{_GATE_OFF}: {error.said}") from error
            raise _refused(error, namespace) from error
        self._store.created(job_facts(msgspec.json.decode(raw, type=Job)))
        return True

    def probe(self, manifest: Mapping[str, Any]) -> None:
        """The same POST as a dry run: schema, validation and admission look at it, nothing is stored."""
        namespace = str(manifest["metadata"]["namespace"])
        try:
            self._api.request("POST", jobs_path(namespace), {"fieldValidation": "Strict", "dryRun": "All"}, manifest)
        except ApiError as error:
            raise _refused(error, namespace) from error

    def stop(self, job: JobFacts, mark: str = "") -> None:
        """`spec.suspend`: its controller deletes its pods and makes no new ones; the object stays."""
        annotations = {"annotations": {labels.STOPPED_BECAUSE: mark}} if mark else {}
        body = {"metadata": {"uid": job.uid, **annotations}, "spec": {"suspend": True}}
        self._change("PATCH", job, body, PATCH)

    def give_up(self, job: JobFacts, pod: PodFacts, why: str) -> None:
        """As Kubernetes' own garbage collection does on a node tainted out-of-service: failed, then removed."""
        path = pods_path(job.namespace, pod.name)
        status = {"metadata": {"uid": pod.uid}, "status": {"phase": "Failed", "reason": "NodeLost", "message": why}}
        gone = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        try:
            self._api.request("PATCH", f"{path}/status", None, status, content_type=PATCH)
            self._api.request("DELETE", path, None, gone)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def note(self, job: JobFacts, text: str) -> None:
        """An annotation, seen in the next snapshot."""
        body = {"metadata": {"uid": job.uid, "annotations": {labels.TOLD: text}}}
        if raw := self._change("PATCH", job, body, PATCH):
            self._store.put_job(job.namespace, msgspec.json.decode(raw, type=Job))

    def event(self, job: JobFacts, word: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event on the Job."""
        self._events.record(job, word, message, warning=warning)

    def delete(self, job: JobFacts) -> None:
        """Foreground: the object stays, deleting, until its pods are gone."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": job.uid}}
        self._change("DELETE", job, body, "application/json")

    def wait(self, seconds: float) -> bool:
        """Until a Job or pod changed in a way that a round should look at."""
        return self._changed.wait(seconds)

    def tail(self, namespace: str, pod: str, lines: int) -> str:
        """The end of the task container's log; empty when there is none to be had."""
        query = {"container": CONTAINER, "tailLines": lines, "limitBytes": _LOG_BYTES}
        try:
            raw = self._api.request("GET", f"{pods_path(namespace, pod)}/log", query, read_seconds=5.0)
        except ClusterError as error:
            log.debug("no-log pod=%s error=%r", pod, str(error))
            return ""
        return raw.decode("utf-8", "replace")

    def _ways_to_inject(self) -> tuple[str, ...]:
        """Asked once; a server that does not tell its version gets what every version can."""
        if not self._injections:
            try:
                version = msgspec.json.decode(self._api.request("GET", "/version"), type=Version).number
            except ApiError as error:
                if error.status not in (401, 403, 404):
                    raise  # it is busy: nothing is known yet
                log.warning("no-version error=%r why='image volumes are not used'", str(error))
                version = (0, 0)
            self._injections = injection.offered(version)
        return self._injections

    def _takes_no_image_volumes(self, error: ApiError, manifest: Mapping[str, Any]) -> bool:
        """Learned from its answer, for this controller's life; the next one learns it anew."""
        asked = (manifest["metadata"].get("annotations") or {}).get(labels.INJECTION) == IMAGE_VOLUME
        if error.status != 422 or not asked or _NO_VOLUME_TYPE not in error.said:
            return False
        self._injections = (INIT_CONTAINER,)
        return True

    def _exists(self, namespace: str, name: str, manifest: Mapping[str, Any]) -> bool:
        try:
            raw = self._api.request("GET", jobs_path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                raise ClusterError(f"Job {namespace}/{name} has just vanished: it is made in the next round") from error
            raise
        known = msgspec.json.decode(raw, type=Job)
        if not same_job(known.metadata.labels, manifest["metadata"].get("labels") or {}):
            raise NameTaken(f"a Job {namespace}/{name} exists that belongs to another task or queue entry")
        if known.metadata.deletionTimestamp:
            raise ClusterError(f"Job {namespace}/{name} is being deleted: it is made when it has gone")
        self._store.created(job_facts(known))
        return False

    def _change(self, method: str, job: JobFacts, body: Any, content_type: str) -> bytes:
        """The answer; empty when the Job is gone, or is another of this name: then the uid is not ours."""
        try:
            return self._api.request(method, jobs_path(job.namespace, job.name), None, body, content_type=content_type)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return b""


def _refused(error: ApiError, namespace: str) -> ClusterError:
    """Refused where the answer is about the manifest; else the error as it is."""
    if error.status not in (400, 403, 404, 409, 413, 422):
        return error
    return Refused(_refusal(error, namespace), causes=error.causes)


def _refusal(error: ApiError, namespace: str) -> str:
    if error.status == 404:
        return f"namespace {namespace} does not exist ({error.said})"
    if error.status == 403 and "cannot create resource" in error.said:
        return f"the controller may not make Jobs in namespace {namespace}: {error.said}"
    return error.said or str(error)
