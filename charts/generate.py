"""Writes what in the chart follows from elsewhere, so that nothing is said twice by hand; a test holds each file true.

values.yaml (its comments) and the controller's settings model -> values.schema.json and the table in docs/install.md;
controller/permissions.py -> files/permissions.yaml; the model's keys -> files/settings-keys.yaml; the metrics' table ->
files/dashboard.json; and, with helm, the chart with deploy/values.yaml -> deploy/podstrap.yaml, for those without it.

    python -m charts.generate [HELM]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from charts.dashboard import dashboard_json
from controller import settings_file
from controller.permissions import PERMISSIONS, on_request, rules

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "podstrap"
DEPLOY = ROOT / "deploy"
INSTALL = ROOT / "docs" / "install.md"
NAMESPACE = "podstrap"
"""Of the plain manifests."""
_WRITTEN = "# Written by `make chart` from {}; a test holds it true.\n"
_TABLE = ("<!-- values: written by `make chart` -->\n", "<!-- end of values -->\n")
Schema = dict[str, Any]

_FILES: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("name", "folderPath", "fileContent")},
        "required": ["name", "folderPath", "fileContent"],
        "additionalProperties": False,
    },
}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
_WORDS: Schema = {"type": "array", "items": {"type": "string"}}
_SPECIAL: dict[str, Schema] = {
    "agentk8sglue.additionalClusterRoleBindings": _WORDS,
    "agentk8sglue.additionalRoleBindings": _WORDS,
    "agentk8sglue.annotations": _TEXTS,
    "agentk8sglue.containerSecurityContext": {"additionalProperties": True},
    "agentk8sglue.containerSecurityContext.capabilities": {"additionalProperties": True},
    "agentk8sglue.extraEnvs": _OBJECTS,
    "agentk8sglue.fileMounts": _FILES,
    "agentk8sglue.labels": _TEXTS,
    "agentk8sglue.nodeSelector": _TEXTS,
    "agentk8sglue.podSecurityContext": {"additionalProperties": True},
    "agentk8sglue.podSecurityContext.seccompProfile": {"additionalProperties": True},
    "agentk8sglue.replicaCount": {"type": "integer", "minimum": 0},
    "agentk8sglue.resources": {"additionalProperties": True},
    "agentk8sglue.resources.limits": {"additionalProperties": {"type": ["string", "number"]}},
    "agentk8sglue.resources.requests": {"additionalProperties": {"type": ["string", "number"]}},
    "agentk8sglue.resources.limits.memory": {"type": ["string", "number"]},
    "agentk8sglue.resources.requests.cpu": {"type": ["string", "number"]},
    "agentk8sglue.resources.requests.memory": {"type": ["string", "number"]},
    "agentk8sglue.serviceAccountAnnotations": _TEXTS,
    "agentk8sglue.tolerations": _OBJECTS,
    "agentk8sglue.volumeMounts": _OBJECTS,
    "agentk8sglue.volumes": _OBJECTS,
    "global": {"additionalProperties": True},
    "podstrap.drain.timeoutSeconds": {"type": "number", "exclusiveMinimum": 0},
    "podstrap.healthPort": {"type": "integer", "minimum": 1024, "maximum": 65535},
    "podstrap.image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "podstrap.logFormat": {"enum": ["text", "json"]},
    "podstrap.logLevel": {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]},
    "podstrap.metrics.dashboard.annotations": _TEXTS,
    "podstrap.metrics.dashboard.labels": {**_TEXTS, "type": "object"},
    "podstrap.metrics.podMonitor.labels": _TEXTS,
    "podstrap.metrics.port": {"type": "integer", "minimum": 1024, "maximum": 65535},
    "podstrap.metrics.prometheusRule.labels": _TEXTS,
    "podstrap.metrics.prometheusRule.without": _WORDS,
    "podstrap.networkPolicy.egressPorts": {"type": "array", "items": {"type": "integer"}},
    "podstrap.networkPolicy.extraEgress": _OBJECTS,
    "podstrap.networkPolicy.metricsFrom": _OBJECTS,
    "podstrap.podDisruptionBudget.maxUnavailable": {"type": ["integer", "string"]},
    "podstrap.runAs": {"enum": ["Deployment", "Job", "CronJob"]},
}
"""What a value may be, where its default does not tell."""


@dataclass(frozen=True)
class Value:
    """One key of values.yaml."""

    path: tuple[str, ...]
    default: Any
    description: str

    @property
    def name(self) -> str:
        return ".".join(self.path)


def values() -> list[Value]:
    """Every key of values.yaml in its order, sections before what is in them."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("values.yaml is a mapping")
    return list(_values(root, (), text.splitlines(), yaml.safe_load(text)))


def permissions_yaml() -> str:
    """The rules of the Role; LEASE stands for the Lease's name."""
    parts = {
        "jobs": rules(one for one in PERMISSIONS if one.everywhere and not one.setting),
        "settings": on_request(),
        "lease": rules((one for one in PERMISSIONS if not one.everywhere), "LEASE"),
    }
    return _WRITTEN.format("controller/permissions.py") + yaml.safe_dump(parts, sort_keys=False)


def settings_keys_yaml() -> str:
    """The keys of agentk8sglue that are the controller's settings."""
    return _WRITTEN.format("controller/settings.py") + yaml.safe_dump(_settings_keys())


def values_schema() -> Schema:
    """values.schema.json: every value with its description; below agentk8sglue the settings' own schema."""
    settings = settings_file.json_schema()
    definitions = settings["$defs"]
    controller = definitions.pop("Settings")["properties"]
    template = definitions["PodTemplate"]
    named = template["properties"]["fileMounts"]["anyOf"]
    template["properties"]["fileMounts"] = {
        "anyOf": [{"type": "array", "items": {"anyOf": [_FILES["items"], named[0]["items"]]}}, {"type": "null"}],
        "description": "Files, of a text (the chart makes a Secret) or of a Secret or ConfigMap that is there.",
    }
    definitions["BasePodTemplate"] = template
    schema: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart podstrap",
        **_section((), values(), controller),
        "$defs": definitions,
    }
    return schema


def table() -> str:
    """Every value as a row of Markdown; sections have none of their own, but where they are empty."""
    lines = ["| value | default | what it is |", "|---|---|---|"]
    for one in values():
        if isinstance(one.default, dict) and one.default:
            continue
        shown = "" if one.default in (None, "") else f"`{json.dumps(one.default)}`"
        lines.append(f"| `{one.name}` | {shown} | {one.description.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with the table between its two marks."""
    before, _, rest = page.partition(_TABLE[0])
    _, _, after = rest.partition(_TABLE[1])
    return f"{before}{_TABLE[0]}\n{table()}\n{_TABLE[1]}{after}"


def manifests(helm: Path) -> str:
    """What `kubectl apply -f` takes, from deploy/values.yaml."""
    words: list[str | Path] = [helm, "template", "podstrap", CHART, "--namespace", NAMESPACE]
    words += ["--values", DEPLOY / "values.yaml"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return _WRITTEN.format("charts/podstrap and deploy/values.yaml") + _not_helms(done.stdout)


def main(words: list[str]) -> None:
    """Write every file."""
    (CHART / "files" / "permissions.yaml").write_text(permissions_yaml(), encoding="utf-8")
    (CHART / "files" / "settings-keys.yaml").write_text(settings_keys_yaml(), encoding="utf-8")
    (CHART / "files" / "dashboard.json").write_text(dashboard_json(), encoding="utf-8")
    (CHART / "values.schema.json").write_text(json.dumps(values_schema(), indent=2) + "\n", encoding="utf-8")
    INSTALL.write_text(with_table(INSTALL.read_text(encoding="utf-8")), encoding="utf-8")
    if words:
        (DEPLOY / "podstrap.yaml").write_text(manifests(Path(words[0])), encoding="utf-8")


def _not_helms(text: str) -> str:
    """Without the labels by which other tools would take these objects for a release of Helm's."""
    text = re.sub(r"^ *helm\.sh/chart: .*\n", "", text, flags=re.MULTILINE)
    return text.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl")


def _settings_keys() -> list[str]:
    settings = settings_file.json_schema()["$defs"]["Settings"]["properties"]
    return sorted(map(str, settings))


def _values(node: yaml.MappingNode, path: tuple[str, ...], lines: list[str], value: Any) -> Iterator[Value]:
    for key, child in node.value:
        name = str(key.value)
        yield Value((*path, name), value[name], _description(lines, key.start_mark.line))
        if isinstance(child, yaml.MappingNode):
            yield from _values(child, (*path, name), lines, value[name])


def _description(lines: list[str], key_line: int) -> str:
    """The comment that stands right above a key, from its `# --` on."""
    found: list[str] = []
    for line in reversed(lines[:key_line]):
        text = line.strip()
        if not text.startswith("#"):
            break
        if text.startswith("# -- "):
            return " ".join([text[5:], *reversed(found)])
        found.append(text[1:].strip())
    return ""


def _section(path: tuple[str, ...], every: list[Value], controller: dict[str, Schema]) -> Schema:
    inside = [one for one in every if one.path[:-1] == path]
    properties = {one.path[-1]: _property(one, every, controller) for one in inside}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(one: Value, every: list[Value], controller: dict[str, Schema]) -> Schema:
    described: Schema = {"description": one.description}
    if one.path[0] == "agentk8sglue" and len(one.path) == 2 and one.path[1] in controller:
        return {**described, **_setting(one, controller[one.path[1]])}
    special = _SPECIAL.get(one.name, {})
    if isinstance(one.default, dict) and one.default:
        return {**described, **_section(one.path, every, controller), **special}
    if isinstance(one.default, dict):
        return {**described, "default": {}, "type": "object", **special}
    types = {bool: "boolean", int: "integer", str: "string", list: "array"}
    kind = special or {"type": types[type(one.default)]}
    return {**described, "default": one.default, **_or_null(kind)}


def _setting(one: Value, schema: Schema) -> Schema:
    """A setting's own schema; empty and null mean not set."""
    if one.path[1] == "basePodTemplate":
        return {"$ref": "#/$defs/BasePodTemplate"}
    kind = {key: value for key, value in schema.items() if key not in ("description", "title", "default")}
    choices = [kind, {"type": "null"}]
    if one.default == "":
        choices.append({"const": ""})
    return {"default": one.default, "anyOf": choices}


def _or_null(kind: Schema) -> Schema:
    """`null` takes a default away in Helm."""
    if "enum" in kind:
        return {"enum": [*kind["enum"], None]}
    types = kind["type"] if isinstance(kind["type"], list) else [kind["type"]]
    return {**kind, "type": [*types, "null"]}


if __name__ == "__main__":
    main(sys.argv[1:])
