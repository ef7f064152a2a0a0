"""The task's process under PID 1: started, read, signalled, and at the end killed with everything it left behind.

The task gets a session of its own; standard output and error are pipes that two threads read; standard input is
closed. Bootstrap is PID 1 in a pod; elsewhere it makes itself the reaper of orphans (PR_SET_CHILD_SUBREAPER,
prctl(2)), so that a daemon that forked twice and left its session is still a descendant and is found.

A daemon that keeps the pipe open does not hold up the end: once the main process is gone the pipes are read until
they are silent for a moment, then the rest of the tree is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from bootstrap.console import ERR, OUT, Console, StreamLines
from bootstrap.errors import EntryPointError
from bootstrap.prepared import Launch

CHUNK_BYTES = 1 << 16
DRAIN_SECONDS = 2.0
"""How long the pipes are still read after the main process ended while somebody holds them open."""
_PR_SET_CHILD_SUBREAPER = 36


class TaskProcess:
    """One task's process tree."""

    def __init__(self, launch: Launch, environ: Mapping[str, str], console: Console) -> None:
        """Start it. Raises EntryPointError when there is nothing to execute."""
        become_reaper()
        try:
            self._popen = subprocess.Popen(
                launch.argv,
                cwd=launch.cwd,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            raise EntryPointError(
                f"{launch.argv[0]} could not be started in {launch.cwd}: {error}",
                hint="does the interpreter or program exist in the image, and may it be executed?",
            ) from error
        self.pid = self._popen.pid
        self._readers = [
            threading.Thread(target=_read, args=(pipe, console.stream(which)), name=f"pipe-{which}", daemon=True)
            for pipe, which in ((self._popen.stdout, OUT), (self._popen.stderr, ERR))
            if pipe is not None
        ]
        for reader in self._readers:
            reader.start()

    def poll(self) -> int | None:
        """The return code as subprocess gives it (-N: killed by signal N), None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float) -> int | None:
        """Like `poll`, after at most `seconds`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._popen.wait(seconds)
        return None

    def signal(self, number: int) -> None:
        """Send a signal to the task's process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def terminate(self, grace_seconds: float) -> None:
        """SIGTERM to the whole tree, wait up to the grace time, then SIGKILL whatever is left."""
        end = time.monotonic() + grace_seconds
        self.signal(signal.SIGTERM)
        for pid in descendants(os.getpid(), exclude=(self.pid,)):
            _send(pid, signal.SIGTERM)
        while self._popen.poll() is None and time.monotonic() < end:
            self.wait(0.05)
        self.kill_tree()

    def kill_tree(self) -> None:
        """SIGKILL to every descendant until there is none; reap what becomes ours."""
        self.signal(signal.SIGKILL)
        for _ in range(200):
            left = descendants(os.getpid())
            if not left:
                break
            for pid in left:
                _send(pid, signal.SIGKILL)
            self._popen.poll()
            reap_orphans(frozenset({self.pid}))
            time.sleep(0.01)
        self.wait(5)

    def finish_output(self) -> None:
        """After the end: read what the pipes still hold, then kill what holds them open."""
        end = time.monotonic() + DRAIN_SECONDS
        for reader in self._readers:
            reader.join(max(0.0, end - time.monotonic()))
        self.kill_tree()
        for reader in self._readers:
            reader.join(1.0)


def _read(pipe: IO[bytes], lines: StreamLines) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(pipe.fileno(), CHUNK_BYTES):
            lines.feed(chunk)
    lines.close()


def become_reaper() -> None:
    """Orphans of our descendants become our children, as they do for PID 1."""
    if os.getpid() != 1:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(ours: frozenset[int]) -> None:
    """Wait for children that nobody waits for; `ours` are waited for by those who started them.

    waitid(WNOWAIT) only looks; a dead child that is one of ours stops the round, its owner will take it at once.
    """
    with contextlib.suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid in ours:
                return
            os.waitpid(found.si_pid, os.WNOHANG)


def descendants(pid: int, exclude: tuple[int, ...] = ()) -> list[int]:
    """Every living descendant of a process (no zombies), from /proc: parents before children."""
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            if fields[0] in "ZX":
                dead.add(int(entry.name))
    found, left = [], list(children.get(pid, ()))
    while left:
        one = left.pop(0)
        left += children.get(one, ())
        if one not in dead and one not in exclude:
            found.append(one)
    return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
