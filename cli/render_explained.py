"""`podstrap render --explain`: each value of a manifest with where it came from, and what each rule said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearml_api.models import Task
    from controller.provenance import Explained
    from controller.settings import Settings
    from controller.settings_file import Places
    from controller.settings_queue import QueueSettings

_LONGEST_VALUE = 60
_LONGEST_LEFT = 80


def explained(
    manifest: dict[str, Any], task: Task, settings: Settings, queue: QueueSettings, queue_key: str, queue_name: str,
    file: Path | None, output: str,
) -> str:  # fmt: skip
    """As text, or as JSON: {rules, values}."""
    from controller import provenance, rules
    from controller.settings_file import Places

    places = Places.of(file) if file else None
    found = provenance.explain(
        manifest, task, settings=settings, queue=queue, queue_key=queue_key, queue_name=queue_name
    )
    answers = rules.answers(settings, task, queue_name)
    if output == "json":
        return json.dumps(
            {
                "rules": [{"rule": one.index, "holds": one.holds, "why": one.why} for one in answers],
                "values": [
                    {"path": one.path, "value": one.value, "from": one.origin.who, "key": _key(one),
                     "at": _at(one, places), "words": one.origin.words}
                    for one in found
                ],
            },
            indent=2,
        )  # fmt: skip
    lines = [
        f"rules[{one.index}] {'holds' if one.holds else 'does not hold'}: {one.why}"
        + (f"  ({places.nearest(('rules', one.index))})" if places else "")
        for one in answers
    ]
    found = [one for one in found if not _said_by_path(one, found)]
    left = [f"{one.path}: {_short(one.value)}" for one in found]
    width = min(_LONGEST_LEFT, max(map(len, left)))
    lines += [f"{text.ljust(width)}  # {_told(one, places)}" for text, one in zip(left, found, strict=True)]
    return "\n".join(lines)


def _said_by_path(one: Explained, found: list[Explained]) -> bool:
    """Whether it is the name by which its item stands in its path already, and the item has more to show."""
    item = one.path.rpartition(".")[0]
    return item.endswith(f"[{one.value}]") and sum(other.path.startswith(f"{item}.") for other in found) > 1


def _told(one: Explained, places: Places | None) -> str:
    """Who gave it, by which key, standing where."""
    origin, at = one.origin, _at(one, places)
    if origin.who == "task":
        return f"the task's {origin.words}"
    if not origin.key:
        return "podstrap"
    where = f" ({at})" if at else " (not set: the default)" if origin.who == "podstrap" else ""
    return f"{_key(one)}{where}"


def _key(one: Explained) -> str:
    from controller.settings_yaml import dotted

    return dotted(one.origin.key)


def _at(one: Explained, places: Places | None) -> str:
    return places.at(one.origin.key) if places and one.origin.key else ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
