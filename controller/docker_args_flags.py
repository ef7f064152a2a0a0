"""The flags of docker run that become something in a pod, one function each.

A flag that opens the host (paths, privileges, host namespaces) is obeyed only where the operator allows it.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re

from controller.docker_args_seen import Flag, Refused, Seen, size
from controller.docker_args_volumes import ipc, mount, shm_size, tmpfs, volume
from controller.job_template_resources import GPU, quantity

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_GPU_DEVICE = re.compile(r"/dev/nvidia[a-z0-9-]*(:.*)?|nvidia\.com/gpu=.*")
_MAX_ID = 2**31 - 1


def _env(seen: Seen, value: str) -> None:
    name = value.partition("=")[0]
    if not _NAME.fullmatch(name):
        raise Refused("NAME=value is wanted")
    seen.variables.append(name)


def _memory(seen: Seen, value: str) -> None:
    amount = size(value)
    if quantity(amount) == 0:
        seen.notes.append("--memory 0: no limit of its own")
    else:
        seen.limits["memory"] = amount


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


def _user(seen: Seen, value: str) -> None:
    user, _colon, group = (part and {"root": "0"}.get(part, part) for part in value.partition(":"))
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


def _host_namespace(name: str, field_name: str) -> Flag:
    def apply(seen: Seen, value: str) -> None:
        if value == "host":
            seen.need_privileged()
            seen.pod[field_name] = True
        else:
            seen.notes.append(f"--{name}: a pod has its own")

    told = f"host: {field_name} where privileges are allowed; else ignored, a pod has its own"
    return Flag(name, apply, told=told, needs="allowPrivileged (host)")


def _device(seen: Seen, value: str) -> None:
    if not _GPU_DEVICE.fullmatch(value):
        raise Refused("devices come through the queue's template (device plugins)")
    seen.notes.append("--device of a GPU: the queue's template gives GPUs (device plugins)")


def _entrypoint(seen: Seen, value: str) -> None:
    if value and posixpath.basename(value) not in ("bash", "sh"):
        raise Refused("bootstrap is the entry point; use the task's setup script")
    seen.notes.append("--entrypoint: bootstrap is the entry point, the image's own is not used")


def _pull(seen: Seen, value: str) -> None:
    policies = {"always": "Always", "missing": "IfNotPresent", "never": "Never"}
    if value not in policies:
        raise Refused("always, missing or never is wanted")
    seen.container["imagePullPolicy"] = policies[value]


_PRIVILEGES, _PATHS = "allowPrivileged", "allowedHostPaths"
MAPPED = [
    Flag("env", _env, told="a variable of the task; bootstrap reads its value from the task, it stands in no manifest"),
    Flag("memory", _memory, told="limits.memory, at most the template's"),
    Flag("cpus", _cpus, told="limits.cpu, at most the template's"),
    Flag("gpus", _gpus, told="a number: limits of nvidia.com/gpu, at most the template's; all, devices: ignored"),
    Flag("shm-size", shm_size, told="shared memory of this size: an emptyDir in memory"),
    Flag("user", _user, told="runAsUser, runAsGroup: numbers or root, unless the template says who"),
    Flag("group-add", _group_add, told="supplementalGroups: a number, unless the template says who"),
    Flag("workdir", _workdir, told="workingDir"),
    Flag("hostname", _hostname, told="hostname"),
    Flag("add-host", _add_host, told="hostAliases"),
    Flag("dns", _dns, told="dnsConfig.nameservers"),
    Flag("dns-search", _dns_search, told="dnsConfig.searches"),
    Flag("volume", volume, told="a hostPath volume", needs=_PATHS),
    Flag("mount", mount, told="type=bind: a hostPath volume; type=tmpfs: an emptyDir in memory; type=volume: refused",
         needs=f"{_PATHS} (bind)"),
    Flag("tmpfs", tmpfs, told="an emptyDir in memory"),
    Flag("pull", _pull, told="imagePullPolicy, unless the template sets it"),
    Flag("ipc", ipc, told="host: shared memory of the pod's own, hostIPC where privileges are allowed; else ignored"),
    Flag("cap-add", _cap_add, told="capabilities.add", needs=_PRIVILEGES),
    Flag("cap-drop", _cap_drop, told="capabilities.drop"),
    Flag("security-opt", _security_opt, told="no-new-privileges; seccomp=unconfined where privileges are allowed"),
    Flag("privileged", _privileged, takes_value=False, told="privileged", needs=_PRIVILEGES),
    Flag("read-only", _read_only, takes_value=False, told="readOnlyRootFilesystem"),
    Flag("device", _device, told="a GPU's: ignored, the template gives GPUs; another: refused", kind="ignored"),
    Flag("entrypoint", _entrypoint, told="empty, bash, sh: ignored, bootstrap is the entry point; another: refused",
         kind="ignored"),
    _host_namespace("network", "hostNetwork"), _host_namespace("net", "hostNetwork"), _host_namespace("pid", "hostPID"),
]  # fmt: skip
