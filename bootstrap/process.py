"""The task's process under PID 1: started, read, signalled, and at the end killed with everything it left behind.

The task gets a session of its own; standard output and error are pipes that one thread reads; standard input is
closed. Bootstrap is PID 1 in a pod; elsewhere it makes itself the reaper of orphans, so that a daemon that forked
twice and left its session is still a descendant and is found.

The pipes are read in slices of a few milliseconds: the first output at once, then whatever came meanwhile, output
before errors. So a task that writes every line by itself costs neither a wake-up nor an event a line.

A daemon that keeps a pipe open does not hold up the end: once the main process is gone the pipes are read for a
moment, then the rest of the tree is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping

from bootstrap import children
from bootstrap.console import ERR, OUT, Console, StreamLines
from bootstrap.errors import EntryPointError
from bootstrap.prepared import Launch

CHUNK_BYTES = 1 << 16
PIPE_BYTES = 1 << 20
"""Asked of the kernel, so that a task can go on writing between two slices (pipe(7); without it slices are short)."""
SLICE_SECONDS = 0.02
SHORT_SLICE_SECONDS = 0.001
DRAIN_SECONDS = 2.0
"""How long the pipes are still read after the main process ended while somebody holds them open."""
_TICK_MILLISECONDS = 1000
_F_SETPIPE_SZ = 1031


class TaskProcess:
    """One task's process tree."""

    def __init__(self, launch: Launch, environ: Mapping[str, str], console: Console) -> None:
        """Start it. Raises EntryPointError when there is nothing to execute."""
        children.become_reaper()
        try:
            self._popen = children.start(
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
        self._output = _Output(self._popen, console)
        self._output.start()

    def poll(self) -> int | None:
        """The return code as subprocess gives it (-N: killed by signal N), None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Like `poll`, after at most `seconds`; without them when it has ended, which costs no wake-ups."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._popen.wait(seconds)
        return None

    def signal(self, number: int) -> None:
        """Send a signal to the task's process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def terminate(self, grace_seconds: float) -> None:
        """SIGTERM to the task's process group, wait up to the grace time for all of it, then SIGKILL the whole tree.

        For all of it: a shell that started the training dies of SIGTERM at once, while its child still saves. What
        left the group (a worker pool, a server of the task's own) is the task's to end; the rest is killed.
        """
        end = time.monotonic() + grace_seconds
        self.signal(signal.SIGTERM)
        while time.monotonic() < end and self._group_lives():
            children.reap_orphans()
            time.sleep(0.05)
        self.kill_tree()

    def kill_tree(self) -> None:
        """SIGKILL to every descendant until there is none; reap what becomes ours.

        PID 1 can kill everything else in one step (kill(2), pid -1), which also ends what forks faster than it is
        found.
        """
        self.signal(signal.SIGKILL)
        for _ in range(200):
            if os.getpid() == 1:
                _send(-1, signal.SIGKILL)
            left = children.descendants()
            for one in left:
                _send(one.pid, signal.SIGKILL)
            self._popen.poll()
            children.reap_orphans()
            if not left:
                break
            time.sleep(0.01)
        if self.wait(5) is not None:
            children.ended(self._popen)

    def finish_output(self) -> None:
        """After the end: read what the pipes still hold, then kill what holds them open."""
        self._output.join(DRAIN_SECONDS)
        self.kill_tree()
        self._output.finish()

    def _group_lives(self) -> bool:
        return self.poll() is None or any(one.group == self.pid for one in children.descendants())


class _Output(threading.Thread):
    """Reads both pipes until they end."""

    def __init__(self, process: subprocess.Popen[bytes], console: Console) -> None:
        super().__init__(name="pipes", daemon=True)
        self._lines: dict[int, StreamLines] = {}
        self._pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
        self._slice = SLICE_SECONDS
        for pipe, which in zip(self._pipes, (OUT, ERR), strict=True):
            self._lines[pipe.fileno()] = console.stream(which)
            try:
                fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                self._slice = SHORT_SLICE_SECONDS
        self._told_to_end, self._tell_end = os.pipe()
        self._finished = False

    def run(self) -> None:
        ready = select.poll()
        for pipe in (*self._lines, self._told_to_end):
            ready.register(pipe, select.POLLIN)
        while self._lines:
            drawing = any(lines.drawing for lines in self._lines.values())
            came = {pipe for pipe, _ in ready.poll(_TICK_MILLISECONDS if drawing else None)}
            for lines in self._lines.values():
                lines.tick()
            if self._told_to_end in came:
                break
            read = 0
            for pipe in [pipe for pipe in self._lines if pipe in came]:  # output before errors
                chunk = os.read(pipe, CHUNK_BYTES)
                read = max(read, len(chunk))
                if chunk:
                    self._lines[pipe].feed(chunk)
                else:
                    ready.unregister(pipe)
                    self._lines.pop(pipe).close()
            if self._lines and read < CHUNK_BYTES // 2:
                time.sleep(self._slice)
        for lines in self._lines.values():  # held open by something that we cannot kill
            lines.close()

    def finish(self) -> None:
        """End, also when a pipe is still open."""
        self.join(1.0)
        if not self._finished:
            self._finished = True
            os.close(self._tell_end)  # seen as the end of that pipe
        self.join(1.0)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
