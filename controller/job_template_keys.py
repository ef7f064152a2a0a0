"""The keys of a template, and how one becomes a pod: {metadata, spec} with the task's container in it.

Flat keys are those of the chart's basePodTemplate and of the seed (nodeSelector, resources, env, volumes, ...). A
whole one in YAML is taken too: `spec` and `metadata`, a `template`, or a full Pod, PodTemplate or Job with its
`kind`. Both forms may stand in one template; flat keys win. Below `spec` unknown fields are left to the API server,
which knows its own version.

What podstrap owns cannot be set: a template that tries is refused by the key's name, so that nobody believes in a
setting that does nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.job_template_files import FILES, volumes_and_mounts
from controller.job_template_reserved import (
    METADATA_KEYS,
    OWNED,
    OWNED_CONTAINER,
    OWNED_POD,
    owned_inside,
    owned_metadata,
    owned_value,
)
from controller.job_template_shapes import (
    ENV,
    FLAG,
    INTEGER,
    MAPPING,
    MAPPINGS,
    NAMED,
    RESOURCES,
    TEXT,
    TEXTS,
    Path,
    Problem,
    Shape,
    described,
    items,
)  # fmt: skip
from controller.merge import merged

CONTAINER = "task"
"""The name of the container that runs the task."""

POD_KEYS: Mapping[str, Shape] = {
    "affinity": MAPPING,
    "automountServiceAccountToken": FLAG,
    "dnsConfig": MAPPING,
    "dnsPolicy": TEXT,
    "enableServiceLinks": FLAG,
    "hostAliases": items("ip"),
    "hostIPC": FLAG,
    "hostNetwork": FLAG,
    "hostPID": FLAG,
    "hostUsers": FLAG,
    "hostname": TEXT,
    "imagePullSecrets": items("name", required=False),
    "initContainers": NAMED,
    "nodeSelector": TEXTS,
    "overhead": MAPPING,
    "preemptionPolicy": TEXT,
    "priorityClassName": TEXT,
    "resourceClaims": NAMED,
    "runtimeClassName": TEXT,
    "schedulerName": TEXT,
    "schedulingGates": NAMED,
    "serviceAccountName": TEXT,
    "setHostnameAsFQDN": FLAG,
    "shareProcessNamespace": FLAG,
    "subdomain": TEXT,
    "terminationGracePeriodSeconds": INTEGER,
    "tolerations": MAPPINGS,
    "topologySpreadConstraints": items("topologyKey"),
    "volumes": NAMED,
}
CONTAINER_KEYS: Mapping[str, Shape] = {
    "env": ENV,
    "envFrom": MAPPINGS,
    "image": TEXT,
    "imagePullPolicy": TEXT,
    "lifecycle": MAPPING,
    "livenessProbe": MAPPING,
    "ports": MAPPINGS,
    "resources": RESOURCES,
    "startupProbe": MAPPING,
    "volumeDevices": items("devicePath"),
    "volumeMounts": items("mountPath"),
    "workingDir": TEXT,
}
SECURITY_CONTEXTS = {"podSecurityContext": "pod", "containerSecurityContext": "container"}
WHOLE_KEYS = ("spec", "metadata", "template", "kind", "apiVersion")
FILE_MOUNTS = "fileMounts"
"""The chart's key for files: see job_template_files."""


@dataclass(frozen=True)
class Reading:
    """A template as layers of {metadata, spec}, the later over the earlier; none where something is wrong."""

    layers: tuple[dict[str, Any], ...]
    problems: tuple[Problem, ...] = ()

    def over(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Lay the template over a pod; `null` in it deletes."""
        for layer in self.layers:
            pod = merged(pod, layer)
        return pod


def read(raw: Any) -> Reading:
    """Read a template in any of its forms. Pure; never raises."""
    if not isinstance(raw, Mapping):
        return Reading((), (Problem((), f"a mapping is wanted, this is {described(raw)}"),))
    problems: list[Problem] = []
    whole, at = _whole(raw, problems)
    whole = _with_named_container(whole)
    flat = {key: value for key, value in raw.items() if key not in WHOLE_KEYS}
    problems += _flat_problems(flat)
    problems += _whole_problems(whole, at)
    return Reading((), tuple(problems)) if problems else Reading((_whole_layer(whole), _flat_layer(flat)))


def layers_of(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layers of a template that `read` finds nothing wrong with, whatever its values are."""
    whole, _ = _whole(raw, [])
    flat = {key: value for key, value in raw.items() if key not in WHOLE_KEYS}
    return _whole_layer(_with_named_container(whole)), _flat_layer(flat)


def _whole_layer(whole: Mapping[str, Any]) -> dict[str, Any]:
    """With the container that runs the task under its own name, in front."""
    spec = whole.get("spec") or {}
    containers = list(spec.get("containers") or [])
    at = main_container(containers)
    if at is not None:
        spec = {**spec, "containers": [{**containers[at], "name": CONTAINER}, *containers[:at], *containers[at + 1 :]]}
    return {"metadata": whole.get("metadata") or {}, "spec": spec}


def _flat_layer(flat: Mapping[str, Any]) -> dict[str, Any]:
    # An empty text in the chart's values ("schedulerName: ''") means not set.
    flat = {key: value for key, value in flat.items() if value != ""}
    spec = {key: value for key, value in flat.items() if key in POD_KEYS}
    container = {"name": CONTAINER, **{key: value for key, value in flat.items() if key in CONTAINER_KEYS}}
    for key, target in (("podSecurityContext", spec), ("containerSecurityContext", container)):
        if key in flat:
            target["securityContext"] = flat[key]
    if files := flat.get(FILE_MOUNTS):
        volumes, mounts = volumes_and_mounts(files)
        spec["volumes"] = [*volumes, *(spec.get("volumes") or [])]
        container["volumeMounts"] = [*mounts, *(container.get("volumeMounts") or [])]
    metadata = {key: value for key, value in flat.items() if key in METADATA_KEYS}
    return {"metadata": metadata, "spec": {**spec, "containers": [container]}}


def known_keys() -> list[str]:
    """Every key a template may have, for suggestions."""
    return [*POD_KEYS, *CONTAINER_KEYS, *SECURITY_CONTEXTS, *METADATA_KEYS, *WHOLE_KEYS, FILE_MOUNTS]


def schema() -> dict[str, Any]:
    """The JSON Schema of a template."""
    shapes = {**POD_KEYS, **CONTAINER_KEYS, **METADATA_KEYS, **dict.fromkeys(SECURITY_CONTEXTS, MAPPING)}
    whole = {"spec": MAPPING, "metadata": MAPPING, "template": MAPPING, "kind": TEXT, "apiVersion": TEXT}
    properties: dict[str, Any] = {
        key: {"anyOf": [shape.schema, {"type": "null"}]} for key, shape in sorted({**shapes, **whole}.items())
    }
    properties[FILE_MOUNTS] = {"anyOf": [FILES.schema, {"type": "null"}]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def main_container(containers: list[Any]) -> int | None:
    """Which one runs the task: the one named so, else the first."""
    names = [one.get("name") if isinstance(one, Mapping) else None for one in containers]
    return names.index(CONTAINER) if CONTAINER in names else 0 if containers else None


def _whole(raw: Mapping[str, Any], problems: list[Problem]) -> tuple[Mapping[str, Any], Path]:
    """The whole form's {metadata, spec} and where it stands; empty when there is none."""
    kind = raw.get("kind")
    if kind is None and "template" not in raw:
        return {key: raw[key] for key in ("metadata", "spec") if raw.get(key) is not None}, ()
    if kind not in (None, "Pod", "PodTemplate", "Job"):
        problems.append(Problem(("kind",), "a Pod, a PodTemplate or a Job is wanted"))
        return {}, ()
    if kind == "Pod":
        return {key: raw[key] for key in ("metadata", "spec") if raw.get(key) is not None}, ()
    at: Path = ("spec", "template") if kind == "Job" else ("template",)
    if kind == "Job":
        spec = raw.get("spec")
        for key in spec if isinstance(spec, Mapping) else ():
            if key != "template":
                hint = "ttlSecondsAfterFinished and activeDeadlineSeconds are keys of the settings and the queue"
                problems.append(Problem(("spec", str(key)), OWNED, hint))
    inner: Any = raw
    for part in at:
        inner = inner.get(part) if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping):
        problems.append(Problem(at, f"a mapping is wanted, this is {described(inner)}"))
        return {}, ()
    return inner, at


def _with_named_container(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """The glue's templates may leave the task's container without a name: then it is the first."""
    spec = whole.get("spec")
    if not isinstance(spec, Mapping):
        return whole
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers or not isinstance(containers[0], Mapping):
        return whole
    named = any(isinstance(one, Mapping) and one.get("name") == CONTAINER for one in containers)
    if named or "name" in containers[0]:
        return whole
    return {**whole, "spec": {**spec, "containers": [{"name": CONTAINER, **containers[0]}, *containers[1:]]}}


def _flat_problems(flat: Mapping[str, Any]) -> Iterator[Problem]:
    shapes = {**METADATA_KEYS, **POD_KEYS, **CONTAINER_KEYS, **dict.fromkeys(SECURITY_CONTEXTS, MAPPING)}
    for key, value in flat.items():
        if key in OWNED_POD or key in OWNED_CONTAINER:
            yield from owned_value(key, value, {**OWNED_POD, **OWNED_CONTAINER}, (key,))
        elif key == FILE_MOUNTS:
            if value is not None:
                yield from FILES.check(value, (key,))
        elif key not in shapes:
            near = difflib.get_close_matches(str(key), known_keys(), n=1)
            hint = f"did you mean {near[0]}?" if near else "a field of the pod's spec goes under `spec`"
            yield Problem((str(key),), "is no key of a pod template", hint, unknown=True)
        elif value is not None:
            yield from shapes[key].check(value, (key,))
    yield from owned_metadata(flat, ())
    yield from owned_inside(flat, flat, ())


def _whole_problems(whole: Mapping[str, Any], at: Path) -> Iterator[Problem]:
    metadata, spec = ({} if whole.get(name) is None else whole[name] for name in ("metadata", "spec"))
    for name, value in (("metadata", metadata), ("spec", spec)):
        if not isinstance(value, Mapping):
            yield Problem((*at, name), f"a mapping is wanted, this is {described(value)}")
            return
    for key, value in metadata.items():
        if key not in METADATA_KEYS:
            yield Problem((*at, "metadata", str(key)), OWNED, "labels and annotations may be set")
        elif value is not None:
            yield from METADATA_KEYS[key].check(value, (*at, "metadata", key))
    yield from owned_metadata(metadata, (*at, "metadata"))
    for key, value in spec.items():
        if key in OWNED_POD:
            yield from owned_value(key, value, OWNED_POD, (*at, "spec", key))
        elif key in POD_KEYS and value is not None:
            yield from POD_KEYS[key].check(value, (*at, "spec", key))
    containers = [] if spec.get("containers") is None else spec["containers"]
    wrong = list(NAMED.check(containers, (*at, "spec", "containers")))
    yield from wrong
    main = None if wrong else main_container(containers)
    container, where = ({}, ()) if main is None else (containers[main], (*at, "spec", "containers", main))
    for key, value in container.items():
        if key in OWNED_CONTAINER:
            yield from owned_value(key, value, OWNED_CONTAINER, (*where, key))
        elif key in CONTAINER_KEYS and value is not None:
            yield from CONTAINER_KEYS[key].check(value, (*where, key))
    yield from owned_inside(spec, {}, (*at, "spec"))
    yield from owned_inside({}, container, where)
