"""Kubernetes' strategic merge, for pod specs: what a queue's template does to the base template.

Mappings merge key by key, `null` deletes a key. A list whose items have a merge key in Kubernetes' own schema
(x-kubernetes-patch-merge-key in its OpenAPI document) merges by it; every other list is replaced. `$patch: delete`
in an item takes that item out, `$patch: replace` in a mapping replaces it whole, as `kubectl patch` has it
(https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/).

Where one key excludes another (a volume has one source, a variable one origin) the newer item's keys are the only
ones that stay: Kubernetes calls it `retainKeys`. Merging the same overrides twice is merging them once.
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
    "schedulingGates": "name",
}
"""List field -> the key of its items. tolerations, envFrom, command and args have none."""
_SECOND_KEYS = {"ports": ("protocol", "TCP"), "topologySpreadConstraints": ("whenUnsatisfiable", "")}
"""List field -> its second key and what it is when not said: x-kubernetes-list-map-keys of the same document, without
which 53/TCP and 53/UDP, or a hard and a soft constraint on one topology, would be taken for one."""

_RETAIN_KEYS = ("volumes", "resourceClaims")
_WHOLE_ITEMS = ("env",)
"""A variable is a name and one origin: nothing of the older one is worth keeping."""
_DIRECTIVE = "$patch"


def merged(base: Any, over: Any, name: str = "") -> Any:
    """`over` laid over `base`, both the values of the field `name`; neither is changed."""
    if isinstance(over, Mapping):
        replaces = over.get(_DIRECTIVE) == "replace" or not isinstance(base, Mapping)
        return _mappings({} if replaces else base, over)
    if isinstance(over, list) and name in MERGE_KEYS:
        return _lists(base if isinstance(base, list) else [], over, name)
    return over


def _mappings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        if key == _DIRECTIVE:
            continue
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value, str(key))
    return result


def _lists(base: list[Any], over: list[Any], name: str) -> list[Any]:
    key = MERGE_KEYS[name]
    result: list[Any] = []
    for item in (*base, *over):  # the base through the same sieve: of two items with one name the later counts
        at = _place(result, item, key, _SECOND_KEYS.get(name))
        if isinstance(item, Mapping) and item.get(_DIRECTIVE) == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(merged(None, item))
        else:
            result[at] = _item(result[at], item, name)
    return result


def name_of(field: str, item: Any) -> Any:
    """What an item of a list is known by: its merge key's value, with the second one's where there is one; or None."""
    key = MERGE_KEYS.get(field)
    found = item.get(key) if key and isinstance(item, Mapping) else None
    second = item.get(_SECOND_KEYS[field][0]) if found is not None and field in _SECOND_KEYS else None
    return found if second is None else f"{found}/{second}"


def _place(items: list[Any], item: Any, key: str, second: tuple[str, str] | None) -> int | None:
    """Where the item stands already; one without its merge key is found by being equal."""
    wanted = item.get(key) if isinstance(item, Mapping) else None
    if wanted is None:
        plain = merged(None, item)
        return next((n for n, one in enumerate(items) if one == plain), None)

    def same(one: Any) -> bool:
        if not isinstance(one, Mapping) or one.get(key) != wanted:
            return False
        return second is None or not (second[1] or second[0] in item) or (
            one.get(second[0], second[1]) == item.get(second[0], second[1])
        )  # fmt: skip

    return next((n for n, one in enumerate(items) if same(one)), None)


def _item(base: Any, over: Any, name: str) -> Any:
    if name in _WHOLE_ITEMS:
        return merged(None, over)
    result = merged(base, over)
    if name in _RETAIN_KEYS and isinstance(result, Mapping):
        return {key: value for key, value in result.items() if key in over}
    return result
