"""/healthz and /readyz, for Kubernetes' probes and for a person with curl.

Healthy: the controller's main thread turns. Ready: it can do its work, or stands by to: the last round succeeded, or
another one leads. A restart cures a thread that hangs; it cures no server that is away, so outages are never
unhealthy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_STUCK_SECONDS = 120.0
"""Longest time between two turns: a round makes many requests, each with a bound of its own."""


@dataclass
class Health:
    """What the main thread says about itself."""

    monotonic: Callable[[], float] = time.monotonic
    _turned: float = field(default=0.0, init=False)
    _not_ready: str = field(default="no round yet", init=False)
    _note: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._turned = self.monotonic()

    def turn(self) -> None:
        """The main thread lives."""
        self._turned = self.monotonic()

    def ready(self, why_not: str = "") -> None:
        """Whether the last round succeeded."""
        self._not_ready = why_not

    def note(self, text: str) -> None:
        """What /readyz says beside its answer; empty for nothing."""
        self._note = text

    def answers(self, path: str) -> tuple[int, str]:
        """Status and text for a path."""
        if path == "/healthz":
            silent = self.monotonic() - self._turned
            if silent > _STUCK_SECONDS:
                return 500, f"the main thread has not turned for {silent:.0f} s"
            return 200, "ok"
        if path == "/readyz":
            status, text = (503, self._not_ready) if self._not_ready else (200, "ok")
            return status, "\n".join(filter(None, (text, self._note)))
        return 404, ""
