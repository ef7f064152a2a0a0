"""The shapes that values of a pod template have, and what is wrong with one that has another.

Kubernetes refuses a number where it wants a text (`env` with `value: 1`) with an answer that few can read, and drops
an unknown field silently; so shapes are looked at here, where file, line and key are known. Values are never
repeated in a message: a variable's value may be a secret. Only the shape is looked at; what a name refers to is the
API server's to judge. `null` is always taken: it deletes the key that the base template set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.job_template_resources import quantity

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a template, at a path of keys below it."""

    path: Path
    message: str
    hint: str = ""
    unknown: bool = False
    """A key that nobody knows, as against a known one that is wrong."""

    @property
    def key(self) -> str:
        """The path as a person writes it: `env[0].value`."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")


@dataclass(frozen=True)
class Shape:
    """A check, and the JSON Schema that says the same to an editor."""

    check: Callable[[Any, Path], Iterator[Problem]]
    schema: Mapping[str, Any]


def described(value: Any) -> str:
    """What a value is, without repeating it."""
    if isinstance(value, bool):
        return "true or false"
    for kind, word in ((str, "a text"), ((int, float), "a number"), (Mapping, "a mapping"), (list, "a list")):
        if isinstance(value, kind):
            return word
    return "nothing" if value is None else f"a {type(value).__name__}"


def _wanted(wanted: str, value: Any, path: Path, hint: str = "") -> Iterator[Problem]:
    yield Problem(path, f"{wanted} is wanted, this is {described(value)}", hint)


def _text(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, str):
        scalar = not isinstance(value, (Mapping, list))
        yield from _wanted("a text", value, path, "put it in quotes" if scalar else "")


def _flag(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, bool):
        yield from _wanted("true or false", value, path)


def _integer(value: Any, path: Path) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, int):
        yield from _wanted("a whole number", value, path)


def _mapping(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield from _wanted("a mapping", value, path)


def _mappings(value: Any, path: Path, key: str = "") -> Iterator[Problem]:
    if not isinstance(value, list):
        yield from _wanted("a list", value, path, f"- {key}: ..." if key else "")
        return
    for index, item in enumerate(value):
        if not isinstance(item, Mapping):
            yield from _wanted("a mapping", item, (*path, index))
        elif key and not isinstance(item.get(key), str):
            yield Problem((*path, index), f"its {key} is missing" if key not in item else f"its {key} is no text")


def _texts(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield from _wanted("a mapping", value, path)
        return
    for key, text in value.items():
        if not isinstance(key, str):
            yield Problem((*path, str(key)), f"this name is {described(key)}, not a text", "put it in quotes")
        if text is not None:
            yield from _text(text, (*path, str(key)))


def _env(value: Any, path: Path) -> Iterator[Problem]:
    if isinstance(value, Mapping):
        yield from _wanted("a list", value, path, '- {name: NAME, value: "..."}')
        return
    yield from _mappings(value, path, "name")
    for index, item in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(item, Mapping):
            continue
        if item.get("value") is not None:
            yield from _text(item["value"], (*path, index, "value"))
        if (
            item.get("value") and item.get("valueFrom") is not None
        ):  # an empty value beside it is none, as Kubernetes has it
            yield Problem((*path, index), "value and valueFrom are both set", "keep one of them")
        for key in item:
            if key not in ("name", "value", "valueFrom", "$patch") and item[key] is not None:
                yield Problem((*path, index, str(key)), "unknown key; there are name, value, valueFrom", unknown=True)


def _resources(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield from _wanted("a mapping", value, path, "limits: {memory: 8Gi}")
        return
    for key, amounts in value.items():
        if key not in ("limits", "requests", "claims", "$patch") and amounts is not None:
            yield Problem((*path, str(key)), "unknown key; there are limits, requests, claims", unknown=True)
        elif key in ("limits", "requests") and amounts is not None:
            yield from _amounts(amounts, (*path, key))


def _amounts(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield from _wanted("a mapping", value, path, "memory: 8Gi")
        return
    for name, amount in value.items():
        number = quantity(amount)
        if amount is not None and name != "$patch" and (number is None or number < 0):
            yield Problem((*path, str(name)), "this is no quantity", "such as 1, 500m, 8Gi")


TEXT = Shape(_text, {"type": "string"})
FLAG = Shape(_flag, {"type": "boolean"})
INTEGER = Shape(_integer, {"type": "integer"})
MAPPING = Shape(_mapping, {"type": "object"})
MAPPINGS = Shape(_mappings, {"type": "array", "items": {"type": "object"}})
TEXTS = Shape(_texts, {"type": "object", "additionalProperties": {"type": ["string", "null"]}})
ENV = Shape(
    _env,
    {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "value": {"type": "string"}, "valueFrom": {"type": "object"}},
            "required": ["name"],
        },
    },
)
_AMOUNTS = {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}}
RESOURCES = Shape(
    _resources,
    {"type": "object", "properties": {"limits": _AMOUNTS, "requests": _AMOUNTS, "claims": {"type": "array"}}},
)


def items(key: str, *, required: bool = True) -> Shape:
    """A list of mappings, each with this key: a text. Not `required`: what is left out is the API server's to judge."""

    def check(value: Any, path: Path) -> Iterator[Problem]:
        filled = value
        if not required and isinstance(value, list):
            filled = [{key: "", **item} if isinstance(item, Mapping) else item or {key: ""} for item in value]
        yield from _mappings(filled, path, key)

    item = {"type": "object", **({"required": [key]} if required else {})}
    return Shape(check, {"type": "array", "items": item})


NAMED = items("name")
