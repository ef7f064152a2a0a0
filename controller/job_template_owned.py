"""What podstrap owns in a Job: who it is, the variables that tell the pod, its folders, and when it is made again.

No secret stands here: ClearML's keys come to the pod by reference to a Secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clearml_api.models import Task
from controller.injection import baked
from controller.job_template_injection import Injected, parts
from controller.job_template_keys import CONTAINER
from controller.job_template_reserved import KEYS
from controller.merge import merged
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.state import INIT_CONTAINER
from protocol import environment as variables
from protocol import exit_codes, labels
from protocol.names import added_millis, job_name

HISTORY = labels.PREFIX + "history"
"""Annotation: a line for each earlier attempt."""
DOCKER_NOTES = labels.PREFIX + "docker-arguments"
"""Annotation: docker arguments of the task that do nothing in its pod, and why."""
TERMINATION_LOG = "/dev/termination-log"
_MAX_ANNOTATION = 8192
"""Characters; Kubernetes takes 256 KiB over all annotations of an object."""
_MAX_NOTE = 500
_DEFAULT_GRACE_SECONDS = 30
_HISTORY_LINES = 10
_HISTORY_LINE = 300
"""Characters."""
_DOWNWARD = {
    variables.POD_NAME: "metadata.name",
    variables.POD_UID: "metadata.uid",
    variables.NODE_NAME: "spec.nodeName",
    variables.JOB_UID: f"metadata.labels['{labels.JOB_UID}']",
}


@dataclass(frozen=True)
class Attempt:
    """One attempt at one queue entry, and the settings that it is made under."""

    task: Task
    queue_id: str
    queue_name: str
    added: datetime
    attempt: int
    now: datetime
    settings: Settings
    queue: QueueSettings
    history: Sequence[str] = ()
    home: str = ""
    engine: str = "podstrap"
    injection: str = "never"
    """auto, always or never."""
    method: str = INIT_CONTAINER
    """How podstrap is brought into an image, where it is."""
    refused: str = ""
    """Why the image volume of an earlier attempt was refused."""

    @property
    def job_name(self) -> str:
        """The Job's name: the cluster's claim on this attempt."""
        return job_name(self.task.id, self.added, self.attempt, self.settings.pod_name_prefix)

    @property
    def failures(self) -> int:
        """How many attempts before this one the task itself failed."""
        claim = self.task.claim
        return claim.failures if claim and claim.requeued else 0

    @property
    def retries_left(self) -> int:
        """How often it may fail by itself yet; clearml-agent sets the end of its tasks itself."""
        left = self.queue.retry_own_failures - self.failures
        return max(0, left) if self.engine == "podstrap" else 0

    def labels(self) -> dict[str, str]:
        """By which the controller finds and knows its Jobs and pods."""
        return {
            labels.MANAGED_BY: labels.MANAGED_BY_VALUE,
            labels.CONTROLLER: self.settings.instance,
            labels.TASK: self.task.id,
            labels.QUEUE: self.queue_id,
            labels.ADDED: str(added_millis(self.added)),
            labels.ATTEMPT: str(self.attempt),
        }

    def brought(self, image: str) -> str:
        """How podstrap comes into this image: IMAGE_VOLUME, INIT_CONTAINER; empty when it is there."""
        if self.injection == "never" or (self.injection == "auto" and baked(image, self.settings.baked_images)):
            return ""
        return self.method

    def annotations(self, docker_notes: Sequence[str], brought: str) -> dict[str, str]:
        """For people, and the way that podstrap was brought."""
        texts = {
            labels.TASK_NAME: self.task.name,
            labels.QUEUE_NAME: self.queue_name,
            HISTORY: "\n".join(self.history),
            DOCKER_NOTES: "\n".join(docker_notes),
            labels.INJECTION: brought,
        }
        return {key: text.encode("utf-8", "replace").decode()[:_MAX_ANNOTATION] for key, text in texts.items() if text}


def finished(pod: Mapping[str, Any], attempt: Attempt, docker_notes: Sequence[str]) -> dict[str, Any]:
    """The pod template with what podstrap owns laid over everything else; the task's container stands first."""
    settings = attempt.settings
    metadata, spec = pod["metadata"], pod["spec"]
    main, *others = spec["containers"]
    main = {"image": settings.task_image, **main}
    brought = attempt.brought(main["image"])
    injected = parts(brought, settings, main) if brought else Injected(settings.bootstrap_command)
    mounts = [
        {"name": "podstrap-work", "mountPath": settings.work_path},
        {"name": "podstrap-cache", "mountPath": settings.cache.mount_path},
        *injected.mounts,
    ]
    volumes = [
        {"name": "podstrap-work", "emptyDir": {}},
        {"name": "podstrap-cache", **settings.cache.volume},
        *injected.volumes,
    ]
    init_containers = [*injected.init_containers, *(spec.get("initContainers") or [])]
    grace_seconds = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS)
    main = {
        **main,
        "command": list(injected.command),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "env": _with_others(_variables(attempt, grace_seconds, brought, docker_notes), main.get("env") or []),
        "volumeMounts": merged(main.get("volumeMounts") or [], mounts, "volumeMounts"),
    }
    return {
        "metadata": {
            "labels": {**(metadata.get("labels") or {}), **attempt.labels()},
            "annotations": {**(metadata.get("annotations") or {}), **attempt.annotations(docker_notes, brought)},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **spec,
            **({"initContainers": init_containers} if init_containers else {}),
            "containers": [main, *others],
            "volumes": merged(spec.get("volumes") or [], volumes, "volumes"),
            "restartPolicy": "Never",
        },
    }


def failure_policy() -> dict[str, Any]:
    """A disruption or exit 75 makes another pod and is not counted; any other failure ends the Job.

    Rules are tried in order, the first that matches decides; success (0) is never looked at
    (https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy).
    """
    codes = {"containerName": CONTAINER, "values": [exit_codes.DISRUPTED]}
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "Ignore", "onExitCodes": {**codes, "operator": "In"}},
            {"action": "FailJob", "onExitCodes": {**codes, "operator": "NotIn"}},
        ]
    }


def _variables(attempt: Attempt, grace_seconds: int, brought: str, docker_notes: Sequence[str]) -> list[dict[str, Any]]:
    """PODSTRAP_* and ClearML's variables: plain values, the downward API, and Secret references; never a secret."""
    settings, queue = attempt.settings, attempt.queue
    plain = {
        variables.TASK_ID: attempt.task.id,
        variables.QUEUE_ID: attempt.queue_id,
        variables.QUEUE_NAME: attempt.queue_name,
        variables.JOB_NAME: attempt.job_name,
        variables.ATTEMPT: str(attempt.attempt),
        # One that was given up for its image volume does not count: see plan_queues.
        variables.MAX_ATTEMPTS: str(max(queue.max_attempts + attempt.failures, attempt.attempt)),
        variables.FAILURES: str(attempt.failures or ""),
        variables.RETRIES_LEFT: str(attempt.retries_left or ""),
        variables.HISTORY: _history(attempt.history),
        variables.ON_DISRUPTION: queue.on_disruption,
        variables.GRACE_SECONDS: str(grace_seconds),
        variables.CACHE_DIR: settings.cache.mount_path,
        variables.WORK_DIR: settings.work_path,
        variables.TERMINATION_LOG: TERMINATION_LOG,
        variables.PACKAGE_MANAGER: queue.package_manager or settings.package_manager,
        variables.ENGINE: attempt.engine,
        variables.MISSING_PYTHON: queue.missing_python or settings.missing_python,
        variables.RESOLVE_AFTER_HOURS: f"{settings.cache.resolve_after_hours:g}",
        variables.CACHE_MAX_GIB: f"{settings.cache.max_gib:g}" if settings.cache.max_gib else "",
        variables.CACHE_MAX_DAYS: f"{settings.cache.max_days:g}" if settings.cache.max_days else "",
        variables.POLL_SECONDS: f"{queue.poll_seconds:g}" if queue.poll_seconds else "",
        variables.DOCKER_NOTES: "\n".join(docker_notes)[:_MAX_ANNOTATION],
        variables.QUEUED_AT: str(added_millis(attempt.added)),
        variables.HOME: attempt.home,
        variables.CONNECT_SECONDS: f"{settings.connect_seconds:g}" if settings.connect_seconds else "",
        variables.SIDECAR_QUIT_URL: settings.sidecar_quit_url
        if queue.sidecar_quit_url is None
        else queue.sidecar_quit_url,
        variables.INJECTION: brought,
        variables.INJECTION_NOTE: attempt.refused[:_MAX_NOTE] if brought else "",
        variables.CREATED_AT: str(round(attempt.now.timestamp() * 1000)),
        "CLEARML_API_HOST": settings.api_server_url or "",
        "CLEARML_WEB_HOST": settings.web_server_url or "",
        "CLEARML_FILES_HOST": settings.files_server_url or "",
    }
    found = [{"name": key, "value": _literal(value)} for key, value in plain.items() if value]
    downward = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in _DOWNWARD.items()]
    secret, names = settings.credentials_secret, settings.credentials_secret_keys
    keys = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for variable, key in zip(KEYS, (names.access_key, names.secret_key), strict=True)
    ]
    return [*found, *downward, *keys]


def _history(lines: Sequence[str]) -> str:
    """For the pod's claim; the last ones, shortened: a manifest is no place for a novel."""
    kept = [line[:_HISTORY_LINE] for line in lines[-_HISTORY_LINES:]]
    return json.dumps(kept, separators=(",", ":")) if kept else ""


def _with_others(owned: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours first: a template's variable may then say $(PODSTRAP_TASK_ID), as Kubernetes expands what stands above."""
    names = {one["name"] for one in owned}
    return [*owned, *(one for one in others if one.get("name") not in names)]


def _literal(value: str) -> str:
    """Kubernetes expands $(NAME) in a variable's value; `$$` is a plain dollar."""
    return value.replace("$", "$$")
