"""From a task and its queue to the Job's manifest. Pure: the same facts give the same manifest.

    base template ⊕ queue's templateOverrides ⊕ the task's container and docker arguments ⊕ what podstrap owns

A template has flat keys (those of the chart's basePodTemplate and the seed: nodeSelector, resources, tolerations,
env, volumes, …) or a whole pod template (`spec`, `metadata`). What podstrap owns cannot be set: a template that
tries is refused by its key's name, so that nobody believes in a setting that does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from clearml_api.models import Task
from controller import docker_args
from controller.merge import merged
from controller.settings import QueueSettings, Settings, Template
from protocol import environment as variables
from protocol import exit_codes, labels
from protocol.errors import ConfigError
from protocol.names import added_millis, job_name

CONTAINER = "task"
_POD_KEYS = {
    "nodeSelector", "tolerations", "affinity", "priorityClassName", "schedulerName", "hostAliases", "initContainers",
    "runtimeClassName", "serviceAccountName", "imagePullSecrets", "terminationGracePeriodSeconds", "dnsConfig",
    "dnsPolicy", "hostNetwork", "hostIPC", "hostPID", "hostUsers", "shareProcessNamespace", "hostname", "subdomain",
    "topologySpreadConstraints", "volumes", "automountServiceAccountToken", "enableServiceLinks", "overhead",
    "preemptionPolicy", "resourceClaims", "schedulingGates", "setHostnameAsFQDN",
}  # fmt: skip
_CONTAINER_KEYS = {
    "env", "envFrom", "resources", "volumeMounts", "image", "imagePullPolicy", "workingDir", "lifecycle", "ports",
    "volumeDevices", "livenessProbe", "startupProbe",
}  # fmt: skip
_RENAMED = {
    "podSecurityContext": ("pod", "securityContext"),
    "containerSecurityContext": ("container", "securityContext"),
}
_METADATA_KEYS = ("labels", "annotations")
_OWNED_POD_KEYS = ("restartPolicy", "activeDeadlineSeconds", "nodeName")
_OWNED_CONTAINER_KEYS = ("command", "args", "terminationMessagePath", "terminationMessagePolicy", "name")
_TERMINATION_LOG = "/dev/termination-log"
_DOWNWARD = {
    variables.POD_NAME: "metadata.name",
    variables.POD_UID: "metadata.uid",
    variables.NODE_NAME: "spec.nodeName",
    variables.JOB_UID: f"metadata.labels['{labels.JOB_UID}']",
}


class TemplateError(ConfigError):
    """A queue's template or a task's container cannot become a pod."""


def render(
    task: Task,
    *,
    queue_id: str,
    queue_name: str,
    added: datetime,
    attempt: int,
    settings: Settings,
    queue: QueueSettings,
    now: datetime,
    history: Sequence[str] = (),
) -> dict[str, Any]:
    """The Job (batch/v1) of one attempt at a task. Raises TemplateError naming queue, key and reason."""
    pod = template(settings.base_pod_template, "basePodTemplate")
    pod = merged(pod, template(queue.template_overrides, f"queues.{queue_name}.templateOverrides"))
    pod = _with_task(pod, task, settings)
    identity = {
        labels.MANAGED_BY: labels.MANAGED_BY_VALUE,
        labels.CONTROLLER: settings.instance,
        labels.TASK: task.id,
        labels.QUEUE: queue_id,
        labels.ADDED: str(added_millis(added)),
        labels.ATTEMPT: str(attempt),
    }
    notes = {labels.TASK_NAME: task.name, labels.QUEUE_NAME: queue_name}
    if history:
        notes[labels.PREFIX + "history"] = "\n".join(history)
    name = job_name(task.id, added, attempt)
    owned = _variables(task, name, queue_id, queue_name, added, attempt, settings, queue, now, pod)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": queue.namespace or settings.namespace,
            "labels": identity,
            "annotations": notes,
        },
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _failure_policy(),
            "ttlSecondsAfterFinished": settings.ttl_seconds_after_finished,
            **({"activeDeadlineSeconds": queue.active_deadline_seconds} if queue.active_deadline_seconds else {}),
            "template": _finished(pod, identity, notes, owned, settings),
        },
    }


def template(raw: Template, where: str) -> dict[str, Any]:
    """A template's flat keys (or a whole pod template) as {metadata, spec} with our container in it."""
    metadata: dict[str, Any] = {}
    spec: dict[str, Any] = {}
    container: dict[str, Any] = {"name": CONTAINER}
    for key, value in raw.items():
        if key in ("spec", "template"):
            whole = value if key == "template" else {"spec": value}
            inner = _mapping(whole, f"{where}.{key}")
            metadata = merged(metadata, _mapping(inner.get("metadata") or {}, f"{where}.{key}.metadata"))
            spec = merged(spec, _mapping(inner.get("spec") or {}, f"{where}.{key}.spec"))
        elif key == "metadata":
            metadata = merged(metadata, _mapping(value, f"{where}.metadata"))
        elif key in _METADATA_KEYS:
            metadata = merged(metadata, {key: {name: str(text) for name, text in _mapping(value, where).items()}})
        elif key in _RENAMED:
            target = spec if _RENAMED[key][0] == "pod" else container
            target[_RENAMED[key][1]] = value
        elif key in _CONTAINER_KEYS:
            container[key] = _quantities(value) if key == "resources" else value
        elif key in _POD_KEYS:
            spec[key] = value
        elif key in _OWNED_POD_KEYS or key in _OWNED_CONTAINER_KEYS:
            raise _owned(where, key)
        else:
            raise TemplateError(f"{where}: {key} is no key of a pod template", hint=_suggestion(key))
    _refuse_owned(spec, where)
    spec["containers"] = _containers(spec.get("containers") or [], container, where)
    return {"metadata": metadata, "spec": spec}


def _containers(given: list[Any], ours: dict[str, Any], where: str) -> list[Any]:
    """Our container first: the one named `task`, else the first of a whole pod spec, else a new one."""
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise TemplateError(f"{where}: containers is no list of containers")
    named = next((n for n, one in enumerate(given) if one.get("name") == CONTAINER), 0 if given else None)
    if named is None:
        return [ours]
    for key in _OWNED_CONTAINER_KEYS[:-1]:
        if given[named].get(key):
            raise _owned(where, f"containers[{named}].{key}")
    main = merged({**given[named], "name": CONTAINER}, ours)
    return [main, *(one for n, one in enumerate(given) if n != named)]


def _with_task(pod: dict[str, Any], task: Task, settings: Settings) -> dict[str, Any]:
    """What the task's own container asks for."""
    allowed = docker_args.Allowed(settings.allowed_host_paths, settings.allow_privileged)
    try:
        asked = docker_args.parse(task.container.arguments, allowed)
    except docker_args.DockerArgumentsError as error:
        raise TemplateError(f"task {task.id}: {error.message}", hint=error.hint) from None
    container = {"name": CONTAINER, **asked.container}
    if task.container.image:
        container["image"] = task.container.image
    return merged(pod, {"spec": {**asked.pod, "containers": [container]}})  # type: ignore[no-any-return]


def _finished(
    pod: dict[str, Any],
    identity: Mapping[str, str],
    notes: Mapping[str, str],
    owned: list[dict[str, Any]],
    settings: Settings,
) -> dict[str, Any]:
    """Lay what podstrap owns over everything else."""
    spec = {"automountServiceAccountToken": False, "enableServiceLinks": False, **pod["spec"]}
    main, *others = spec["containers"]
    main = {"image": settings.default_container_image, **main}
    main["command"] = list(settings.bootstrap_command)
    main["terminationMessagePath"] = _TERMINATION_LOG
    main["terminationMessagePolicy"] = "File"
    main["env"] = merged(main.get("env") or [], owned, "env")
    mounts = [
        {"name": "podstrap-work", "mountPath": settings.work_path},
        {"name": "podstrap-cache", "mountPath": settings.cache.mount_path},
    ]
    main["volumeMounts"] = merged(main.get("volumeMounts") or [], mounts, "volumeMounts")
    volumes = [{"name": "podstrap-work", "emptyDir": {}}, {"name": "podstrap-cache", **settings.cache.volume}]
    spec["volumes"] = merged(spec.get("volumes") or [], volumes, "volumes")
    spec["containers"] = [main, *others]
    spec["restartPolicy"] = "Never"
    metadata = pod["metadata"]
    return {
        "metadata": {
            **metadata,
            "labels": {**(metadata.get("labels") or {}), **identity},
            "annotations": {**(metadata.get("annotations") or {}), **notes},
        },
        "spec": spec,
    }


def _variables(
    task: Task,
    name: str,
    queue_id: str,
    queue_name: str,
    added: datetime,
    attempt: int,
    settings: Settings,
    queue: QueueSettings,
    now: datetime,
    pod: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """PODSTRAP_* and ClearML's variables: plain values, the downward API, and Secret references; never a secret."""
    plain = {
        variables.TASK_ID: task.id,
        variables.QUEUE_ID: queue_id,
        variables.QUEUE_NAME: queue_name,
        variables.JOB_NAME: name,
        variables.ATTEMPT: str(attempt),
        variables.MAX_ATTEMPTS: str(queue.max_attempts),
        variables.ON_DISRUPTION: queue.on_disruption,
        variables.GRACE_SECONDS: str(pod["spec"].get("terminationGracePeriodSeconds", 30)),
        variables.CACHE_DIR: settings.cache.mount_path,
        variables.WORK_DIR: settings.work_path,
        variables.TERMINATION_LOG: _TERMINATION_LOG,
        variables.PACKAGE_MANAGER: queue.package_manager or settings.package_manager,
        variables.QUEUED_AT: str(added_millis(added)),
        variables.CREATED_AT: str(round(now.timestamp() * 1000)),
        "CLEARML_API_HOST": settings.api_server_url or "",
        "CLEARML_WEB_HOST": settings.web_server_url or "",
        "CLEARML_FILES_HOST": settings.files_server_url or "",
    }
    found: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in plain.items() if value]
    found += [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in _DOWNWARD.items()]
    for key in ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"):
        reference = {"name": settings.credentials_secret, "key": key}
        found.append({"name": key, "valueFrom": {"secretKeyRef": reference}})
    return found


def _failure_policy() -> dict[str, Any]:
    """A disruption or exit 75 makes another pod and is not counted; any other failure ends the Job.

    Rules are tried in order, the first that matches decides
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


def _quantities(resources: Any) -> Any:
    """Kubernetes takes quantities as texts; people write numbers."""
    if isinstance(resources, Mapping):
        return {key: _quantities(value) for key, value in resources.items()}
    if isinstance(resources, (int, float)) and not isinstance(resources, bool):
        return str(resources)
    return resources


def _refuse_owned(spec: Mapping[str, Any], where: str) -> None:
    for key in _OWNED_POD_KEYS:
        if key in spec:
            raise _owned(where, key)


def _owned(where: str, key: str) -> TemplateError:
    return TemplateError(f"{where}: {key} is podstrap's own and cannot be set", hint="remove it from the template")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TemplateError(f"{where}: a mapping is wanted, not {type(value).__name__}")
    return value


def _suggestion(key: str) -> str:
    import difflib

    known = sorted(_POD_KEYS | _CONTAINER_KEYS | set(_RENAMED) | set(_METADATA_KEYS) | {"spec", "template"})
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else "a whole pod spec goes under `spec`"
