"""Events on Jobs, for people who look with kubectl: one object for each Job and reason, counted up when it returns.

core/v1 Events, which `kubectl describe job` shows; they go by themselves after an hour
(https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/). Best effort: an Event that cannot be
written costs a line in the log, never a task.
"""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

import msgspec

from controller.cluster.interface import ClusterError
from controller.cluster.kube_objects import Incident
from controller.cluster.kubernetes import PATCH, Api, ApiError, events_path
from controller.state import JobFacts

log = logging.getLogger("podstrap.controller")

_MESSAGE_LENGTH = 1024
"""Kubernetes' own limit for an Event's message."""
_READ_SECONDS = 5.0
COMPONENT = "podstrap"


class Events:
    """Writes Events, or nothing when it is switched off (settings `kubernetesEvents`)."""

    def __init__(self, api: Api, instance: str, *, wanted: bool = True) -> None:
        self._api = api
        self._instance = instance
        self._wanted = wanted
        self._complained = ""

    def record(self, job: JobFacts, word: str, message: str, *, warning: bool) -> None:
        """Record it; raises nothing."""
        if not self._wanted:
            return
        try:
            self._record(job, word, message.strip()[:_MESSAGE_LENGTH], warning=warning)
            self._complained = ""
        except ClusterError as error:
            kind = f"{type(error).__name__} {getattr(error, 'status', '')}"
            if kind != self._complained:
                log.warning("no-event job=%s reason=%s error=%r", job.name, word, str(error))
            self._complained = kind

    def _record(self, job: JobFacts, word: str, message: str, *, warning: bool) -> None:
        name = f"{job.name}.{job.uid[:8]}.{word.lower()}"
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = events_path(job.namespace)
        try:
            self._api.request("POST", path, None, self._event(job, name, word, message, now, warning=warning))
        except ApiError as error:
            if error.status == 404:
                return  # the namespace is gone
            if error.status != 409:
                raise
            raw = self._api.request("GET", events_path(job.namespace, name), read_seconds=_READ_SECONDS)
            count = msgspec.json.decode(raw, type=Incident).count + 1
            body = {"count": count, "lastTimestamp": now, "message": message}
            self._api.request("PATCH", events_path(job.namespace, name), None, body, content_type=PATCH)

    def _event(
        self, job: JobFacts, name: str, word: str, message: str, now: str, *, warning: bool
    ) -> dict[str, Any]:  # fmt: skip
        about = {"apiVersion": "batch/v1", "kind": "Job", "namespace": job.namespace, "name": job.name, "uid": job.uid}
        return {
            "metadata": {"name": name, "namespace": job.namespace},
            "involvedObject": about,
            "reason": word,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
