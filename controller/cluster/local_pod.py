"""What a local pod's container gets: command, environment and folders, from the very manifest Kubernetes would get.

Volumes become folders, and since nothing is mounted here, an environment value that starts with a mountPath is
rewritten to the folder behind it. Init containers and image volumes only bring the bootstrap's folder into other
people's images: here `podstrap` is this environment's own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.cluster.local_files import Files, JobRecord, PodRecord
from protocol import environment as names
from protocol.errors import PodstrapError

NODE = "localhost"
_KEPT = (
    "PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
_KEPT_PREFIXES = ("PIP_", "UV_", "NVIDIA_")
_NOT_KEPT = ("PIP_CACHE_DIR", "UV_CACHE_DIR", "UV_PROJECT_ENVIRONMENT")
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_KEYED = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")


class CannotStart(PodstrapError):
    """The container's configuration cannot be used (Kubernetes: CreateContainerConfigError)."""


@dataclass(frozen=True)
class Container:
    """What the shim starts. `environment` may hold secrets: it is never written down."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path


def container_of(
    job: JobRecord, pod: PodRecord, files: Files, secrets: Mapping[str, str], outer: Mapping[str, str]
) -> Container:
    """The first container of the pod. Raises CannotStart."""
    spec = job.pod_spec["containers"][0]
    mounts = _mounts(job, pod, files, spec)
    folder = files.folder(pod.uid)
    log = str(folder / "termination")
    declared = _declared(spec, pod, secrets)
    declared = {name: _placed(value, mounts) for name, value in declared.items()}
    if path := spec.get("terminationMessagePath"):
        declared = {name: log if value == path else value for name, value in declared.items()}
    environment = {**_outer(outer), "HOME": str(folder / "home"), **declared}
    environment |= {names.POD_UID: pod.uid, names.TERMINATION_LOG: log}
    words = [*(spec.get("command") or ["podstrap"]), *(spec.get("args") or ())]
    argv = [_expanded(str(word), environment) for word in words]
    where = Path(_placed(str(spec.get("workingDir") or folder / "home"), mounts))
    return Container((*_program(argv[0]), *argv[1:]), environment, where if where.is_dir() else folder / "home")


def memory_limit(job: JobRecord) -> str:
    """The container's memory limit as it is written."""
    resources = job.pod_spec["containers"][0].get("resources") or {}
    return str((resources.get("limits") or {}).get("memory") or "")


def _program(word: str) -> list[str]:
    """`podstrap`, wherever the image has it, is this environment's own."""
    if Path(word).name != "podstrap":
        return [word]
    own = Path(sys.executable).with_name("podstrap")
    return [str(own)] if own.exists() else [sys.executable, "-m", "cli.main"]


def _outer(outer: Mapping[str, str]) -> dict[str, str]:
    """What an image would have: where programs are, how the network is reached. Nothing of the user's."""
    return {
        name: value
        for name, value in outer.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES)) and name not in _NOT_KEPT
    }


def _mounts(job: JobRecord, pod: PodRecord, files: Files, spec: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """mountPath → folder, the longest path first."""
    volumes = {volume["name"]: volume for volume in job.pod_spec.get("volumes") or ()}
    found = []
    for mount in spec.get("volumeMounts") or ():
        volume = volumes.get(mount["name"])
        if volume is None:
            raise CannotStart(f"volumeMount {mount['name']!r} names no volume of the pod")
        folder = _volume(volume, job, files.folder(pod.uid), files.root)
        if sub := mount.get("subPath"):
            folder = folder / str(sub)
            folder.mkdir(parents=True, exist_ok=True)
        found.append((str(mount["mountPath"]).rstrip("/") or "/", folder))
    return sorted(found, key=lambda mount: len(mount[0]), reverse=True)


def _volume(volume: Mapping[str, Any], job: JobRecord, pod_folder: Path, root: Path) -> Path:
    if "hostPath" in volume:
        source = volume["hostPath"]
        path = Path(source["path"])
        if source.get("type") in ("DirectoryOrCreate", "", None):
            path.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            raise CannotStart(f"hostPath {path} of volume {volume['name']!r} does not exist")
        return path
    if "persistentVolumeClaim" in volume:
        folder = root / "claims" / job.namespace / str(volume["persistentVolumeClaim"]["claimName"])
    else:
        folder = pod_folder / "volumes" / str(volume["name"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _placed(value: str, mounts: Sequence[tuple[str, Path]]) -> str:
    """A path below a mountPath as the path below its folder; anything else as it is."""
    for mount, folder in mounts:
        if value == mount or value.startswith(f"{mount}/"):
            return f"{folder}{value[len(mount) :]}"
    return value


def _declared(spec: Mapping[str, Any], pod: PodRecord, secrets: Mapping[str, str]) -> dict[str, str]:
    """The container's `env`, references resolved, `$(NAME)` expanded from what stands above it."""
    found: dict[str, str] = {}
    for variable in spec.get("env") or ():
        name, source = str(variable["name"]), variable.get("valueFrom")
        literal = _expanded(str(variable.get("value") or ""), found)
        value = _from(name, source, spec, pod, secrets) if source else literal
        if value is not None:
            found[name] = value
    return found


def _from(
    name: str, source: Mapping[str, Any], spec: Mapping[str, Any], pod: PodRecord, secrets: Mapping[str, str]
) -> str | None:
    if reference := source.get("fieldRef"):
        return _field(str(reference["fieldPath"]), pod)
    if reference := source.get("resourceFieldRef"):
        kind, _, resource = str(reference["resource"]).partition(".")
        return str(((spec.get("resources") or {}).get(kind) or {}).get(resource) or 0)
    if reference := source.get("secretKeyRef"):
        key = str(reference["key"])
        value = secrets.get(key) or secrets.get(name)
        if value or reference.get("optional"):
            return value
        raise CannotStart(f"variable {name}: secret {reference.get('name')!r} has no key {key!r} on this machine")
    reference = source.get("configMapKeyRef") or {}
    if reference.get("optional"):
        return None
    raise CannotStart(f"variable {name}: {', '.join(source)} is not to be had on this machine")


def _field(path: str, pod: PodRecord) -> str:
    plain = {
        "metadata.name": pod.name, "metadata.uid": pod.uid, "metadata.namespace": pod.namespace,
        "spec.nodeName": NODE, "status.podIP": "127.0.0.1", "status.hostIP": "127.0.0.1",
    }  # fmt: skip
    if path in plain:
        return plain[path]
    if keyed := _KEYED.match(path):
        return (pod.labels if keyed[1] == "labels" else pod.annotations).get(keyed[2], "")
    return ""


def _expanded(text: str, known: Mapping[str, str]) -> str:
    """Kubernetes' own expansion: `$(NAME)` when NAME is known, `$$` for one `$`."""
    return _REFERENCE.sub(lambda found: "$" if found[0] == "$$" else known.get(found[1], found[0]), text)


def outer_environment() -> dict[str, str]:
    """This process's own environment."""
    return dict(os.environ)
