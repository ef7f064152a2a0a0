"""What a pod of test_loop.py runs: the claim protocol through clearml_api, then whatever the test's files say.

TASK.die      die at this point without a word: start, removed, claimed, running
TASK.end      how to end once TASK.go is there: completed (default), failed, silent (last words only), 75
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from clearml_api import queues, tasks
from clearml_api.configuration import load
from clearml_api.session import Session
from protocol import environment as names
from protocol.claim import RUNTIME_KEY, Claim
from protocol.termination import Outcome, TerminationMessage

TASK, JOB_UID, POD = os.environ[names.TASK_ID], os.environ[names.JOB_UID], os.environ[names.POD_NAME]
FOLDER = Path(os.environ["FAKE_FOLDER"])


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: leave(Outcome.DISRUPTED, 75))
    session = Session(load())
    die_at("start")
    before = tasks.get(session, TASK)
    held = before.claim if before else None
    if before and held and held.job_uid == JOB_UID and not held.requeued and before.status in ("queued", "in_progress"):
        claim = Claim(JOB_UID, held.attempt + 1, POD, history=(*held.history, f"attempt {held.attempt}: disrupted"))
    elif queues.remove_task(session, os.environ[names.QUEUE_ID], TASK):
        again = held is not None and held.requeued
        claim = Claim(JOB_UID, int(os.environ[names.ATTEMPT]), POD, history=held.history if held and again else ())
    else:
        leave(Outcome.CLAIM_LOST, 0)
    die_at("removed")
    tasks.edit_runtime(session, TASK, {RUNTIME_KEY: claim.to_text()})
    mine = tasks.get(session, TASK)
    if mine is None or not claim.same_holder(mine.claim) or mine.status not in ("queued", "in_progress"):
        leave(Outcome.CLAIM_LOST, 0)
    die_at("claimed")
    tasks.started(session, TASK)
    say(Outcome.RUNNING)
    (FOLDER / f"{TASK}.started-{time.monotonic_ns()}").touch()
    die_at("running")
    while not (FOLDER / f"{TASK}.go").exists():
        now = tasks.get(session, TASK)
        if now is None or not claim.same_holder(now.claim):
            leave(Outcome.CLAIM_LOST, 0)
        time.sleep(0.02)
    finish(session, word("end") or "completed")


def finish(session: Session, how: str) -> None:
    if how == "silent":
        leave(Outcome.COMPLETED, 0)
    elif how == "failed":
        tasks.failed(session, TASK, "exit code 3", "exit code 3")
        leave(Outcome.FAILED, 3)
    elif how == "75":
        (FOLDER / f"{TASK}.end").unlink()
        leave(Outcome.DISRUPTED, 75)
    tasks.completed(session, TASK)
    leave(Outcome.COMPLETED, 0)


def die_at(point: str) -> None:
    """kill -9 of itself, once."""
    if word("die") == point:
        (FOLDER / f"{TASK}.die").unlink()
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def word(name: str) -> str:
    file = FOLDER / f"{TASK}.{name}"
    return file.read_text() if file.exists() else ""


def say(outcome: Outcome, code: int | None = None) -> None:
    message = TerminationMessage(outcome, TASK, JOB_UID, phase="run", exit_code=code)
    Path(os.environ[names.TERMINATION_LOG]).write_text(message.to_text())


def leave(outcome: Outcome, code: int) -> None:
    say(outcome, code)
    sys.exit(code)


if __name__ == "__main__":
    main()
