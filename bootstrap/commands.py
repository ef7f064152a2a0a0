"""The one place that runs helper programs (git, uv, pip, ...).

Always an argument list, never a shell; standard input closed unless given; output captured and, line by line, told
to the user when asked; every program in a process group of its own so that a stop kills its children too. An error
keeps command, return code and the last lines. `Programs` knows what is running: `stop()` kills it all and makes
every later `run` raise Cancelled, so that an abort in the middle of a clone ends the clone.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap import children, lent
from bootstrap.errors import Cancelled
from protocol.errors import PodstrapError

KEPT_LINES = 40
_KEPT_BYTES = 4 << 20


@dataclass(frozen=True)
class Finished:
    """A program that ended with code 0 (or was allowed another)."""

    code: int
    output: str
    """Standard output and, unless kept apart, standard error."""


class CommandFailed(PodstrapError):
    """A helper program could not be started or ended with another code than 0."""

    def __init__(self, argv: Sequence[str], code: int | None, output: str, why: str = "") -> None:
        self.argv = tuple(argv)
        self.code = code
        self.output = output
        self.last_lines = tuple(line for line in output.splitlines() if line.strip())[-KEPT_LINES:]
        what = why or f"ended with exit code {code}"
        super().__init__(f"`{shown(argv)}` {what}")


class Programs:
    """Runs helper programs until stopped. Safe to use from several threads."""

    def __init__(self, mask: Callable[[str], str] = lambda text: text) -> None:
        """`mask` removes known secrets from whatever is kept or told."""
        self._mask = mask
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        seconds: float | None = None,
        tell: Callable[[str], None] | None = None,
        errors_apart: bool = False,
        allowed: Sequence[int] = (0,),
    ) -> Finished:
        """Run to the end. `environ` is the whole environment (None: ours), but for what the image lacks and we lend.
        Output beyond 4 MiB keeps its end.

        Raises CommandFailed (not found, another code than `allowed`, longer than `seconds`) or Cancelled.
        """
        words = [os.fspath(word) for word in argv]
        process = self._start(words, cwd, environ, stdin, errors_apart)
        timed_out = threading.Event()
        timer = threading.Timer(seconds, _expire, (process, timed_out)) if seconds else None
        if timer:
            timer.daemon = True
            timer.start()
        try:
            output = self._collect(process, stdin, tell)
            code = process.wait()
        finally:
            if timer:
                timer.cancel()
            if process.poll() is None:
                _kill_group(process)
                process.wait()
            children.ended(process)
            with self._lock:
                self._running.discard(process)
                stopped = self._stopped.is_set()
        if stopped and code != 0:
            raise Cancelled(f"`{shown(words)}` was stopped")
        if timed_out.is_set():
            raise CommandFailed(words, code, output, f"took longer than {seconds:g} s and was killed")
        if code not in allowed:
            raise CommandFailed(words, code, output)
        return Finished(code, output)

    def stop(self) -> None:
        """Kill what runs; from now on `run` raises Cancelled."""
        with self._lock:
            self._stopped.set()
            running = list(self._running)
        for process in running:
            _kill_group(process)

    def pause(self, seconds: float) -> None:
        """Wait before another try. Raises Cancelled as soon as the run is stopped."""
        if self._stopped.wait(seconds):
            raise Cancelled("the run was stopped")

    def _start(
        self,
        words: list[str],
        cwd: Path | None,
        environ: Mapping[str, str] | None,
        stdin: bytes,
        errors_apart: bool,
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped.is_set():
                raise Cancelled(f"`{shown(words)}` was not started: the run was stopped")
            try:
                process = children.start(
                    words,
                    cwd=cwd,
                    env=lent.to_helpers(os.environ if environ is None else environ),
                    stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL if errors_apart else subprocess.STDOUT,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise CommandFailed(words, None, "", f"could not be started: {error}") from error
            self._running.add(process)
            return process

    def _collect(self, process: subprocess.Popen[bytes], stdin: bytes, tell: Callable[[str], None] | None) -> str:
        if process.stdin is not None:
            writer = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
            writer.start()
        kept: deque[bytes] = deque()
        size = 0
        stream = process.stdout
        if stream is None:
            raise AssertionError("standard output is always a pipe here")
        with stream:
            for line in stream:
                kept.append(line)
                size += len(line)
                while size > _KEPT_BYTES and len(kept) > 1:
                    size -= len(kept.popleft())
                if tell:
                    tell(self._mask(line.decode("utf-8", "replace").rstrip("\n")))
        return self._mask(b"".join(kept).decode("utf-8", "replace"))


def shown(argv: Sequence[str]) -> str:
    """A command as a person would type it, at most 300 characters."""
    text = shlex.join(argv)
    return text if len(text) <= 300 else f"{text[:280]} […]"


def _feed(process: subprocess.Popen[bytes], stdin: bytes) -> None:
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, OSError):
        process.stdin.write(stdin)
        process.stdin.close()


def _expire(process: subprocess.Popen[bytes], timed_out: threading.Event) -> None:
    timed_out.set()
    _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
