"""Kubernetes' strategic merge, for pod specs: what a queue's template does to the base template.

Mappings merge key by key, `null` deletes a key. A list whose items have a merge key in Kubernetes' own schema
(x-kubernetes-patch-merge-key) merges by it; every other list is replaced, as Kubernetes does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
}
"""List field -> the key of its items. tolerations and envFrom have none."""


def merged(base: Any, over: Any, name: str = "") -> Any:
    """`over` laid over `base`; neither is changed."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return _mappings(base, over)
    if isinstance(base, list) and isinstance(over, list) and name in MERGE_KEYS:
        return _lists(base, over, MERGE_KEYS[name])
    return over


def _mappings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value, str(key))
    return result


def _lists(base: list[Any], over: list[Any], key: str) -> list[Any]:
    result = list(base)
    for item in over:
        name = item.get(key) if isinstance(item, Mapping) else None
        at = next((n for n, one in enumerate(result) if isinstance(one, Mapping) and one.get(key) == name), None)
        if name is None or at is None:
            result.append(item)
        else:
            result[at] = _variable(result[at], item) if key == "name" and "value" in item else merged(result[at], item)
    return result


def _variable(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A variable's new value replaces where the old one came from: `value` and `valueFrom` exclude each other."""
    return {key: value for key, value in merged(base, over).items() if not (key == "valueFrom" and over.get("value"))}
