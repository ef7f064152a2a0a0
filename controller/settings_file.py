"""The settings file: YAML in, Settings out, and every error with file, line, column and key, all of them at once.

PyYAML's node tree keeps positions, so an error of pydantic's (a path of keys) finds its line. A key that stands
twice is refused: YAML would keep the last one silently.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from controller.settings import CacheSettings, QueueLimits, QueueSettings, Settings
from protocol.errors import ConfigError

WRAPPER = "agentk8sglue"


def load(file: Path) -> Settings:
    """Read a file. Raises ConfigError that lists everything wrong with it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The settings file {file} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="is the path right?",
        ) from error
    return load_text(text, str(file))


def load_text(text: str, name: str = "settings") -> Settings:
    """Read a text; `name` stands for the file in errors."""
    root = compose(text, name)
    problems = [f"{name}:{line}:{column}: {key}: stands twice" for key, line, column in duplicates(root)]
    if problems:
        raise ConfigError("\n".join(problems), hint="keep one of each: YAML would silently take the last")
    raw: Any = yaml.safe_load(text)
    prefix: tuple[str, ...] = ()
    if isinstance(raw, dict) and isinstance(raw.get(WRAPPER), dict):
        beside = [key for key in raw if key != WRAPPER]
        if beside:
            where = position(root, (beside[0],))
            raise ConfigError(
                f"{name}:{where}: {beside[0]}: stands beside {WRAPPER}, where only the chart reads it",
                hint=f"put it under {WRAPPER}, or drop the wrapper; `podstrap check --values` reads a chart's values",
            )
        raw, prefix = raw[WRAPPER], (WRAPPER,)
    try:
        return Settings.model_validate({} if raw is None else raw)
    except ValidationError as error:
        lines = [_sentence(name, root, prefix, dict(one)) for one in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors; the wrapper and the short forms included."""
    schema = Settings.model_json_schema(by_alias=True)
    body = {key: value for key, value in schema.items() if key != "$defs"}
    body["properties"]["queues"] = {
        "description": body["properties"]["queues"]["description"],
        "anyOf": [
            {"type": "array", "items": {"type": "string"}},
            {
                "type": "object",
                "additionalProperties": {"anyOf": [{"$ref": "#/$defs/QueueSettings"}, {"type": "null"}]},
            },
        ],
    }
    body["properties"]["queue"] = {"type": "string", "description": "The glue's form: names separated by commas."}
    wrapped = {
        "type": "object",
        "properties": {WRAPPER: {"$ref": "#/$defs/Settings"}},
        "required": [WRAPPER],
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Podstrap settings",
        "$defs": {**schema["$defs"], "Settings": body},
        "anyOf": [{"$ref": "#/$defs/Settings"}, wrapped],
    }


def compose(text: str, name: str) -> yaml.Node | None:
    """The node tree, with positions. Raises ConfigError where the text is no YAML."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise ConfigError(f"{name}:{where}no valid YAML: {getattr(error, 'problem', None) or error}") from None


def duplicates(node: yaml.Node | None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, int, int]]:
    """Every key that stands twice in one mapping: dotted path, line, column."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                yield ".".join((*path, name)), key.start_mark.line + 1, key.start_mark.column + 1
            seen.add(name)
            yield from duplicates(value, (*path, name))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from duplicates(item, (*path, str(index)))


def position(node: yaml.Node | None, path: Sequence[object]) -> str:
    """`line:column` of the key at a path, or of the nearest one above it that exists."""
    line, column = (node.start_mark.line, node.start_mark.column) if node else (0, 0)
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if str(key.value) == str(part)), None)
            if found is None:
                break
            line, column = found[0].start_mark.line, found[0].start_mark.column
            node = found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line, column = node.start_mark.line, node.start_mark.column
        else:
            break
    return f"{line + 1}:{column + 1}"


def _sentence(name: str, root: yaml.Node | None, prefix: tuple[str, ...], error: dict[str, Any]) -> str:
    path = tuple(part for part in error["loc"])
    key = ".".join(str(part) for part in path) or "the file"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        message = f"unknown key; did you mean {near[0]}?" if near else f"unknown key; there are {', '.join(known)}"
    else:
        message += f" (it is {error['input']!r:.60})"
    return f"{name}:{position(root, (*prefix, *path))}: {key}: {message}"


def _known_keys(path: Sequence[object]) -> list[str]:
    model: type[BaseModel] = Settings
    if path[:1] == ("queues",):
        model = QueueLimits if path[2:3] == ("queueSettings",) else QueueSettings
    elif path[:1] == ("cache",):
        model = CacheSettings
    return [field.alias or name for name, field in model.model_fields.items()]
