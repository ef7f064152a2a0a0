"""Where the seconds went between the queue and the task's first line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bootstrap import arrival
from bootstrap.settings import PodSettings
from protocol import timeline

FIRST_LINE = "podstrap_first_line_seconds"
"""User property: seconds from the exec of bootstrap to the task's first output."""


class Timeline:
    """Phases with their seconds. Repository and environment overlap: each has its own length."""

    def __init__(
        self,
        settings: PodSettings,
        started: float | None = None,
        places: arrival.Places | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Before anything is written: the times of the node's files are read."""
        self.started = process_start() if started is None else started
        self._phases: dict[str, float] = {}
        if settings.queued_at and settings.created_at:
            self._phases[timeline.QUEUED] = max(0.0, settings.created_at - settings.queued_at)
        if settings.created_at:
            places = places or arrival.Places(settings.work, settings.termination_log)
            self._phases.update(arrival.phases(places, settings.created_at, self.started))
        self._clock = clock
        self._mark = clock()
        self._phases[timeline.START] = max(0.0, self._mark - self.started)

    def not_the_first_pod(self) -> None:
        """Queue and scheduling were an earlier pod's of the same Job; how long this one waited nobody tells it."""
        for name in (timeline.QUEUED, timeline.SCHEDULED, timeline.POD):
            self._phases.pop(name, None)

    def phase(self, name: str, seconds: float) -> None:
        """Note a phase's length."""
        self._phases[name] = max(0.0, seconds)

    def side_by_side(self, phases: Mapping[str, float]) -> None:
        """Phases at the same time, since the last lap; the next lap has what the longest of them leaves."""
        for name, seconds in phases.items():
            self.phase(name, seconds)
        self._mark = min(self._clock(), self._mark + max(phases.values(), default=0.0))

    def lap(self, name: str) -> None:
        """Note the time since the last lap under this name."""
        now = self._clock()
        self.phase(name, now - self._mark)
        self._mark = now

    def first_line(self, at: float) -> float:
        """The task printed something; seconds since the exec of bootstrap."""
        self.phase(timeline.FIRST_LINE, at - self._mark)
        return at - self.started

    def as_json(self) -> str:
        """The phases in order."""
        return timeline.to_text(self._phases)

    def sentence(self) -> str:
        """The phases for the console."""
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self._phases.items())


def process_start() -> float:
    """When this process was executed, seconds since the epoch (resolution 10 ms); now when /proc does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return time.time()
