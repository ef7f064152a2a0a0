"""One process measured from outside: its own CPU seconds and largest resident memory, without its children's."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_PAUSE_SECONDS = 0.05
_FIRST = b"line 0"


@dataclass(frozen=True)
class Cost:
    """What one run took, from the task's first line until the process ended."""

    exit_code: int
    seconds: float
    """0: the task's first line was never seen."""
    cpu_seconds: float
    rss_bytes: int

    @property
    def cpu_share(self) -> float:
        """Of one core."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0


def measured(
    words: Sequence[str],
    environ: Mapping[str, str],
    output: Path,
    *,
    cwd: Path,
    also: str = "",
    seconds: float = math.inf,
) -> Cost:
    """Run a command to its end, at most `seconds`. Its children named `also` are measured too (clearml-agent starts
    itself again to do the work): the costliest of all counts."""
    with output.open("wb") as sink:
        process = subprocess.Popen(words, cwd=cwd, stdout=sink, stderr=sink, env=dict(environ))
    began, rss, started = 0.0, 0, time.monotonic()
    before: dict[int, float] = {}
    latest: dict[int, float] = {}
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        if time.monotonic() - started > seconds:
            process.kill()
        if not began and _FIRST in _head(output):
            began, before = time.monotonic(), dict(latest)
        for one in _program(watched, also):
            try:
                times = one.cpu_times()
                rss = max(rss, one.memory_info().rss)
            except psutil.Error:
                continue
            latest[one.pid] = times.user + times.system
        time.sleep(_PAUSE_SECONDS)
    passed = time.monotonic() - began if began else 0.0
    spent = max((cpu - before.get(pid, 0.0) for pid, cpu in latest.items()), default=0.0)
    return Cost(process.wait(), passed, spent, rss)


def _head(output: Path) -> bytes:
    with output.open("rb") as file:
        return file.read(1 << 20)


def _program(process: psutil.Process, also: str) -> list[psutil.Process]:
    if not also:
        return [process]
    try:
        return [process, *(one for one in process.children(recursive=True) if also in " ".join(one.cmdline()[:3]))]
    except psutil.Error:
        return [process]
