"""The seconds of a start, which bootstrap leaves on its task and the controller counts."""

from __future__ import annotations

import json
from collections.abc import Mapping

TIMELINE = "podstrap_timeline"
"""User property of the task: JSON of phase -> seconds, in order."""
QUEUED = "queued"
"""From the task's enqueueing to its Job."""
POD = "pod"
"""From the making of the Job to the exec of bootstrap, where the node's own files do not tell its parts."""
SCHEDULED = "scheduled"
"""From the making of the Job to the pod's arrival on its node."""
SANDBOX = "sandbox"
BOOTSTRAP_IMAGE = "bootstrap image"
COPY = "copy"
IMAGE = "image"
CONTAINER = "container"
"""From the task's image to the exec of bootstrap."""
START = "start"
"""From the exec to the first request."""
CLAIM = "claim"
REPOSITORY = "repository"
ENVIRONMENT = "environment"
FIRST_LINE = "first line"
PHASES = (
    QUEUED, POD, SCHEDULED, SANDBOX, BOOTSTRAP_IMAGE, COPY, IMAGE, CONTAINER, START, CLAIM, REPOSITORY, ENVIRONMENT,
    FIRST_LINE,
)  # fmt: skip
"""All of them, in order. Repository and environment overlap, the others come one after the other."""
_LONGEST_SECONDS = 30 * 86400.0
_LONGEST_TEXT = 4096


def to_text(phases: Mapping[str, float]) -> str:
    """The property's value."""
    return json.dumps({name: round(seconds, 3) for name, seconds in phases.items()})


def until_claimed(phases: Mapping[str, float]) -> float | None:
    """Seconds between a task's enqueueing and its claim; None where the phases do not tell."""
    if QUEUED not in phases or CLAIM not in phases:
        return None
    return sum(phases.get(name, 0.0) for name in PHASES[: PHASES.index(CLAIM) + 1])


def from_text(text: str) -> dict[str, float]:
    """Phase -> seconds; what is no such thing is left out, since anybody may write the property."""
    if len(text) > _LONGEST_TEXT:
        return {}
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, float] = {}
    for name, seconds in raw.items() if isinstance(raw, dict) else ():
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds <= _LONGEST_SECONDS:
            found[str(name)] = float(seconds)
    return found
