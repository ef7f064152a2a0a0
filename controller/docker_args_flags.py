"""The flags of docker run that become something in a pod, one function each.

A flag that opens the host (paths, privileges, host namespaces) is obeyed only where the operator allows it.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.job_template_resources import GPU, quantity

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([bkmgt]?)(?:i?b)?", re.I | re.A)
_UNITS = {"": "", "b": "", "k": "Ki", "m": "Mi", "g": "Gi", "t": "Ti"}
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_CAPABILITY = re.compile(r"[A-Z][A-Z0-9_]{0,40}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount in the pod
_MAX_ID = 2**31 - 1


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
        if any(_within(path, own) or _within(own, path) for own in self.allowed.own_paths):
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


def _size(text: str) -> str:
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise Refused("this is no size, such as 8g or 512m")
    return found[1] + _UNITS[found[2].lower()]


def _env(seen: Seen, value: str) -> None:
    name = value.partition("=")[0]
    if not _NAME.fullmatch(name):
        raise Refused("NAME=value is wanted")
    seen.variables.append(name)


def _memory(seen: Seen, value: str) -> None:
    size = _size(value)
    if quantity(size) == 0:
        seen.notes.append("--memory 0: no limit of its own")
    else:
        seen.limits["memory"] = size


def _cpus(seen: Seen, value: str) -> None:
    if not re.fullmatch(r"\d{1,5}(\.\d{1,3})?", value, re.A):
        raise Refused("this is no number of cores, such as 4 or 0.5")
    if float(value) == 0:
        seen.notes.append("--cpus 0: no limit of its own")
    else:
        seen.limits["cpu"] = value


def _gpus(seen: Seen, value: str) -> None:
    found = re.fullmatch(r"(?:count=)?(\d{1,3})(?:,.*)?", value, re.A)
    if found and int(found[1]) > 0:
        seen.limits[GPU] = str(int(found[1]))
    else:
        seen.notes.append("--gpus all or by device: the queue's template decides which GPUs a task gets")


def _shm_size(seen: Seen, value: str) -> None:
    seen.volume({"emptyDir": {"medium": "Memory", "sizeLimit": _size(value)}}, {"mountPath": _SHARED_MEMORY})


def _user(seen: Seen, value: str) -> None:
    user, _colon, group = value.partition(":")
    numbers = [part for part in (user, group) if part]
    if not user or not all(part.isdecimal() and part.isascii() and int(part) <= _MAX_ID for part in numbers):
        raise Refused("a pod takes numbers: uid or uid:gid")
    seen.security(runAsUser=int(user), **({"runAsGroup": int(group)} if group else {}))


def _group_add(seen: Seen, value: str) -> None:
    if not (value.isdecimal() and value.isascii() and int(value) <= _MAX_ID):
        raise Refused("a pod takes a number: gid")
    seen.pod.setdefault("securityContext", {}).setdefault("supplementalGroups", []).append(int(value))


def _workdir(seen: Seen, value: str) -> None:
    if not value.startswith("/") or ".." in value.split("/"):
        raise Refused("an absolute path without .. is wanted")
    seen.container["workingDir"] = value


def _hostname(seen: Seen, value: str) -> None:
    if not _DNS_LABEL.fullmatch(value):
        raise Refused("a pod's name is up to 63 lower-case letters, digits and hyphens")
    seen.pod["hostname"] = value


def _add_host(seen: Seen, value: str) -> None:
    name, _sign, address = value.partition("=") if "=" in value else value.partition(":")
    try:
        ip = str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        ip = ""
    if not ip or not _DNS_NAME.fullmatch(name.lower()):
        raise Refused("NAME:ADDRESS is wanted, the address as digits")
    aliases = {one["ip"]: one["hostnames"] for one in seen.pod.get("hostAliases", [])}
    aliases[ip] = [*aliases.get(ip, []), name.lower()]
    seen.pod["hostAliases"] = [{"ip": one, "hostnames": names} for one, names in aliases.items()]


def _dns(seen: Seen, value: str) -> None:
    try:
        address = str(ipaddress.ip_address(value))
    except ValueError:
        raise Refused("the address of a name server is wanted, as digits") from None
    seen.pod.setdefault("dnsConfig", {}).setdefault("nameservers", []).append(address)


def _dns_search(seen: Seen, value: str) -> None:
    if not _DNS_NAME.fullmatch(value):
        raise Refused("a domain's name is wanted")
    seen.pod.setdefault("dnsConfig", {}).setdefault("searches", []).append(value)


def _privileged(seen: Seen, value: str) -> None:
    if value.lower() not in ("false", "0"):
        seen.need_privileged()
        seen.security(privileged=True)


def _read_only(seen: Seen, value: str) -> None:
    if value.lower() not in ("false", "0"):
        seen.security(readOnlyRootFilesystem=True)


def _cap_add(seen: Seen, value: str) -> None:
    seen.need_privileged()
    seen.capability("add", value)


def _cap_drop(seen: Seen, value: str) -> None:
    seen.capability("drop", value)


def _security_opt(seen: Seen, value: str) -> None:
    if value.replace(":", "=") in ("no-new-privileges", "no-new-privileges=true"):
        seen.security(allowPrivilegeEscalation=False)
        return
    seen.need_privileged()
    if value.replace(":", "=") != "seccomp=unconfined":
        raise Refused("only no-new-privileges and seccomp=unconfined are known")
    seen.security(seccompProfile={"type": "Unconfined"})


def _ipc(seen: Seen, value: str) -> None:
    if value == "host" and seen.allowed.privileged:
        seen.pod["hostIPC"] = True
    elif value in ("host", "shareable"):
        # People write --ipc=host for shared memory beyond 64 MB; a pod gets that without the host's.
        seen.volume({"emptyDir": {"medium": "Memory"}}, {"mountPath": _SHARED_MEMORY})
        seen.notes.append("--ipc host: the pod has its own, with shared memory up to its memory limit")
    else:
        seen.notes.append("--ipc: a pod has its own")


def _host_namespace(name: str, field_name: str) -> Flag:
    def apply(seen: Seen, value: str) -> None:
        if value == "host":
            seen.need_privileged()
            seen.pod[field_name] = True
        else:
            seen.notes.append(f"--{name}: a pod has its own")

    return Flag(name, apply)


def _volume(seen: Seen, value: str) -> None:
    source, _colon, rest = value.partition(":")
    target, _colon, mode = rest.partition(":")
    paths = (source, target)
    if not all(path.startswith("/") and ".." not in path.split("/") for path in paths):
        raise Refused("/HOST/PATH:/CONTAINER/PATH[:ro] is wanted")
    source, target = (_plain(path) for path in paths)
    inside = [one for one in seen.allowed.host_paths if _within(source, one.removesuffix(":ro"))]
    if not inside:
        raise Refused(f"{source} is not allowed here; the operator would have to set allowedHostPaths: [{source}]")
    read_only = "ro" in mode.split(",") or all(one.endswith(":ro") for one in inside)
    mount = {"mountPath": target, **({"readOnly": True} if read_only else {})}
    seen.volume({"hostPath": {"path": source}}, mount)


def _tmpfs(seen: Seen, value: str) -> None:
    path, _colon, options = value.partition(":")
    if not path.startswith("/") or ".." in path.split("/"):
        raise Refused("/CONTAINER/PATH[:size=SIZE] is wanted")
    sizes = [_size(option[5:]) for option in options.split(",") if option.startswith("size=")]
    source = {"medium": "Memory", **({"sizeLimit": sizes[-1]} if sizes else {})}
    seen.volume({"emptyDir": source}, {"mountPath": _plain(path)})


def _pull(seen: Seen, value: str) -> None:
    policies = {"always": "Always", "missing": "IfNotPresent", "never": "Never"}
    if value not in policies:
        raise Refused("always, missing or never is wanted")
    seen.container["imagePullPolicy"] = policies[value]


def _plain(path: str) -> str:
    """Without doubled slashes, which normpath keeps at the front, and without dots."""
    return posixpath.normpath(re.sub("/+", "/", path))


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


MAPPED = [
    Flag("env", _env), Flag("memory", _memory), Flag("cpus", _cpus), Flag("gpus", _gpus), Flag("shm-size", _shm_size),
    Flag("user", _user), Flag("group-add", _group_add), Flag("workdir", _workdir), Flag("hostname", _hostname),
    Flag("add-host", _add_host), Flag("dns", _dns), Flag("dns-search", _dns_search), Flag("volume", _volume),
    Flag("tmpfs", _tmpfs), Flag("pull", _pull), Flag("ipc", _ipc), Flag("cap-add", _cap_add),
    Flag("cap-drop", _cap_drop), Flag("security-opt", _security_opt),
    Flag("privileged", _privileged, takes_value=False), Flag("read-only", _read_only, takes_value=False),
    _host_namespace("network", "hostNetwork"), _host_namespace("net", "hostNetwork"), _host_namespace("pid", "hostPID"),
]  # fmt: skip
