"""`podstrap check --values FILE`: a values file of the official chart, or of ours, or our settings, key by key.

No server is asked. Every key of the file gets a row: used by the controller, used by the chart, not honoured (and
why), or unknown (and the nearest known one). Nothing is ignored silently.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from controller import job_template, settings_file
from controller.settings import QueueSettings, Settings
from protocol.errors import ConfigError

Verdict = Literal["used", "chart", "ignored", "unknown", "wrong"]

_CHART = {
    "image": "the official agent's own image; podstrap's controller image is podstrap.image",
    "replicaCount": "replicas of the controller's Deployment",
    "resources": "of the controller's own pod",
    "extraEnvs": "of the controller's own pod",
    "labels": "of the controller's own pod",
    "annotations": "of the controller's own pod",
    "nodeSelector": "of the controller's own pod",
    "tolerations": "of the controller's own pod",
    "affinity": "of the controller's own pod",
    "volumes": "of the controller's own pod",
    "volumeMounts": "of the controller's own pod",
    "fileMounts": "of the controller's own pod",
    "podSecurityContext": "of the controller's own pod",
    "containerSecurityContext": "of the controller's own pod",
    "serviceAccountAnnotations": "of the controller's service account",
    "serviceExistingAccountName": "of the controller's service account",
    "additionalRoleBindings": "of the controller's service account",
    "additionalClusterRoleBindings": "of the controller's service account",
}
_TOP_CHART = {
    "clearml": "credentials and clearml.conf, as Secrets",
    "imageCredentials": "pull secret of private registries",
    "global": "image registry",
    "podstrap": "the chart's own keys",
}
_IGNORED = {
    "sessions": "interactive sessions through services are not offered yet",
    "clearmlcheckCertificate": "set api.verify_certificate in clearml.conf",
    "debugMode": "use --log-level DEBUG",
}
_IGNORED_TEMPLATE = {"fileMounts": "use volumes with a ConfigMap or Secret and volumeMounts"}


@dataclass(frozen=True)
class KeyReport:
    """What becomes of one key."""

    key: str
    line: int
    verdict: Verdict
    explanation: str


def report(file: Path) -> list[KeyReport]:
    """A row for each key. Raises ConfigError where the file cannot be read or is no YAML mapping."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file {file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    root = settings_file.compose(text, str(file))
    raw = yaml.safe_load(text)
    if raw is None:
        return []
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{file} holds no mapping of keys to values")
    rows = list(_top(raw))
    rows += [("wrong", key, "stands twice: YAML takes the last silently") for key, *_ in settings_file.duplicates(root)]
    return [
        KeyReport(key, int(settings_file.position(root, key.split(".")).split(":")[0]), verdict, why)
        for verdict, key, why in rows
    ]


def understood(rows: Iterable[KeyReport]) -> bool:
    """Whether every key was understood: nothing unknown and nothing wrong (what is not honoured is named)."""
    return not any(row.verdict in ("unknown", "wrong") for row in rows)


Row = tuple[Verdict, str, str]


def _top(raw: Mapping[str, Any]) -> Iterator[Row]:
    chart = settings_file.WRAPPER in raw or any(key in raw for key in _TOP_CHART)
    if not chart:
        yield from _section(raw, "")
        return
    for key, value in raw.items():
        if key == settings_file.WRAPPER:
            yield from _section(value or {}, f"{key}.")
        elif key in _TOP_CHART:
            yield "chart", key, _TOP_CHART[key]
        elif key in _IGNORED:
            yield "ignored", key, _IGNORED[key]
        else:
            yield "unknown", key, _nearest(key, [*_TOP_CHART, *_IGNORED, settings_file.WRAPPER])


def _section(section: Any, prefix: str) -> Iterator[Row]:
    """agentk8sglue's keys, or our settings."""
    if not isinstance(section, Mapping):
        yield "wrong", prefix.rstrip("."), "a mapping is wanted"
        return
    known = {field.alias or name: field.description or "" for name, field in Settings.model_fields.items()}
    for key, value in section.items():
        where = f"{prefix}{key}"
        if key == "queues" and isinstance(value, Mapping):
            yield from _queues(value, where)
        elif key == "basePodTemplate":
            yield from _template(value or {}, where)
        elif key in known or key == "queue":
            yield from _value(section, key, where, known.get(key, "queues in order of priority"))
        elif key in _IGNORED:
            yield "ignored", where, _IGNORED[key]
        elif key in _CHART:
            yield "chart", where, _CHART[key]
        else:
            yield "unknown", where, _nearest(key, [*known, *_CHART])


def _queues(queues: Mapping[str, Any], where: str) -> Iterator[Row]:
    known = {field.alias or name: field.description or "" for name, field in QueueSettings.model_fields.items()}
    for name, queue in queues.items():
        for key, value in (queue or {}).items() if isinstance(queue, Mapping) or queue is None else ():
            path = f"{where}.{name}.{key}"
            if key == "templateOverrides":
                yield from _template(value or {}, path)
            elif key in known:
                yield from _queue_value(key, value, path, known[key])
            else:
                yield "unknown", path, _nearest(key, list(known))
        if not queue:
            yield "used", f"{where}.{name}", "a queue with the base template"


def _value(section: Mapping[str, Any], key: str, where: str, meaning: str) -> Iterator[Row]:
    try:
        Settings.model_validate({key: section[key]})
        yield "used", where, meaning
    except ValueError as error:
        yield "wrong", where, _first(error)


def _queue_value(key: str, value: Any, where: str, meaning: str) -> Iterator[Row]:
    try:
        QueueSettings.model_validate({key: value})
        yield "used", where, meaning
    except ValueError as error:
        yield "wrong", where, _first(error)


def _template(template: Any, where: str) -> Iterator[Row]:
    if not isinstance(template, Mapping):
        yield "wrong", where, "a mapping is wanted"
        return
    for key, value in template.items():
        if key in _IGNORED_TEMPLATE:
            yield ("ignored" if value else "used"), f"{where}.{key}", _IGNORED_TEMPLATE[key]
            continue
        try:
            job_template.template({key: value}, where)
            yield "used", f"{where}.{key}", "of each task's pod"
        except ConfigError as error:
            known = "no key of a pod template" not in error.message
            yield ("wrong" if known else "unknown"), f"{where}.{key}", f"{error.message}; {error.hint}".rstrip("; ")


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"unknown; did you mean {near[0]}?" if near else "unknown to podstrap and to the official chart"


def _first(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    return str(errors()[0]["msg"]).removeprefix("Value error, ") if callable(errors) else str(error)
