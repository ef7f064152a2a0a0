"""The container's last message: what bootstrap leaves for the controller when it may not be able to speak later.

Kubernetes keeps at most 4096 bytes of the file named by terminationMessagePath and shows them in the container's
status (https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/). Bootstrap writes
it at each change of phase and at the end; the controller reads it when the task's status was not set.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import Enum

MAX_BYTES = 4096


class Outcome(str, Enum):
    """How one pod's run ended."""

    RUNNING = "running"
    """Not ended: the message is a checkpoint. If the container is gone, the kernel or the node took it."""
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    """Aborted by a user on the server."""
    DISRUPTED = "disrupted"
    """Taken away by the infrastructure: exit 75, another pod goes on."""
    CLAIM_LOST = "claim-lost"
    """Another pod runs it, or the task was reset, deleted or superseded: nothing to report."""


@dataclass(frozen=True)
class TerminationMessage:
    """What the controller needs to finish a task in the pod's place."""

    outcome: Outcome
    task: str
    job_uid: str = ""
    attempt: int = 1
    phase: str = ""
    """claim, repository, environment, run, report"""
    reason: str = ""
    exit_code: int | None = None
    peak_memory_bytes: int | None = None
    reported: bool = False
    """True once the server acknowledged the final status."""

    def to_text(self) -> str:
        """JSON of at most MAX_BYTES; a long reason is shortened in its middle."""
        text = _dump(self)
        excess = len(text.encode()) - MAX_BYTES
        if excess > 0:
            keep = max(200, len(self.reason) - excess - 40)
            while len(text.encode()) > MAX_BYTES and keep >= 50:
                reason = f"{self.reason[: keep // 2]} [...] {self.reason[-(keep // 2) :]}"
                text = _dump(replace(self, reason=reason))
                keep = keep * 3 // 4
        return text

    @classmethod
    def from_text(cls, text: str) -> TerminationMessage | None:
        """The message in a container's status; None when it is empty or somebody else's."""
        try:
            raw = json.loads(text)
            return cls(
                outcome=Outcome(raw["outcome"]),
                task=str(raw["task"]),
                job_uid=str(raw.get("job_uid", "")),
                attempt=int(raw.get("attempt", 1)),
                phase=str(raw.get("phase", "")),
                reason=str(raw.get("reason", "")),
                exit_code=None if raw.get("exit_code") is None else int(raw["exit_code"]),
                peak_memory_bytes=None if raw.get("peak_memory_bytes") is None else int(raw["peak_memory_bytes"]),
                reported=bool(raw.get("reported", False)),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _dump(message: TerminationMessage) -> str:
    return json.dumps({**asdict(message), "outcome": message.outcome.value}, separators=(",", ":"), ensure_ascii=False)
