"""The flags of docker run that become volumes: host folders where the operator allows them, memory, /dev/shm."""

from __future__ import annotations

import csv

from controller.docker_args_seen import Refused, Seen, plain, size, within

_MOUNT_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount in the pod


def shm_size(seen: Seen, value: str) -> None:
    """Shared memory of this size."""
    seen.volume({"emptyDir": {"medium": "Memory", "sizeLimit": size(value)}}, {"mountPath": _SHARED_MEMORY})


def ipc(seen: Seen, value: str) -> None:
    """host: shared memory of the pod's own, or the host's where that is allowed."""
    if value == "host" and seen.allowed.privileged:
        seen.pod["hostIPC"] = True
    elif value in ("host", "shareable"):
        # People write --ipc=host for shared memory beyond 64 MB; a pod gets that without the host's.
        seen.volume({"emptyDir": {"medium": "Memory"}}, {"mountPath": _SHARED_MEMORY})
        seen.notes.append("--ipc host: the pod has its own, with shared memory up to its memory limit")
    else:
        seen.notes.append("--ipc: a pod has its own")


def volume(seen: Seen, value: str) -> None:
    """docker's /HOST:/CONTAINER[:ro]."""
    source, _colon, rest = value.partition(":")
    target, _colon, mode = rest.partition(":")
    _host_path(seen, source, target, "/HOST/PATH:/CONTAINER/PATH[:ro] is wanted", read_only="ro" in mode.split(","))


def _host_path(seen: Seen, source: str, target: str, wanted: str, *, read_only: bool) -> None:
    paths = (source, target)
    if not all(path.startswith("/") and ".." not in path.split("/") and ":" not in path for path in paths):
        raise Refused(wanted)
    source, target = (plain(path) for path in paths)
    inside = [one for one in seen.allowed.host_paths if within(source, one.removesuffix(":ro"))]
    if not inside:
        raise Refused(f"{source} is not allowed here; the operator would have to set allowedHostPaths: [{source}]")
    read_only = read_only or all(one.endswith(":ro") for one in inside)
    mount = {"mountPath": target, **({"readOnly": True} if read_only else {})}
    seen.volume({"hostPath": {"path": source}}, mount)


def tmpfs(seen: Seen, value: str) -> None:
    """A folder in memory."""
    path, _colon, options = value.partition(":")
    sizes = [option[5:] for option in options.split(",") if option.startswith("size=")]
    _memory_folder(seen, path, sizes[-1:], "/CONTAINER/PATH[:size=SIZE] is wanted")


def _memory_folder(seen: Seen, path: str, sizes: list[str], wanted: str) -> None:
    if not path.startswith("/") or ".." in path.split("/") or ":" in path:
        raise Refused(wanted)
    source = {"medium": "Memory", **({"sizeLimit": size(sizes[0])} if sizes else {})}
    seen.volume({"emptyDir": source}, {"mountPath": plain(path)})


def mount(seen: Seen, value: str) -> None:
    """docker's `key=value,key=value`; a value may be quoted as in CSV."""
    try:
        (fields,) = csv.reader([value], strict=True)
    except (csv.Error, ValueError):
        raise Refused("type=bind,source=/HOST/PATH,target=/CONTAINER/PATH[,readonly] is wanted") from None
    pairs = [(key.strip().lower(), rest) for key, _equals, rest in (one.partition("=") for one in fields)]
    found = {_MOUNT_KEYS.get(key, key): rest for key, rest in pairs}
    kind, target = found.get("type", "volume"), found.get("target", "")
    if kind == "bind":
        read_only = "readonly" in found and found["readonly"].lower() not in ("false", "0")
        wanted = "type=bind,source=/HOST/PATH,target=/CONTAINER/PATH[,readonly] is wanted"
        _host_path(seen, found.get("source", ""), target, wanted, read_only=read_only)
    elif kind == "tmpfs":
        sizes = [found["tmpfs-size"]] if "tmpfs-size" in found else []
        _memory_folder(seen, target, sizes, "type=tmpfs,target=/CONTAINER/PATH[,tmpfs-size=SIZE] is wanted")
    else:
        raise Refused("docker's own volumes are not here; use volumes in the queue's template")
