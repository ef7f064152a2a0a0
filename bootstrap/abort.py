"""Is the task still ours? Asked at every poll; the answer decides whether its process goes on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from clearml_api import tasks
from clearml_api.models import Task
from clearml_api.session import Bounds, Session
from protocol.claim import Claim

WATCHED = ("id", "status", "status_message", "status_reason", "runtime", "system_tags")
_ARCHIVED = "archived"
_CALLBACK_LIMIT_SECONDS = 1800.0


class Verdict(Enum):
    """What the server says about our run."""

    GO_ON = "go on"
    ABORT = "abort"
    """A user stops the task: end it politely, then report `stopped`."""
    LEAVE = "leave"
    """Reset, deleted, requeued or claimed by another: kill the tree and leave the task alone."""


@dataclass(frozen=True)
class Answer:
    """A verdict with the words for the console."""

    verdict: Verdict
    why: str = ""
    task: Task | None = None


def ask(session: Session, task: str, mine: Claim, *, bounds: Bounds | None = None) -> Answer:
    """One request. Raises what the session raises; an outage is no verdict."""
    found = tasks.get_all(session, [task], WATCHED, bounds=bounds).get(task)
    return judge(found, mine)


def judge(found: Task | None, mine: Claim) -> Answer:
    """The verdict on a task as it was read.

    `tasks.stop` of a task with a living worker leaves it in_progress with the message `stopping`; without one it
    becomes `stopped` at once, and so does one that is archived while it runs. A final status that the task's own
    process set (the SDK can) is no reason to stop it.
    """
    if found is None:
        return Answer(Verdict.LEAVE, "the task was deleted")
    held = found.claim
    if not mine.same_holder(held):
        who = f"pod {held.pod}, attempt {held.attempt}" if held else "nobody: it was reset"
        return Answer(Verdict.LEAVE, f"the claim is not ours any more (held by {who})", found)
    if held is not None and held.requeued:
        return Answer(Verdict.LEAVE, "the controller put the task back into its queue", found)
    if found.status in ("created", "queued"):
        return Answer(Verdict.LEAVE, f"the task was put back to {found.status!r}", found)
    if found.status == "stopped":
        archived = "the task was archived" if _ARCHIVED in found.system_tags else "stopped on the server"
        return Answer(Verdict.ABORT, found.status_reason or found.status_message or archived, found)
    if found.status == "in_progress" and found.status_message.strip().lower() == "stopping":
        return Answer(Verdict.ABORT, found.status_reason or "stopped by a user", found)
    if found.status == "in_progress" and _ARCHIVED in found.system_tags:
        return Answer(Verdict.ABORT, "the task was archived", found)
    return Answer(Verdict.GO_ON, "", found)


def callback_seconds(task: Task) -> float:
    """How long the SDK's abort callback may take before the process is ended; 0 when none is registered.

    The SDK writes `_abort_callback_timeout` and `_abort_poll_freq` (seconds) into the runtime; clearml-agent waits
    for their sum, at most half an hour, until `_abort_callback_completed` appears.
    """
    timeout = _number(task.runtime.get("_abort_callback_timeout"))
    if timeout <= 0:
        return 0.0
    return min(timeout + _number(task.runtime.get("_abort_poll_freq")), _CALLBACK_LIMIT_SECONDS)


def callback_completed(task: Task) -> bool:
    """Whether the SDK says that its callback has run."""
    return bool(task.runtime.get("_abort_callback_completed"))


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return 0.0
