"""Which value of a Job's manifest came from where: `podstrap render --explain`. Pure.

The operator's templates are laid over one another a second time with every value replaced by a mark that knows its
place in the settings; the merge moves values about without looking at them, so wherever a mark comes to lie, its
place gave the value. What is in the manifest and not so marked is the task's wish, when the task's layer holds the
same value at the same place, else podstrap's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clearml_api.models import Task
from controller import docker_args, job_template, job_template_keys
from controller.merge import MERGE_KEYS, merged, name_of
from controller.provenance_settings import deciding
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.settings_values import Template
from controller.settings_yaml import Key

_POD = "spec.template."
_EMPTY = "\0empty"
"""A key, in a marked template, of a mapping that is empty: where it stands."""
_MAIN_NAME = f"{_POD}spec.containers[{job_template_keys.CONTAINER}].name"


@dataclass(frozen=True)
class Origin:
    """Where a value came from."""

    who: str
    """basePodTemplate, queue, rule, task, podstrap."""
    key: Key = ()
    """Its path in the settings; empty where none of their values gives it."""
    words: str = ""
    """What to say beside it, or instead of it."""


@dataclass(frozen=True)
class Explained:
    """One value of the manifest."""

    path: str
    """Items of lists by their merge key: `spec.template.spec.containers[task].env[A].value`."""
    value: Any
    origin: Origin


class Mark:
    """A value of a template that knows its place; equal to the plain value, so that merge keys are found."""

    def __init__(self, value: Any, origin: Origin) -> None:
        self.value = value
        self.origin = origin

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, Mark) else other))

    def __str__(self) -> str:
        return str(self.value)

    def __hash__(self) -> int:
        return hash(self.value)


def explain(
    manifest: Mapping[str, Any], task: Task, *, settings: Settings, queue: QueueSettings, queue_key: str,
    queue_name: str,
) -> list[Explained]:  # fmt: skip
    """Every value of a manifest that `job_template.render` made of these, in its order."""
    marked = marked_pod(task, settings, queue, queue_key, queue_name)
    operators = dict(leaves({"spec": {"template": marked}}))
    theirs = _of_task(task, settings, queue, queue_name)

    def own(path: str) -> Origin:
        return Origin("podstrap", deciding(path, settings, queue, queue_key))

    return [
        Explained(path, value, _origin(path, value, operators, theirs) or own(path)) for path, value in leaves(manifest)
    ]


def marked_pod(task: Task, settings: Settings, queue: QueueSettings, queue_key: str, queue_name: str) -> dict[str, Any]:
    """job_template.operator_pod with marks for values."""
    pod: Any = job_template.EMPTY_POD
    for where, template in job_template.layers(task, settings, queue, queue_name):
        for layer in job_template_keys.layers_of(_marked_template(template, where, queue_key)):
            pod = merged(pod, layer)
    return job_template.main_first(pod)


def leaves(value: Any, path: str = "", name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no other, with its path; an item of a list by its merge key where it has one."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            dot = "." if path else ""
            yield from leaves(inner, f"{path}{dot}{key}", str(key))
    elif isinstance(value, (list, tuple)) and value:
        for index, item in enumerate(value):
            found = name_of(name, item)
            yield from leaves(item, f"{path}[{index if found is None else found}]")
    else:
        yield path, value


def _marked_template(template: Template, where: str, queue_key: str) -> dict[str, Any]:
    key: Key = (where,)
    if where == "basePodTemplate":
        who = where
    elif where == "templateOverrides":
        who, key = "queue", ("queues", queue_key, where)
    else:
        index = int(where.partition("[")[2].partition("]")[0])
        who, key = "rule", ("rules", index, "templateOverrides")
    found = _marked(template, who, key)
    return {name: template[name] if name in ("kind", "apiVersion") else value for name, value in found.items()}


def _marked(value: Any, who: str, path: Key, name: str = "") -> Any:
    """The value with marks in it. One that holds nothing stays what it is to the merge: an empty mapping adds nothing
    to a base, an empty list replaces one where lists do not merge."""
    origin = Origin(who, path)
    if isinstance(value, Mapping):
        found = {
            key: inner if key == "$patch" or inner is None else _marked(inner, who, (*path, key), str(key))
            for key, inner in value.items()
        }
        nothing = all(inner is None for key, inner in found.items() if key != "$patch")
        return {**found, _EMPTY: Mark({}, origin)} if nothing and name else found
    if isinstance(value, list) and (value or name in MERGE_KEYS):
        return [_marked(item, who, (*path, index), f"{name}[]") for index, item in enumerate(value)]
    return Mark(value, origin)


def _of_task(task: Task, settings: Settings, queue: QueueSettings, queue_name: str) -> dict[str, tuple[Any, str]]:
    """The values of the pod with the task's wishes in it, each with the words for the wish."""
    pod, _ = job_template.with_task(job_template.operator_pod(task, settings, queue, queue_name), task, settings)
    flags: dict[str, str] = {}
    for flag, asked in docker_args.steps(task.container.arguments, job_template.allowed(settings)):
        limits = {"resources": {"limits": asked.limits}} if asked.limits else {}
        containers = [{"name": job_template_keys.CONTAINER, **asked.container, **limits}]
        for path, _ in leaves({"spec": {**asked.pod, "containers": containers}}):
            flags.setdefault(_POD + path, flag)
    words = {path: f"container arguments, --{flag}" for path, flag in flags.items()}
    return {
        _POD + path: (value, words.get(_POD + path, "container image" if path.endswith("].image") else "container"))
        for path, value in leaves(pod)
    }


def _origin(
    path: str, value: Any, operators: Mapping[str, Any], theirs: Mapping[str, tuple[Any, str]]
) -> Origin | None:
    inner = _POD + path if path.startswith("metadata.") else path  # the Job has its pod's labels too
    mark = operators.get(inner)
    if isinstance(mark, Mark) and _same(mark.value, value):
        return mark.origin
    if inner == _MAIN_NAME:
        return None
    if value in ({}, []):
        empty = operators.get(f"{inner}.{_EMPTY}", mark)
        return empty.origin if isinstance(empty, Mark) else None
    unmarked = inner in operators and not isinstance(mark, Mark)
    if unmarked and mark == value and value is not None:
        return _beside(inner, operators)
    if inner in theirs and not unmarked and _same(theirs[inner][0], value):
        return Origin("task", (), theirs[inner][1])
    return None


def _beside(path: str, operators: Mapping[str, Any]) -> Origin | None:
    """Of what has no mark, since it was made of others (a file's mount): the origin of its neighbour."""
    parent = path.rpartition(".")[0]
    marks = (mark for other, mark in operators.items() if other.startswith(f"{parent}.") and isinstance(mark, Mark))
    return next((mark.origin for mark in marks), None)


def _same(one: Any, other: Any) -> bool:
    """Quantities become texts on their way."""
    number = isinstance(one, (int, float)) and not isinstance(one, bool)
    return bool(one == other or (number and str(one) == other))
