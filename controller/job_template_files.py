"""`fileMounts` of a template: files of a Secret or ConfigMap, each mounted under its own name in a folder.

The official chart's key gives the files' text: {name, folderPath, fileContent}. Our chart makes a Secret of the texts
and hands the controller {name, folderPath, secretName}; a settings file without a chart names a Secret or ConfigMap
that is there. A text is not taken by the controller: it would stand in every Job, readable to whoever may read Jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.job_template_shapes import Path, Problem, Shape, described

_SOURCES = {"secretName": ("secret", "secretName"), "configMapName": ("configMap", "name")}
_KEYS = ("name", "folderPath", *_SOURCES)
_HINT = "- {name: FILE, folderPath: /FOLDER, secretName: SECRET} (or configMapName)"


def volumes_and_mounts(files: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the files come to: a volume for each Secret or ConfigMap, a mount for each file, by its key `name`."""
    volumes: dict[str, dict[str, Any]] = {}
    mounts = []
    for one in files:
        key = next(key for key in _SOURCES if one.get(key))
        kind, field = _SOURCES[key]
        name = f"files-{hashlib.sha256(f'{kind}/{one[key]}'.encode()).hexdigest()[:10]}"
        volumes[name] = {"name": name, kind: {field: one[key]}}
        path = f"{str(one['folderPath']).rstrip('/')}/{one['name']}"
        mounts.append({"name": name, "mountPath": path, "subPath": one["name"], "readOnly": True})
    return list(volumes.values()), mounts


def _check(value: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield Problem(path, f"a list is wanted, this is {described(value)}", _HINT)
        return
    for index, one in enumerate(value):
        yield from _file(one, (*path, index))


def _file(one: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(one, Mapping):
        yield Problem(path, f"a mapping is wanted, this is {described(one)}", _HINT)
        return
    for key in one:
        if key == "fileContent":
            why = "a file's text is taken by the chart alone, which makes a Secret of it"
            yield Problem((*path, key), why, "name a Secret or ConfigMap that holds it: secretName, configMapName")
        elif key not in _KEYS:
            yield Problem((*path, str(key)), f"unknown key; there are {', '.join(_KEYS)}", unknown=True)
    name, folder = one.get("name"), one.get("folderPath")
    if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
        yield Problem((*path, "name"), "a file's name without a folder is wanted", _HINT)
    if not isinstance(folder, str) or not folder.startswith("/") or ".." in folder.split("/") or ":" in folder:
        yield Problem((*path, "folderPath"), "an absolute path without .. is wanted", _HINT)
    sources = [key for key in _SOURCES if one.get(key)]
    if "fileContent" not in one and (len(sources) != 1 or not isinstance(one[sources[0]], str)):
        yield Problem(path, "one of secretName and configMapName is wanted", _HINT)


FILES = Shape(
    _check,
    {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {key: {"type": "string"} for key in _KEYS},
            "required": ["name", "folderPath"],
            "oneOf": [{"required": [key]} for key in _SOURCES],
            "additionalProperties": False,
        },
    },
)
