"""The pod's own use and limits from its control group, version 2 or 1 (kernel: Documentation/admin-guide/cgroup-v2.rst,
cgroup-v1/memory.rst and cgroup-v1/blkio-controller.rst). A file that is not there is a figure that is not told."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_GIB = 2.0**30
_UNLIMITED = 1 << 60
"""cgroup v1 writes "no limit" as a number near 2**63."""


@dataclass(frozen=True)
class Usage:
    """Bytes and CPU seconds of the whole pod's container; None where the kernel does not tell."""

    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    memory_peak_bytes: int | None = None
    cpu_seconds: float | None = None
    cpu_limit: float | None = None
    """Cores."""
    oom_kills: int | None = None
    read_bytes: int | None = None
    """From all block devices, since the start."""
    written_bytes: int | None = None


def read(root: Path = Path("/sys/fs/cgroup")) -> Usage:
    """What this container's control group says."""
    if (root / "cgroup.controllers").exists():
        return _version_2(root)
    if (root / "memory").is_dir():
        return _version_1(root)
    return Usage()


def out_of_memory(before: Usage, after: Usage, seen_bytes: int = 0) -> str:
    """What became of memory between two readings: "limit 8.00 GiB, peak 7.98 GiB"; empty when nothing was killed.

    `seen_bytes` is the most that was sampled, for kernels that keep no peak (before 5.19 on version 2).
    """
    if not after.oom_kills or after.oom_kills <= (before.oom_kills or 0):
        return ""
    peak = after.memory_peak_bytes or seen_bytes
    limit = f"limit {after.memory_limit_bytes / _GIB:.2f} GiB" if after.memory_limit_bytes else "no limit of its own"
    return f"{limit}, peak {peak / _GIB:.2f} GiB" if peak else limit


def near_limit(root: Path = Path("/sys/fs/cgroup")) -> bool:
    """Whether more than half of the memory limit is used; cheap."""
    folder, usage, limit = (
        (root, "memory.current", "memory.max")
        if (root / "cgroup.controllers").exists()
        else (root / "memory", "memory.usage_in_bytes", "memory.limit_in_bytes")
    )
    most = _number(folder / limit)
    return most is not None and 2 * (_number(folder / usage) or 0) > most


def _version_2(root: Path) -> Usage:
    quota = _words(root / "cpu.max")
    limit = None
    if len(quota) == 2 and quota[0] != "max":
        limit = int(quota[0]) / int(quota[1])
    microseconds = _keyed(root / "cpu.stat").get("usage_usec")
    return Usage(
        memory_bytes=_number(root / "memory.current"),
        memory_limit_bytes=_number(root / "memory.max"),
        memory_peak_bytes=_number(root / "memory.peak"),
        cpu_seconds=None if microseconds is None else microseconds / 1e6,
        cpu_limit=limit,
        oom_kills=_keyed(root / "memory.events").get("oom_kill"),
        read_bytes=_io(root / "io.stat", "rbytes="),
        written_bytes=_io(root / "io.stat", "wbytes="),
    )


def _version_1(root: Path) -> Usage:
    # One folder under both names, usually; some machines mount the two controllers apart.
    cpu, account = (_first(root, "cpu,cpuacct", "cpuacct,cpu", name) for name in ("cpu", "cpuacct"))
    quota, period = _number(cpu / "cpu.cfs_quota_us"), _number(cpu / "cpu.cfs_period_us")
    nanoseconds = _number(account / "cpuacct.usage")
    return Usage(
        memory_bytes=_number(root / "memory" / "memory.usage_in_bytes"),
        memory_limit_bytes=_number(root / "memory" / "memory.limit_in_bytes"),
        memory_peak_bytes=_number(root / "memory" / "memory.max_usage_in_bytes"),
        cpu_seconds=None if nanoseconds is None else nanoseconds / 1e9,
        cpu_limit=quota / period if quota and quota > 0 and period else None,
        oom_kills=_keyed(root / "memory" / "memory.oom_control").get("oom_kill"),
        read_bytes=_io(root / "blkio" / "blkio.throttle.io_service_bytes", "Read"),
        written_bytes=_io(root / "blkio" / "blkio.throttle.io_service_bytes", "Write"),
    )


def _first(root: Path, *names: str) -> Path:
    return next((root / name for name in names if (root / name).is_dir()), root / names[-1])


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    words = _words(file)
    try:
        value = int(words[0]) if words else None
    except ValueError:
        return None  # "max"
    return None if value is not None and value >= _UNLIMITED else value


def _io(file: Path, what: str) -> int | None:
    """The sum over devices: `rbytes=N` within a line (version 2), or `MAJOR:MINOR Read N` (version 1, which knows
    no writer of what the kernel writes back later). None where no device is listed."""
    words = _words(file)
    found = [word[len(what) :] for word in words if word.startswith(what)] if what.endswith("=") else []
    found += [value for word, value in pairwise(words) if word == what]
    return sum(map(int, found)) if found else None


def _keyed(file: Path) -> dict[str, int]:
    words = _words(file)
    found = {}
    for key, value in zip(words[::2], words[1::2], strict=False):
        if value.lstrip("-").isdigit():
            found[key] = int(value)
    return found
