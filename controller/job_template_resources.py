"""Kubernetes quantities: as texts for the API server, and compared, so that a task never gets more than its queue has.

A task may ask for less than the queue's template gives it, and for a resource that the template does not speak of;
above the template's limit the template's limit stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

GPU = "nvidia.com/gpu"
"""What docker's --gpus asks for."""

_QUANTITY = re.compile(r"([+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40}))([eE][+-]?\d{1,3})?([numkMGTPE]|[KMGTPE]i)?", re.A)
_UNITS: Mapping[str, Decimal] = {
    "": Decimal(1),
    **{unit: Decimal(10) ** power for unit, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def quantity(text: object) -> Decimal | None:
    """A quantity's number (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/)."""
    found = None if isinstance(text, bool) else _QUANTITY.fullmatch(str(text).strip())
    if not found or (found[2] and found[3]):
        return None
    return Decimal(found[1] + (found[2] or "")) * _UNITS[found[3] or ""]


def as_texts(resources: Any) -> Any:
    """Limits and requests as texts: people write numbers."""
    if not isinstance(resources, Mapping):
        return resources
    return {
        key: {name: _text(amount) for name, amount in value.items()}
        if key in ("limits", "requests") and isinstance(value, Mapping)
        else value
        for key, value in resources.items()
    }


def asked(resources: Mapping[str, Any], wanted: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The template's resources with the task's wishes in them, and a note for each wish that was cut.

    A request above the new limit comes down to it: Kubernetes refuses one that is higher.
    """
    limits, requests = dict(resources.get("limits") or {}), dict(resources.get("requests") or {})
    notes = []
    for name, value in wanted.items():
        if name == GPU and name not in limits and (others := [key for key in limits if _is_gpu(key)]):
            notes.append(f"{name} {value}: the queue's template gives {others[0]}")
            continue
        if _above(value, limits.get(name)):
            notes.append(f"{name} {value}: the queue's template allows {limits[name]}")
            continue
        limits[name] = value
        if _above(requests.get(name), value):
            requests[name] = value
    result = {**resources, **({"limits": limits} if limits else {}), **({"requests": requests} if requests else {})}
    return result, tuple(notes)


def _is_gpu(name: str) -> bool:
    return "gpu" in name or "/mig-" in name


def _above(one: object, other: object) -> bool:
    first, second = quantity(one), quantity(other)
    return first is not None and second is not None and first > second


def _text(amount: Any) -> Any:
    return str(amount) if isinstance(amount, (int, float)) and not isinstance(amount, bool) else amount
