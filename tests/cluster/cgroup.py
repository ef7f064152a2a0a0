"""A control group of our own, in every hierarchy this kernel has: version 1's many or version 2's one.

All pods of a test node are below it, so it answers "what still runs?" and its removal proves that nothing does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_CPUSET = ("cpuset.cpus", "cpuset.mems")


class Cgroup:
    """The group `/NAME`."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def path(self) -> str:
        """As the kubelet wants it."""
        return f"/{self.name}"

    def create(self) -> None:
        """Make it in every hierarchy. On version 2 every controller is handed down to it."""
        for hierarchy in hierarchies():
            group = hierarchy / self.name
            group.mkdir(exist_ok=True)
            if _is_version_2(hierarchy):
                _hand_down(hierarchy)
                _hand_down(group)
            for file in _CPUSET:  # version 1: an empty set takes no process
                if (hierarchy / file).exists() and not (group / file).read_text().strip():
                    (group / file).write_text((hierarchy / file).read_text())

    def processes(self) -> list[int]:
        """Process ids in it and below, each once."""
        found: set[int] = set()
        for group in self._groups():
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (group / "cgroup.procs").read_text().split())
        return sorted(found)

    def remove(self, seconds: float = 20) -> None:
        """Remove it and all below. AssertionError when processes are still in it after `seconds`."""
        end = time.monotonic() + seconds
        while groups := list(self._groups()):
            for group in groups:
                with contextlib.suppress(OSError):
                    group.rmdir()
            if any(group.exists() for group in groups):
                assert time.monotonic() < end, f"cgroup {self.path} still has processes: {self.processes()}"
                time.sleep(0.05)

    def _groups(self) -> Iterator[Path]:
        """Deepest first."""
        for hierarchy in hierarchies():
            top = hierarchy / self.name
            if top.exists():
                yield from sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
                yield top


def hierarchies() -> list[Path]:
    """Where groups are made: the root itself on version 2, one folder a controller on version 1."""
    if _is_version_2(ROOT):
        return [ROOT]
    own = [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted(path for path in own if (path / "cgroup.procs").exists())


def _is_version_2(group: Path) -> bool:
    return (group / "cgroup.controllers").exists()


def _hand_down(group: Path) -> None:
    for controller in (group / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # some cannot be handed down while real-time processes exist
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
