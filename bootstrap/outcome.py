"""How a run ended, in words a person can act on, and how the server is told. Pure but for `report`.

Every write reads first: a task that is not ours any more is left alone, a final status that the task's own process
set (the SDK's mark_completed, mark_failed) stays.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bootstrap.abort import Answer, Verdict, ask
from bootstrap.errors import SetupError
from clearml_api import tasks
from clearml_api.errors import INVALID_STATUS_CHANGE, STATUS_CHANGED_MEANWHILE, UNKNOWN_TASK, ApiError
from clearml_api.models import ENDED
from clearml_api.session import Bounds, Session
from protocol import exit_codes
from protocol.claim import Claim
from protocol.errors import PodstrapError
from protocol.termination import Outcome

_MESSAGE_LIMIT = 2000


@dataclass(frozen=True)
class Ending:
    """What the run came to."""

    outcome: Outcome
    reason: str
    """One short line: the status_reason."""
    message: str = ""
    """The details: the status_message."""
    exit_code: int | None = None
    """The task's own exit code, as a shell gives it."""
    phase: str = "run"

    @property
    def pod_exit_code(self) -> int:
        """The code that the pod leaves with."""
        if self.outcome is Outcome.DISRUPTED:
            return exit_codes.DISRUPTED
        if self.outcome is Outcome.FAILED:
            return exit_codes.of_pod(self.exit_code or exit_codes.FAILED)
        return exit_codes.OK

    def masked(self, mask: Callable[[str], str]) -> Ending:
        """Without known secrets: an error may quote what it failed on."""
        return replace(self, reason=mask(self.reason), message=mask(self.message))


def of_return_code(code: int, last_errors: Sequence[str], out_of_memory: str = "") -> Ending:
    """The ending of a process that ended by itself; `code` as subprocess gives it.

    `out_of_memory`: what the control group says when the kernel killed something in it meanwhile.
    """
    if code == 0:
        return Ending(Outcome.COMPLETED, "completed", "exit code 0", 0)
    shell = exit_codes.of_process(code)
    said = _shorten("\n".join(last_errors))
    if out_of_memory:
        reason = f"OOMKilled: {out_of_memory}"
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code} after a process of its own was killed"
        hint = "give the pod more memory (the queue's resources), or let the task use less: batch size, workers"
        return Ending(Outcome.FAILED, reason, "\n".join(filter(None, (f"{reason} ({how})", hint, said))), shell)
    if code < 0:
        name = _signal_name(-code)
        reason = f"killed by signal {-code} ({name}), exit code {shell}"
        hint = {
            "SIGKILL": "something outside the task killed it: out of memory is the usual cause",
            "SIGSEGV": "a crash in native code: a broken or mismatched binary package is the usual cause",
        }.get(name, "")
        return Ending(Outcome.FAILED, reason, "\n".join(filter(None, (reason, hint, said))), shell)
    reason = f"exit code {code}"
    return Ending(Outcome.FAILED, reason, "\n".join(filter(None, (reason, said))), code)


def of_error(error: PodstrapError) -> Ending:
    """The ending of a run that could not start its process."""
    phase = error.phase if isinstance(error, SetupError) else "setup"
    first = str(error.message).splitlines()[0]
    last = "\n".join(error.last_lines) if isinstance(error, SetupError) else ""
    message = "\n".join(filter(None, (f"{phase}: {error}", last)))
    return Ending(Outcome.FAILED, f"{phase} failed: {first}"[:500], _shorten(message), exit_codes.FAILED, phase)


def of_bug(what: object, phase: str = "run") -> Ending:
    """The ending of a run that an error of podstrap's own has ended."""
    text = f"an error of podstrap's own, please report it: {what}"
    return Ending(Outcome.FAILED, "podstrap failed", text, exit_codes.FAILED, phase)


def as_seen(ending: Ending, answer: Answer) -> Ending:
    """What a run's ending is in the light of what the server says about the task.

    A process that ended between two polls because of its abort (by the SDK's callback, or killed by the user) was
    stopped, whatever its code; a task that is not ours any more has no ending of ours.
    """
    if answer.verdict is Verdict.LEAVE:
        return Ending(Outcome.CLAIM_LOST, "claim lost", answer.why)
    if answer.verdict is Verdict.ABORT and ending.outcome is Outcome.FAILED:
        message = "\n".join(filter(None, (f"aborted: {answer.why}", ending.message)))
        return replace(ending, outcome=Outcome.STOPPED, reason=answer.why, message=message)
    return ending


def report(session: Session, task: str, mine: Claim, ending: Ending, *, bounds: Bounds) -> Ending:
    """Set the final status. The ending as it is told: see `as_seen` (CLAIM_LOST: nothing was written).

    Raises what the session raises when the server does not answer within `bounds`.
    """
    for last in (False, False, True):
        answer = ask(session, task, mine, bounds=bounds)
        ending = as_seen(ending, answer)
        if ending.outcome is Outcome.CLAIM_LOST or answer.task is None or answer.task.status in ENDED:
            return ending
        try:
            _write(session, task, ending, bounds)
            return ending
        except ApiError as error:
            if error.subcode == UNKNOWN_TASK:
                return Ending(Outcome.CLAIM_LOST, "claim lost", "the task was deleted")
            if last or error.subcode not in (INVALID_STATUS_CHANGE, STATUS_CHANGED_MEANWHILE):
                raise
    raise AssertionError("unreachable")


def _write(session: Session, task: str, ending: Ending, bounds: Bounds) -> None:
    if ending.outcome is Outcome.COMPLETED:
        tasks.completed(session, task, ending.message, bounds=bounds)
    elif ending.outcome is Outcome.STOPPED:
        tasks.stopped(session, task, ending.reason, ending.message, bounds=bounds)
    else:
        tasks.failed(session, task, ending.reason, ending.message or ending.reason, bounds=bounds)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shorten(text: str) -> str:
    return text if len(text) <= _MESSAGE_LIMIT else f"[...] {text[-_MESSAGE_LIMIT:]}"
