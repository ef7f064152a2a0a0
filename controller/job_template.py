"""From a task and its queue to the Job's manifest. Pure: the same facts give the same manifest.

    base template ⊕ queue's templateOverrides ⊕ rules ⊕ the task's container and docker arguments ⊕ what podstrap owns

`job_template_keys` knows a template's keys, `merge` lays one over the other, `docker_args` reads the task's wishes,
`job_template_owned` adds what nobody may change. The task is the untrusted layer: it asks, the operator's template
decides over users, privileges and the most of each resource.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from clearml_api.models import Task
from controller import docker_args, injection, job_template_keys, job_template_resources, rules
from controller.job_template_keys import CONTAINER
from controller.job_template_owned import Attempt, failure_policy, finished
from controller.merge import merged
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.settings_values import Engine, Template
from controller.state import IMAGE_VOLUME, INIT_CONTAINER
from protocol.errors import ConfigError
from protocol.folder import HOME

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,1023}")
_ENGINE_TAG = "podstrap:engine="
"""A task's tag that chooses who prepares it."""
EMPTY_POD: Mapping[str, Any] = {"metadata": {}, "spec": {"containers": [{"name": CONTAINER}]}}
_USER_FIELDS = ("runAsUser", "runAsGroup", "runAsNonRoot", "supplementalGroups")


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
    home: str = "",
    injections: tuple[str, ...] = (IMAGE_VOLUME, INIT_CONTAINER),
    refused: str = "",
) -> dict[str, Any]:
    """The Job (batch/v1) of one attempt at a task. Raises TemplateError naming queue, key and reason.

    `injections`: ClusterState's. `refused`: why an earlier attempt's image volume was refused; empty when none was.
    """
    engine = _engine(task, settings, queue, queue_name)
    this = Attempt(
        task, queue_id, queue_name, added, attempt, now, settings, queue, history, home, engine,
        _ruled("injection", task, settings, queue, queue_name) if injections else "never",
        injection.method(queue.injection_method or settings.injection_method, injections), refused,
    )  # fmt: skip
    for what, value in (("task", task.id), ("queue", queue_id)):
        if not _LABEL_VALUE.fullmatch(value):
            raise TemplateError(f"The {what}'s id {value[:80]!r} cannot be a Kubernetes label")
    pod = operator_pod(task, settings, queue, queue_name)
    pod, notes = with_task(pod, task, settings)
    _refuse_own_mounts(pod, settings, queue_name)
    template = finished(pod, this, notes)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": this.job_name,
            "namespace": queue.namespace or settings.namespace,
            # The template's own too: Kueue and the like look at the Job.
            **template["metadata"],
        },
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": failure_policy(),
            "ttlSecondsAfterFinished": settings.ttl_seconds_after_finished,
            **({"activeDeadlineSeconds": queue.active_deadline_seconds} if queue.active_deadline_seconds else {}),
            "template": template,
        },
    }


def operator_pod(task: Task, settings: Settings, queue: QueueSettings, queue_name: str) -> dict[str, Any]:
    """The pod that base template, queue and rules make of any such task: {metadata, spec}, our container first."""
    pod = dict(EMPTY_POD)
    for where, template in layers(task, settings, queue, queue_name):
        pod = _over(pod, template, where, queue_name)
    pod = main_first(pod)
    spec = dict(pod["spec"])
    for kind in ("containers", "initContainers"):
        if kind in spec:
            spec[kind] = [_with_quantities(one) for one in spec[kind]]
    return {**pod, "spec": spec}


def layers(task: Task, settings: Settings, queue: QueueSettings, queue_name: str) -> Iterator[tuple[str, Template]]:
    """The operator's templates for a task, the later laid over the earlier, each with its key."""
    yield "basePodTemplate", settings.base_pod_template
    yield "templateOverrides", queue.template_overrides
    for index, rule in rules.holding(settings, task, queue_name):
        yield f"rules[{index}].templateOverrides", rule.template_overrides


def main_first(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The same pod, the container that runs the task in front; made when a template has deleted it."""
    containers = pod["spec"].get("containers") or []
    at = next((n for n, one in enumerate(containers) if one.get("name") == CONTAINER), None)
    main = {"name": CONTAINER} if at is None else containers[at]
    ordered = [main, *(one for n, one in enumerate(containers) if n != at)]
    return {"metadata": pod["metadata"], "spec": {**pod["spec"], "containers": ordered}}


def _engine(task: Task, settings: Settings, queue: QueueSettings, queue_name: str) -> str:
    """Who prepares the task: its tag, else the last rule that says it, its queue, the file."""
    for tag in task.tags:
        if tag.startswith(_ENGINE_TAG):
            if tag.removeprefix(_ENGINE_TAG) not in get_args(Engine):
                raise TemplateError(
                    f"Task {task.id}: its tag {tag[:80]!r} names no engine",
                    hint=" or ".join(f"{_ENGINE_TAG}{name}" for name in get_args(Engine)),
                )
            return tag.removeprefix(_ENGINE_TAG)
    return _ruled("engine", task, settings, queue, queue_name)


def _ruled(
    key: Literal["engine", "injection"], task: Task, settings: Settings, queue: QueueSettings, queue_name: str
) -> str:
    """What the last rule that says it says, else the queue, else the file."""
    said = [word for _, rule in rules.holding(settings, task, queue_name) if (word := getattr(rule, key))]
    return str(said[-1] if said else getattr(queue, key) or getattr(settings, key))


def _over(pod: dict[str, Any], template: Template, where: str, queue_name: str) -> dict[str, Any]:
    reading = job_template_keys.read(template)
    if reading.problems:
        sentences = [f"{where}.{problem.key}: {problem.message}".replace(".:", ":") for problem in reading.problems]
        hints = {problem.hint for problem in reading.problems if problem.hint}
        raise TemplateError(f"Queue {queue_name}: {'; '.join(sentences)}", hint="; ".join(sorted(hints)))
    return reading.over(pod)


def allowed(settings: Settings) -> docker_args.Allowed:
    """What tasks may ask for."""
    own = (settings.work_path, settings.cache.mount_path, str(HOME))
    return docker_args.Allowed(settings.allowed_host_paths, settings.allow_privileged, own)


def with_task(pod: dict[str, Any], task: Task, settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """What the task asks for, as far as the operator's template leaves it open; and notes of what it does not get."""
    asked = docker_args.parse(task.container.arguments, allowed(settings))
    notes = list(asked.notes)
    if asked.refusals and settings.ignore_refused_docker_arguments:
        notes += [f"ignored: {one}" for one in asked.refusals]
    elif asked.refusals:
        raise TemplateError(
            f"Task {task.id}: its docker arguments cannot be obeyed: {'; '.join(asked.refusals)}",
            hint="change the task's container arguments; ignoreRefusedDockerArguments: true runs it without them",
        )
    spec, main = pod["spec"], pod["spec"]["containers"][0]
    wished_pod, wished = dict(asked.pod), dict(asked.container)
    for owner, wishes in ((spec, wished_pod), (main, wished)):
        if context := wishes.pop("securityContext", None):
            wishes["securityContext"] = _context(context, owner, (spec, main), notes)
    if "imagePullPolicy" in main and wished.pop("imagePullPolicy", None):
        notes.append("--pull: the queue's template sets imagePullPolicy")
    resources, cut = job_template_resources.asked(main.get("resources") or {}, asked.limits)
    notes += cut
    if resources:
        wished["resources"] = resources
    if task.container.image:
        if not _IMAGE.fullmatch(task.container.image):
            raise TemplateError(
                f"Task {task.id}: its container image {task.container.image[:80]!r} is no image's name",
                hint="such as python:3.12 or registry.example.org/team/image:tag",
            )
        wished["image"] = task.container.image
    over = {"spec": {**wished_pod, "containers": [{"name": CONTAINER, **wished}]}}
    return merged(pod, over), notes


def _context(
    wished: Mapping[str, Any], owner: Mapping[str, Any], contexts: Sequence[Mapping[str, Any]], notes: list[str]
) -> Any:
    """A securityContext of the task's wishes under the operator's: where both speak, the operator's stands."""
    decided = any(field in (one.get("securityContext") or {}) for one in contexts for field in _USER_FIELDS)
    kept = {key: value for key, value in wished.items() if not (decided and key in _USER_FIELDS)}
    if len(kept) < len(wished):
        notes.append("--user, --group-add: the queue's template decides who the task runs as")
    return merged(kept, owner.get("securityContext") or {})


def _refuse_own_mounts(pod: Mapping[str, Any], settings: Settings, queue_name: str) -> None:
    own = {
        settings.work_path.rstrip("/"): "workPath of the settings decides about it",
        settings.cache.mount_path.rstrip("/"): "cache of the settings decides about it",
        str(HOME): "podstrap's own programs are there",
    }
    for index, mount in enumerate(pod["spec"]["containers"][0].get("volumeMounts") or ()):
        path = str(mount.get("mountPath")).rstrip("/")
        if path in own:
            raise TemplateError(
                f"Queue {queue_name}: volumeMounts[{index}].mountPath: {path} is podstrap's own and cannot be set",
                hint=own[path],
            )


def _with_quantities(container: Any) -> Any:
    if not isinstance(container, Mapping) or "resources" not in container:
        return container
    return {**container, "resources": job_template_resources.as_texts(container["resources"])}
