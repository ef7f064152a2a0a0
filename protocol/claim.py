"""The claim: who runs this task, written by the pod into the task's runtime under one key.

One key, so that it changes in one write. The pod that runs a task compares it at every poll: a claim that is not
its own any more (superseded, reset) means stop and leave the task alone. After the end the claim stays as it is: a
task that a user enqueues again starts from attempt 1. Only the controller, putting an orphan back into its queue,
marks it `requeued`, and then the next Job goes on counting.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

RUNTIME_KEY = "podstrap_claim"
"""No dot: ClearML gives a dot in a runtime key back as %2E."""


def started_reason(pod: str, attempt: int) -> str:
    """The status reason by which a pod starts its task; when a reset has wiped its claim, this still says who did."""
    return f"podstrap: pod {pod}, attempt {attempt}"


def started_by(status_reason: str, pod: str) -> bool:
    """Whether this pod's `tasks.started` was the task's last change of status."""
    return bool(pod) and status_reason.startswith(f"podstrap: pod {pod}, attempt ")


@dataclass(frozen=True)
class Claim:
    """One pod's hold on a task."""

    job_uid: str
    attempt: int
    pod: str
    node: str = ""
    job: str = ""
    requeued: bool = False
    """The controller put the task back into its queue: the next Job's attempt is this one's plus one."""
    home: str = ""
    """Which controller instance, in which cluster, made the Job: its alone to see to when the Job is gone."""
    history: tuple[str, ...] = ()
    """One line for each earlier attempt: why it ended."""
    failures: int = 0
    """How many of them the task itself failed, in a queue that asks to try again then."""

    def to_text(self) -> str:
        """The runtime value: compact JSON, keys in a fixed order."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: object) -> Claim | None:
        """The claim in a runtime value; None when there is none or it is not ours to understand."""
        if not isinstance(text, str) or not text:
            return None
        try:
            raw = json.loads(text)
            return cls(
                job_uid=str(raw["job_uid"]),
                attempt=int(raw["attempt"]),
                pod=str(raw.get("pod", "")),
                node=str(raw.get("node", "")),
                job=str(raw.get("job", "")),
                requeued=raw.get("requeued") is True,
                home=str(raw.get("home", "")),
                history=tuple(str(line) for line in raw.get("history", ())),
                failures=int(raw.get("failures", 0)),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def next_attempt(self) -> int:
        """The attempt of a Job made for a new queue entry of this task."""
        return self.attempt + 1 if self.requeued else 1

    def same_holder(self, other: Claim | None) -> bool:
        """Whether the other claim is this very pod's at this very attempt."""
        return other is not None and (other.job_uid, other.attempt, other.pod) == (
            self.job_uid,
            self.attempt,
            self.pod,
        )
