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

from controller import job_template_keys, settings_file, settings_yaml
from controller.settings import Settings
from controller.settings_queue import QueueSettings
from controller.settings_yaml import Key, dotted
from controller.values_chart import CHART, FILES, IGNORED, ORDER, SHARED, TOP_CHART
from protocol.errors import ConfigError

_HOLD_TEMPLATES = ("basePodTemplate", "queues", "rules")
Verdict = Literal["used", "chart", "ignored", "unknown", "wrong"]
Row = tuple[Verdict, Key, str]


@dataclass(frozen=True)
class KeyReport:
    """What becomes of one key."""

    key: str
    line: int
    verdict: Verdict
    explanation: str


def report(file: Path) -> list[KeyReport]:
    """A row for each key. Raises ConfigError where the file cannot be read or is no YAML mapping."""
    document = settings_yaml.read(file)
    if document.value is None:
        return []
    if not isinstance(document.value, Mapping):
        raise ConfigError(f"{file} holds no mapping of keys to values", hint="is it a values or settings file?")
    rows = list(_top(document.value))
    rows += [("wrong", path, "stands twice: YAML takes the last silently") for path in document.duplicates]
    found = [KeyReport(dotted(path), document.position(path)[0], verdict, why) for verdict, path, why in rows]
    return sorted(found, key=lambda row: row.line)


def understood(rows: Iterable[KeyReport]) -> bool:
    """Whether every key was understood: nothing unknown and nothing wrong (what is not honoured is named)."""
    return not any(row.verdict in ("unknown", "wrong") for row in rows)


def _top(raw: Mapping[Any, Any]) -> Iterator[Row]:
    # `resources` and the like stand in the chart's section and at the top of nothing; these tell a chart's file.
    if not any(key in raw for key in (settings_file.WRAPPER, *TOP_CHART, "sessions")):
        yield from _section(raw, ())
        return
    for key, value in raw.items():
        if key == settings_file.WRAPPER:
            yield from _chart_section({} if value is None else value, (key,))
        elif key in TOP_CHART:
            yield from _chart_keys(str(key), value)
        elif key in IGNORED:
            inside = value if isinstance(value, Mapping) and value else {}
            yield from (("ignored", (str(key), str(inner)), IGNORED[key]) for inner in inside)
            if not inside:
                yield from _ignored(value, (str(key),), IGNORED[key])
        else:
            yield "unknown", (str(key),), _nearest(key, [*TOP_CHART, *IGNORED, settings_file.WRAPPER])


def _chart_keys(section: str, value: Any) -> Iterator[Row]:
    """Of a section that the chart alone reads."""
    known = TOP_CHART[section]
    if not isinstance(value, Mapping):
        yield ("chart", (section,), "not set") if value is None else ("wrong", (section,), "a mapping is wanted")
        return
    for key in value:
        path = (section, str(key))
        if key in known:
            yield "chart", path, known[key]
        elif section == SHARED:
            yield "chart", path, "read by other charts, if by any"
        else:
            yield "unknown", path, _nearest(key, [*known])


def _chart_section(section: Any, prefix: Key) -> Iterator[Row]:
    """agentk8sglue of a values file, where the chart takes things that the controller's settings do not."""
    if isinstance(section, Mapping):
        known = _meanings(Settings)
        for key in [key for key, value in section.items() if value in (None, "") and key in known]:
            yield "used", (*prefix, key), known[key]  # not set
        section = {key: value for key, value in section.items() if value not in (None, "") or key not in known}
        section, files = _without_texts(section, ())
        yield from (("chart", (*prefix, *path), FILES) for path in files)
        if section.get("queue") and section.get("queues"):
            yield "chart", (*prefix, "queue"), ORDER
            section = {key: value for key, value in section.items() if key != "queue"}
    yield from _section(section, prefix)


def _without_texts(value: Any, path: Key) -> tuple[Any, list[Key]]:
    """The section without those `fileMounts` of templates that give texts, which the chart takes; where they stood."""
    if isinstance(value, list):
        parts = [_without_texts(one, (*path, index)) for index, one in enumerate(value)]
        return [one for one, _ in parts], [place for _, places in parts for place in places]
    if not isinstance(value, Mapping):
        return value, []
    kept: dict[Any, Any] = {}
    found: list[Key] = []
    for key, inner in value.items():
        here = (*path, str(key))
        if key == job_template_keys.FILE_MOUNTS and len(path) and _gives_texts(inner):
            found.append(here)
            continue
        kept[key], below = (inner, []) if key not in _HOLD_TEMPLATES and not path else _without_texts(inner, here)
        found += below
    return ({key: inner for key, inner in kept.items() if inner or value[key] == inner} if found else value), found


def _gives_texts(files: Any) -> bool:
    return isinstance(files, list) and any(isinstance(one, Mapping) and "fileContent" in one for one in files)


def _section(section: Any, prefix: Key) -> Iterator[Row]:
    """agentk8sglue's keys, or our settings: what is wrong with them, then what becomes of each."""
    if not isinstance(section, Mapping):
        yield "wrong", prefix, "a mapping is wanted"
        return
    known = _meanings(Settings)
    ours = {key: value for key, value in section.items() if key in known or key == "queue"}
    wrong = _wrong(ours, prefix)
    yield from wrong
    bad = {path for _, path, _ in wrong}
    for path, key, value in _keys(section, prefix):
        if any(one[: len(path)] == path for one in bad):
            continue
        where = path[len(prefix) :]
        if where[0] == "basePodTemplate" and len(where) > 1:
            yield "used", path, "of each task's pod"
        elif where[0] == "queues" and len(where) > 1:
            yield from _queue_key(path, str(key))
        elif key in known or key == "queue":
            yield "used", path, known.get(str(key), "queues in order of priority")
        elif key in IGNORED:
            yield from _ignored(value, path, IGNORED[str(key)])
        elif key in CHART:
            yield "chart", path, CHART[str(key)]
        else:
            yield "unknown", path, _nearest(key, [*known, *CHART])


def _keys(section: Mapping[Any, Any], prefix: Key) -> Iterator[tuple[Key, Any, Any]]:
    """The keys to report on: templates and queues one by one, everything else as a whole."""
    for key, value in section.items():
        path = (*prefix, str(key))
        if key == "basePodTemplate" and isinstance(value, Mapping) and value:
            yield from (((*path, str(name)), name, inner) for name, inner in value.items())
        elif key == "queues" and isinstance(value, Mapping) and value:
            for name, queue in value.items():
                yield from _queue_keys((*path, str(name)), queue)
        else:
            yield path, key, value


def _queue_keys(path: Key, queue: Any) -> Iterator[tuple[Key, Any, Any]]:
    if not isinstance(queue, Mapping) or not queue:
        yield path, "", queue
        return
    for key, value in queue.items():
        if key == "templateOverrides" and isinstance(value, Mapping) and value:
            yield from (((*path, key, str(name)), name, inner) for name, inner in value.items())
        else:
            yield (*path, str(key)), key, value


def _queue_key(path: Key, key: str) -> Iterator[Row]:
    if "templateOverrides" in path[:-1]:
        yield "used", path, "of each task's pod"
    else:
        yield "used", path, _meanings(QueueSettings).get(key, "a queue with the base template")


def _wrong(ours: Mapping[str, Any], prefix: Key) -> list[Row]:
    rows: list[Row] = []
    for path, sentence in settings_file.problems(ours):
        verdict: Verdict = "unknown" if sentence.startswith(("unknown key", "is no key")) else "wrong"
        rows.append((verdict, (*prefix, *path), sentence))
    return rows


def _ignored(value: Any, path: Key, why: str) -> Iterator[Row]:
    yield ("ignored" if value else "used"), path, why


def _meanings(model: type[Settings] | type[QueueSettings]) -> dict[str, str]:
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def _nearest(key: object, known: list[str]) -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"unknown key; did you mean {near[0]}?" if near else "unknown to podstrap and to the official chart"
