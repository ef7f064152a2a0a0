"""What docker's arguments come to while they are read: the flags seen so far, and what the operator allows."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([bkmgt]?)(?:i?b)?", re.I | re.A)
_UNITS = {"": "", "b": "", "k": "Ki", "m": "Mi", "g": "Gi", "t": "Ti"}
_CAPABILITY = re.compile(r"[A-Z][A-Z0-9_]{0,40}")


class Refused(Exception):
    """A flag is not obeyed; the text says why and what to do."""


@dataclass(frozen=True)
class Allowed:
    """What the operator lets tasks ask for."""

    host_paths: tuple[str, ...] = ()
    """Folders of the host that `-v` may mount; one that ends in `:ro` only for reading."""
    privileged: bool = False
    own_paths: tuple[str, ...] = ()
    """Folders of the container that are podstrap's: nothing is mounted there."""


@dataclass
class Seen:
    """What the flags so far come to."""

    allowed: Allowed
    pod: dict[str, Any] = field(default_factory=dict)
    container: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    variables: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def security(self, **fields: Any) -> None:
        """Set fields of the container's securityContext."""
        self.container.setdefault("securityContext", {}).update(fields)

    def capability(self, kind: str, name: str) -> None:
        """Add or drop one; twice is once."""
        clean = name.upper().removeprefix("CAP_")
        if not _CAPABILITY.fullmatch(clean):
            raise Refused("this is no capability's name")
        capabilities = self.container.setdefault("securityContext", {}).setdefault("capabilities", {})
        capabilities[kind] = sorted({*capabilities.get(kind, ()), clean})

    def volume(self, source: Mapping[str, Any], mount: Mapping[str, Any]) -> None:
        """Add a volume with its mount; the later mount of one path wins, as docker has it not, but Kubernetes needs."""
        path = mount["mountPath"]
        if any(within(path, own) or within(own, path) for own in self.allowed.own_paths):
            raise Refused(f"{path} is podstrap's own folder")
        mounts = [one for one in self.container.get("volumeMounts", []) if one["mountPath"] != path]
        volumes = self.pod.setdefault("volumes", [])
        name = f"podstrap-docker-{len(volumes)}"
        volumes.append({"name": name, **source})
        self.container["volumeMounts"] = [*mounts, {"name": name, **mount}]

    def need_privileged(self) -> None:
        """Refuse unless the operator allows privileges."""
        if not self.allowed.privileged:
            raise Refused("is not allowed here; the operator would have to set allowPrivileged: true")


@dataclass(frozen=True)
class Flag:
    """One flag of docker run."""

    name: str
    apply: Callable[[Seen, str], None]
    takes_value: bool = True
    told: str = ""
    """What becomes of it, for docs/docker-arguments.md."""
    kind: Literal["mapped", "ignored", "refused"] = "mapped"
    needs: str = ""
    """The setting by which the operator allows it."""


def size(text: str) -> str:
    """docker's 8g, 512m or bytes as a quantity. Raises Refused."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise Refused("this is no size, such as 8g or 512m")
    return found[1] + _UNITS[found[2].lower()]


def plain(path: str) -> str:
    """Without doubled slashes, which normpath keeps at the front, and without dots."""
    return posixpath.normpath(re.sub("/+", "/", path))


def within(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
