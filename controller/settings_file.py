"""The settings file: YAML in, Settings out, and every error with file, line, column and key, all of them at once.

Templates are looked at here too (unknown keys, wrong shapes, what podstrap owns), so that a mistake in one is told
when the controller starts, not when the first task waits.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controller import job_template_keys, settings_yaml
from controller.settings import QUEUE_FORM, CacheSettings, CredentialsKeys, Settings
from controller.settings_queue import QueueLimits, QueueSettings, RuleCondition, RuleSettings  # fmt: skip
from controller.settings_yaml import Document, Key, dotted
from controller.values_chart import CHART, IGNORED
from protocol.errors import ConfigError

WRAPPER = "agentk8sglue"
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where Kubernetes tells a pod its namespace."""
_PLAIN = {
    "string_type": "a text is wanted: put it in quotes",
    "int_type": "a whole number is wanted",
    "float_type": "a number is wanted",
    "bool_type": "true or false is wanted",
    "dict_type": "a mapping is wanted",
    "model_type": "a mapping is wanted",
    "tuple_type": "a list is wanted",
}


def load(file: Path, *, own_namespace: Path = OWN_NAMESPACE) -> Settings:
    """Read a file. Raises ConfigError that lists everything wrong with it.

    Where it names no namespace, that of the pod we run in is taken, if we run in one.
    """
    return in_own_namespace(_settings(settings_yaml.read(file)), own_namespace)


def in_own_namespace(settings: Settings, own_namespace: Path = OWN_NAMESPACE) -> Settings:
    """The same, in the namespace of the pod we run in, if we run in one and they name none."""
    try:
        return settings.or_in(own_namespace.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return settings


@dataclass(frozen=True)
class Places:
    """Where the settings' keys stand in their file."""

    document: Document
    prefix: Key = ()

    @classmethod
    def of(cls, file: Path) -> Places:
        """Raises ConfigError where the file cannot be read."""
        document = settings_yaml.read(file)
        wrapped = isinstance(document.value, Mapping) and WRAPPER in document.value
        return cls(document, (WRAPPER,) if wrapped else ())

    def at(self, key: Key) -> str:
        """`file:line:column` of a key; empty when it does not stand there."""
        path = (*self.prefix, *key)
        return self.document.at(path) if self.document.has(path) else ""

    def nearest(self, key: Key) -> str:
        """`file:line:column` of a key, or of what it would stand in."""
        return self.document.at((*self.prefix, *key))


def load_text(text: str, name: str = "settings") -> Settings:
    """Read a text; `name` stands for the file in errors."""
    return _settings(settings_yaml.parse(text, name))


def problems(raw: Any) -> list[tuple[Key, str]]:
    """Everything wrong with the settings in a YAML value, without its wrapper: path and sentence."""
    found: list[tuple[Key, str]] = []
    try:
        Settings.model_validate({} if raw is None else raw, by_alias=True, by_name=False)
    except ValidationError as error:
        found = [(_path(one), _sentence(one)) for one in error.errors()]
    for path, template in _templates(raw):
        for problem in job_template_keys.read(template).problems:
            hint = f"; {problem.hint}" if problem.hint else ""
            found.append(((*path, *problem.path), problem.message + hint))
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors; the wrapper and the short forms included."""
    schema = Settings.model_json_schema(by_alias=True)
    definitions, body = schema["$defs"], {key: value for key, value in schema.items() if key != "$defs"}
    definitions["PodTemplate"] = job_template_keys.schema()
    overrides = [(definitions[owner], "templateOverrides") for owner in ("QueueSettings", "RuleSettings")]
    for owner, key in ((body, "basePodTemplate"), *overrides):
        owner["properties"][key] = {
            "description": owner["properties"][key]["description"],
            "$ref": "#/$defs/PodTemplate",
        }
    body["properties"]["queues"] = {
        "description": body["properties"]["queues"]["description"],
        "anyOf": [
            {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            {
                "type": "object",
                "additionalProperties": {"anyOf": [{"$ref": "#/$defs/QueueSettings"}, {"type": "null"}]},
            },
        ],
    }
    queue = definitions["QueueSettings"]["properties"]
    queue["pendingTimeout"] = {**queue["pendingTimeoutSeconds"], "description": "Also called pendingTimeoutSeconds."}
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
        "$defs": {**definitions, "Settings": body},
        "anyOf": [{"$ref": "#/$defs/Settings"}, wrapped],
    }


def _settings(document: Document) -> Settings:
    lines = [
        f"{document.at(path)}: {dotted(path)}: stands twice; YAML would silently take the last"
        for path in document.duplicates
    ]
    raw: Any = document.value
    prefix: Key = ()
    if isinstance(raw, Mapping) and WRAPPER in raw:
        for key in raw:
            if key != WRAPPER:
                hint = f"only the chart reads keys beside {WRAPPER} (podstrap check --values looks at a chart's values)"
                lines.append(f"{document.at((str(key),))}: {key}: {hint}")
        raw, prefix = raw[WRAPPER], (WRAPPER,)
    found = sorted(problems(raw), key=lambda one: document.position((*prefix, *one[0])))
    lines += [f"{document.at((*prefix, *path))}: {dotted(path) or 'the file'}: {text}" for path, text in found]
    if lines:
        raise ConfigError("\n".join(lines))
    return Settings.model_validate({} if raw is None else raw, by_alias=True, by_name=False)


def _templates(raw: Any) -> Iterator[tuple[Key, Any]]:
    """Every template of the file that is a mapping."""
    if not isinstance(raw, Mapping):
        return
    found: list[tuple[Key, Any]] = [(("basePodTemplate",), raw.get("basePodTemplate"))]
    queues, rules = raw.get("queues"), raw.get("rules")
    places: list[tuple[Key, Any]] = []
    if isinstance(queues, Mapping):
        places += [(("queues", str(name)), queue) for name, queue in queues.items()]
    if isinstance(rules, list):
        places += [(("rules", index), rule) for index, rule in enumerate(rules)]
    key = "templateOverrides"
    found += [((*at, key), owner.get(key)) for at, owner in places if isinstance(owner, Mapping)]
    yield from ((path, template) for path, template in found if isinstance(template, Mapping))


def _path(error: ErrorDetails) -> Key:
    return ("queue",) if error["type"] == QUEUE_FORM else tuple(error["loc"])


def _sentence(error: ErrorDetails) -> str:
    path, kind, value = error["loc"], error["type"], error["input"]
    if kind == "extra_forbidden":
        if len(path) == 1 and (path[0] in CHART or path[0] in IGNORED):
            return "is a key of the chart's values, not of the controller's settings"
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; there are {', '.join(known)}"
    message = _PLAIN.get(kind) or str(error["msg"]).replace("Input should be", "it should be")
    shown = isinstance(value, (str, int, float)) and "secret" not in kind
    return f"{message} (it is {value!r:.60})" if shown else message


def _known_keys(path: Sequence[object]) -> list[str]:
    model: type[BaseModel] = Settings
    if path[:1] == ("queues",):
        model = QueueLimits if path[2:3] == ("queueSettings",) else QueueSettings
    elif path[:1] == ("rules",):
        model = RuleCondition if path[2:3] == ("when",) else RuleSettings
    elif path[:1] == ("cache",):
        model = CacheSettings
    elif path[:1] == ("credentialsSecretKeys",):
        model = CredentialsKeys
    keys = [field.alias or name for name, field in model.model_fields.items()]
    return [*keys, "queue"] if model is Settings else keys


if __name__ == "__main__":  # writes docs/settings.schema.json
    import json
    import sys

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
