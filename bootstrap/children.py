"""The children that we started, told apart from the orphans that become ours.

Bootstrap is the reaper of its whole tree, but a child of its own is waited for by whoever started it: taken by the
reaper, its exit code would be lost (subprocess then believes 0, and a failed git would look well). So starting a child
and noting its number is one step under one lock, and the reaper looks under the same lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_lock = threading.Lock()
_ours: set[int] = set()


@dataclass(frozen=True)
class Descendant:
    """A living process below us."""

    pid: int
    group: int


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """subprocess.Popen; whoever starts a child waits for it and then calls `ended`. Raises what Popen raises."""
    with _lock:
        process: subprocess.Popen[bytes] = subprocess.Popen(argv, **options)
        _ours.add(process.pid)
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    """The child was waited for: its number may come again as somebody else's."""
    with _lock:
        _ours.discard(process.pid)


def reap_orphans() -> None:
    """Take the exit codes of children that nobody waits for.

    waitid(WNOWAIT) only looks; a dead child that is one of ours stops the round, its owner takes it at once.
    """
    with _lock, contextlib.suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in _ours:
                return
            os.waitpid(found.si_pid, os.WNOHANG)


def become_reaper() -> None:
    """Orphans of our descendants become our children, as they do for PID 1 (prctl(2))."""
    if os.getpid() != 1:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[Descendant]:
    """Every living descendant of this process (no zombies), from /proc: parents before children."""
    children: dict[int, list[Descendant]] = {}
    dead: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(Descendant(int(entry.name), int(fields[2])))
            if fields[0] in "ZX":
                dead.add(int(entry.name))
    found, left = [], list(children.get(os.getpid(), ()))
    while left:
        one = left.pop()
        left += children.get(one.pid, ())
        if one.pid not in dead:
            found.append(one)
    return found
