"""A task's docker arguments, mapped to its pod: parsed against a table, never evaluated.

ClearML keeps them as one text, `-e NAME=value --memory 8g ...`. Each known flag is mapped, ignored with a note, or
refused unless the operator allows it; an unknown flag is refused, since nobody can know whether the next word is
its value. Values of `-e` are not read here: bootstrap reads them from the task, so that they stand in no manifest.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from protocol.errors import ConfigError


class DockerArgumentsError(ConfigError):
    """The task's docker arguments cannot be used as they stand."""


@dataclass(frozen=True)
class Allowed:
    """What the operator lets tasks ask for."""

    host_paths: tuple[str, ...] = ()
    privileged: bool = False


@dataclass
class Mapped:
    """What the arguments come to."""

    pod: dict[str, Any] = field(default_factory=dict)
    container: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Flags that are ignored, with the reason."""

    def limit(self, name: str, value: str) -> None:
        """Ask for a resource: limit and request are the same."""
        for kind in ("limits", "requests"):
            self.container.setdefault("resources", {}).setdefault(kind, {})[name] = value

    def security(self, **fields: Any) -> None:
        """Set fields of the container's securityContext."""
        self.container.setdefault("securityContext", {}).update(fields)

    def volume(self, source: dict[str, Any], mount: dict[str, Any]) -> None:
        """Add a volume with its mount."""
        name = f"docker-{len(self.pod.setdefault('volumes', []))}"
        self.pod["volumes"].append({"name": name, **source})
        self.container.setdefault("volumeMounts", []).append({"name": name, **mount})


Setter = Callable[[Mapped, str, Allowed], None]
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.I)
_UNITS = {"": "", "b": "", "k": "Ki", "m": "Mi", "g": "Gi", "t": "Ti"}


def parse(arguments: str, allowed: Allowed | None = None) -> Mapped:
    """Map the arguments. Raises DockerArgumentsError naming the flag and what to do."""
    mapped = Mapped()
    for flag, value in _flags(arguments):
        _SETTERS[flag](mapped, value, allowed or Allowed())
    return mapped


def _flags(arguments: str) -> Iterator[tuple[str, str]]:
    """Each flag by its long name, with its value."""
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise DockerArgumentsError(f"The docker arguments {arguments[:80]!r} cannot be read: {error}") from None
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        if not name.startswith("--") and name.startswith("-") and len(name) > 2:  # -eNAME=value
            name, value, equals = words[at][:2], words[at][2:].removeprefix("="), "="
        flag = _SHORT.get(name, name.removeprefix("--") if name.startswith("--") else "")
        if flag not in _SETTERS:
            raise DockerArgumentsError(
                f"The docker argument {words[at][:60]!r} is not known",
                hint="remove it from the task's container arguments, or say it in the queue's template",
            )
        if flag not in _WITHOUT_VALUE and not equals:
            at += 1
            if at >= len(words):
                raise DockerArgumentsError(f"The docker argument {name} lacks its value")
            value = words[at]
        yield flag, value
        at += 1


def _quantity(text: str, flag: str) -> str:
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise DockerArgumentsError(f"The docker argument --{flag} {text!r} is no size", hint="such as 8g or 512m")
    return found[1] + _UNITS[found[2].lower()]


def _memory(mapped: Mapped, value: str, _: Allowed) -> None:
    mapped.limit("memory", _quantity(value, "memory"))


def _cpus(mapped: Mapped, value: str, _: Allowed) -> None:
    if not re.fullmatch(r"\d+(\.\d+)?", value):
        raise DockerArgumentsError(f"The docker argument --cpus {value!r} is no number of cores")
    mapped.limit("cpu", value)


def _gpus(mapped: Mapped, value: str, _: Allowed) -> None:
    if value.isdigit() and int(value) > 0:
        mapped.limit("nvidia.com/gpu", value)
    else:
        mapped.notes.append(f"--gpus {value}: the queue's template decides which GPUs a task gets")


def _shm_size(mapped: Mapped, value: str, _: Allowed) -> None:
    size = _quantity(value, "shm-size")
    mapped.volume({"emptyDir": {"medium": "Memory", "sizeLimit": size}}, {"mountPath": "/dev/shm"})  # noqa: S108


def _user(mapped: Mapped, value: str, _: Allowed) -> None:
    user, _colon, group = value.partition(":")
    if not user.isdigit() or (group and not group.isdigit()):
        raise DockerArgumentsError(f"The docker argument --user {value!r} is no number", hint="a pod takes uid[:gid]")
    mapped.security(runAsUser=int(user), **({"runAsGroup": int(group)} if group else {}))


def _workdir(mapped: Mapped, value: str, _: Allowed) -> None:
    mapped.container["workingDir"] = value


def _hostname(mapped: Mapped, value: str, _: Allowed) -> None:
    mapped.pod["hostname"] = value


def _add_host(mapped: Mapped, value: str, _: Allowed) -> None:
    name, colon, address = value.partition(":")
    if not colon or not name or not address:
        raise DockerArgumentsError(f"The docker argument --add-host {value!r} is not NAME:ADDRESS")
    mapped.pod.setdefault("hostAliases", []).append({"ip": address, "hostnames": [name]})


def _privileged(mapped: Mapped, value: str, allowed: Allowed) -> None:
    if value.lower() == "false":
        return
    if not allowed.privileged:
        raise _not_allowed("--privileged", "allowPrivileged: true")
    mapped.security(privileged=True)


def _cap_add(mapped: Mapped, value: str, allowed: Allowed) -> None:
    if not allowed.privileged:
        raise _not_allowed(f"--cap-add {value}", "allowPrivileged: true")
    added = mapped.container.setdefault("securityContext", {}).setdefault("capabilities", {}).setdefault("add", [])
    added.append(value.upper().removeprefix("CAP_"))


def _namespaces(field_name: str) -> Setter:
    def setter(mapped: Mapped, value: str, allowed: Allowed) -> None:
        if value != "host":
            mapped.notes.append(f"{field_name} {value}: a pod has its own")
        elif not allowed.privileged:
            raise _not_allowed(f"{field_name}=host", "allowPrivileged: true")
        else:
            mapped.pod[field_name] = True

    return setter


def _volume(mapped: Mapped, value: str, allowed: Allowed) -> None:
    source, _colon, rest = value.partition(":")
    target, _colon, mode = rest.partition(":")
    if not source.startswith("/") or not target.startswith("/") or ".." in source.split("/"):
        raise DockerArgumentsError(f"The docker argument -v {value!r} is not /HOST/PATH:/CONTAINER/PATH[:ro]")
    inside = any(source == path or source.startswith(path.rstrip("/") + "/") for path in allowed.host_paths)
    if not inside:
        raise _not_allowed(f"-v {value}", f"allowedHostPaths: [{source}]")
    mount = {"mountPath": target, **({"readOnly": True} if "ro" in mode.split(",") else {})}
    mapped.volume({"hostPath": {"path": source}}, mount)


def _nothing(mapped: Mapped, value: str, allowed: Allowed) -> None:
    """Read by bootstrap from the task."""


def _ignored(flag: str, why: str) -> Setter:
    def setter(mapped: Mapped, value: str, _: Allowed) -> None:
        mapped.notes.append(f"--{flag} {value}".strip() + f": {why}")

    return setter


def _refused(flag: str, why: str) -> Setter:
    def setter(_mapped: Mapped, value: str, _: Allowed) -> None:
        raise DockerArgumentsError(f"The docker argument --{flag} {value}".strip() + f" is not taken: {why}")

    return setter


def _not_allowed(what: str, setting: str) -> DockerArgumentsError:
    return DockerArgumentsError(f"The docker argument {what} is not allowed here", hint=f"the operator sets {setting}")


_WITHOUT_VALUE = frozenset({"privileged", "rm", "init", "tty", "interactive", "detach"})
_SHORT = {
    "-e": "env", "-m": "memory", "-u": "user", "-w": "workdir", "-h": "hostname", "-v": "volume", "-t": "tty",
    "-i": "interactive", "-d": "detach",
}  # fmt: skip
_SETTERS: dict[str, Setter] = {
    "env": _nothing,
    "memory": _memory,
    "cpus": _cpus,
    "gpus": _gpus,
    "shm-size": _shm_size,
    "user": _user,
    "workdir": _workdir,
    "hostname": _hostname,
    "add-host": _add_host,
    "privileged": _privileged,
    "cap-add": _cap_add,
    "ipc": _namespaces("hostIPC"),
    "network": _namespaces("hostNetwork"),
    "net": _namespaces("hostNetwork"),
    "pid": _namespaces("hostPID"),
    "volume": _volume,
    "rm": _ignored("rm", "a Job's pod is removed by its time to live"),
    "init": _ignored("init", "bootstrap is the pod's init"),
    "tty": _ignored("tty", "a task has no terminal"),
    "interactive": _ignored("interactive", "a task has no input"),
    "detach": _ignored("detach", "a pod has nobody attached"),
    "name": _ignored("name", "the Job's name is podstrap's"),
    "restart": _ignored("restart", "the queue's onDisruption decides"),
    "ulimit": _ignored("ulimit", "Kubernetes has no field for it"),
    "runtime": _ignored("runtime", "the queue's template sets runtimeClassName"),
    "entrypoint": _refused("entrypoint", "bootstrap is the entry point; use the task's setup script"),
    "device": _refused("device", "devices come through the queue's template (device plugins)"),
    "env-file": _refused("env-file", "a pod cannot see that file; use -e, or envFrom in the queue's template"),
    "mount": _refused("mount", "use -v /HOST/PATH:/CONTAINER/PATH, or volumes in the queue's template"),
}
