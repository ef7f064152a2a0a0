"""Writes the reference pages of docs/ from what the code is made of; a test holds each equal (`make docs`).

The settings' models -> settings.md and settings.schema.json; the metrics' table and the reasons -> metrics.md; exit
codes and the pod's variables, by the words that stand below each in protocol/ -> pod-protocol.md; the reasons' words ->
a table of troubleshooting.md, which people write otherwise.

    python -m charts.reference
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from charts.reference_words import with_words
from controller import settings_file, telemetry_metrics
from controller.reasons import REASONS
from controller.settings import Settings
from controller.settings_values import Model
from controller.telemetry_metrics import Metric

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_WRITTEN = "<!-- Written by `make docs` from {}; a test holds it true. -->\n"
_TEMPLATE = "PodTemplate"
_RANGES = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "maxLength": "length at most"}


def pages() -> dict[str, str]:
    """File name -> text."""
    return {
        "settings.md": settings_page(),
        "settings.schema.json": json.dumps(settings_file.json_schema(), indent=2) + "\n",
        "metrics.md": metrics_page(),
        "pod-protocol.md": protocol_page(),
        "troubleshooting.md": with_words((DOCS / "troubleshooting.md").read_text(encoding="utf-8")),
    }


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


_SETTINGS = """\
The file of `podstrap controller --config`, in YAML; the chart takes the same keys below `agentk8sglue`.
[settings.schema.json](settings.schema.json) is its schema, for editors; `podstrap check --config FILE` names every
mistake with line, column and key. What the chart's other sections take is in [install.md](install.md#values).
"""
_TEMPLATES = """\
`basePodTemplate` and `templateOverrides` take these keys, any further field of a pod or a container, and whole pods or
Jobs (`spec`, `template`). Lists merge by the key that Kubernetes' own schema gives (`env`, `volumes` and containers by
name, `volumeMounts` by mountPath) and replace one another where it gives none; `null` takes away.
"""
_METRICS = """\
`podstrap controller --metrics HOST:PORT` serves them at `/metrics`, for Prometheus, on a port of their own or on that
of `--health`; the chart does so by default (`podstrap.metrics`), with a PodMonitor, alerts and a dashboard when asked
([install.md](install.md#metrics)). No metric costs a request to ClearML or Kubernetes, and no label holds the name of a
task, a Job or a pod. [alerts.md](alerts.md) says what to watch. Prometheus' own `process_*` metrics (memory, processor,
open files) are served too.
"""
_REASONS = """\
The words of the label `reason`, and whose fault each is (`cause`). After one of the infrastructure's the task is
started again, as its queue's settings say.
"""
_CODES = """\
Of a task's pod: 0 when the task completed, was aborted, or is another pod's; 75 when the infrastructure took the pod;
else the task's own code (its own 75 becomes 1, the true code stands on the task). 128+N: ended by signal N. Of the
command `podstrap`:
"""
_VARIABLES = """\
Most are written into the Job by the controller; the others may be set in a template (`env`). None is a secret.
What else bootstrap reads is in [environment-variables.md](environment-variables.md).
"""


# Settings


def settings_page() -> str:
    """Every setting with its type, default and meaning."""
    definitions = settings_file.json_schema()["$defs"]
    lines = [
        "# Settings",
        "",
        _WRITTEN.format("controller/settings*.py"),
        _SETTINGS,
    ]
    for model in models():
        about = (model.__doc__ or "").strip()
        lines += [f"## {_heading(model)}", "", " ".join(about.split()), ""]
        lines += ["| setting | type | default | what it is |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            key = field.alias or name
            kind = _kind(definitions[model.__name__]["properties"][key])
            lines.append(_row(f"`{key}`", kind, _default(field), field.description or ""))
        lines.append("")
    keys = [name for name in definitions[_TEMPLATE]["properties"] if name not in ("apiVersion", "kind")]
    lines += [
        "## Template",
        "",
        _TEMPLATES,
        ", ".join(f"`{name}`" for name in sorted(keys)) + ".",
    ]
    return "\n".join(lines) + "\n"


def models() -> list[type[Model]]:
    """The file's model and every one that is part of it, each after what names it."""
    found: list[type[Model]] = []
    _collect(Settings, found)
    return found


def _collect(model: type[Model], found: list[type[Model]]) -> None:
    found.append(model)
    for field in model.model_fields.values():
        for inner in _inside(field.annotation):
            if inner not in found:
                _collect(inner, found)


def _inside(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _inside(inner)


def _heading(model: type[Model]) -> str:
    """What it is, else the key that holds it."""
    names = {"Settings": "The file", "QueueSettings": "A queue", "RuleSettings": "A rule"}
    return names.get(model.__name__) or _holder(model)


def anchor(heading: str) -> str:
    """As GitHub makes one of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _holder(model: type[Model]) -> str:
    for owner in models():
        for name, field in owner.model_fields.items():
            if model in _inside(field.annotation):
                outer = "" if owner is Settings else f"{_heading(owner)}: "
                return f"{outer}{field.alias or name}"
    return model.__name__


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in words."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        if name == _TEMPLATE:
            return "[template](#template)"
        (model,) = [one for one in models() if one.__name__ == name]
        return f"[mapping](#{anchor(_heading(model))})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one) for one in schema["anyOf"] if one.get("type") != "null"))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_kind(schema.get('items') or {})}"
    if kind == "object" and isinstance(inner := schema.get("additionalProperties"), dict) and inner:
        return f"mapping of name to {_kind(inner)}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "mapping"}
    limits = [f"{text} {schema[key]:g}" for key, text in _RANGES.items() if key in schema]
    return ", ".join([words.get(str(kind), str(kind)), *limits])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`"


# Metrics


def metrics_page() -> str:
    """Every metric, and the words of the label `reason`."""
    groups = {
        "What the last round saw": telemetry_metrics.SNAPSHOT,
        "The controller itself": telemetry_metrics.OWN_STATE,
        "Counted": tuple(one for one in telemetry_metrics.COUNTED if one.kind == "counter"),
        "Timed": tuple(one for one in telemetry_metrics.COUNTED if one.kind == "histogram"),
    }
    says = {
        "What the last round saw": "Gauges of the leader alone, so a sum over replicas counts nothing twice. They are "
        "made anew at every round, so they are right from the first round after a restart.",
        "The controller itself": "Gauges of every replica.",
        "Counted": "Counters of every replica; only the leader acts, so a sum over replicas is right. They begin anew "
        "with the process.",
        "Timed": "Histograms in seconds, likewise.",
    }
    lines = [
        "# Metrics",
        "",
        _WRITTEN.format("controller/telemetry_metrics.py and controller/reasons.py"),
        _METRICS,
    ]
    for title, found in groups.items():
        lines += [f"## {title}", "", says[title], "", "| metric | labels | what it is |", "|---|---|---|"]
        lines += [_row(f"`{one.name}`", _labels(one), one.about) for one in found]
        lines.append("")
    lines += [
        "## Reasons",
        "",
        _REASONS,
        "| reason | cause | what it means |",
        "|---|---|---|",
    ]
    lines += [_row(f"`{word.value}`", about.cause.value, about.summary) for word, about in REASONS.items()]
    return "\n".join(lines) + "\n"


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{one}`" for one in metric.labels)


# What pod and controller agree on


def protocol_page() -> str:
    """Exit codes, and the variables that the controller gives to a pod."""
    lines = [
        "# Exit codes and variables",
        "",
        _WRITTEN.format("protocol/exit_codes.py and protocol/environment.py"),
        "## Exit codes",
        "",
        _CODES,
        "| code | name | what it means |",
        "|---|---|---|",
    ]
    for name, value, about in _constants("exit_codes.py"):
        lines.append(_row(f"`{value}`", f"`{name}`", about))
    lines += [
        "",
        "## Variables of a pod",
        "",
        _VARIABLES,
        "| variable | what it is |",
        "|---|---|",
    ]
    for _, value, about in _constants("environment.py"):
        if str(value) != "PODSTRAP_":
            lines.append(_row(f"`{value}`", about))
    return "\n".join(lines) + "\n"


def _constants(file: str) -> list[tuple[str, Any, str]]:
    """Name, value and words of each constant of a module of protocol/, in order."""
    tree = ast.parse((ROOT / "protocol" / file).read_text(encoding="utf-8"))
    found = []
    for one, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not (isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant)):
            continue
        (target,) = one.targets
        about = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            about = " ".join(str(following.value.value).split())
        if isinstance(target, ast.Name) and not target.id.startswith("_"):
            found.append((target.id, one.value.value, about))
    return found


def _row(*cells: str) -> str:
    return f"| {' | '.join(_cells(cells))} |"


def _cells(cells: Iterable[str]) -> Iterator[str]:
    return (cell.replace("|", "\\|").strip() for cell in cells)


if __name__ == "__main__":
    main()
