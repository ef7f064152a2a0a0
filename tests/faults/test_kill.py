"""kill -9 of controller, pods and server at random points while 50 tasks run.

Each task takes a file lock for its whole run and counts its starts and its ends, so the files tell what the
server cannot: whether two ever ran at once, and whether one ran again without a disruption. Afterwards every task
is `completed`, none is lost, none ran twice at once, and none that was not disturbed ran twice.

PODSTRAP_FAULT_SEEDS (default 1) is how many seeds to run; `make soak` runs many.
"""

from __future__ import annotations

import os
import random
import signal
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from clearml_api import queues, tasks
from tests import support

TASKS = 50
SEEDS = range(1, 1 + int(os.environ.get("PODSTRAP_FAULT_SEEDS", "1")))
SETTINGS = """
pollSeconds: 0.3
maxPods: 6
orphanGraceSeconds: 4
reconcileSeconds: 2
queues:
  first: {queueSettings: {maxPods: 4}, maxAttempts: 20, retryBackoffSeconds: 0}
  second: {maxAttempts: 20, retryBackoffSeconds: 0.5}
"""
CODE = textwrap.dedent(
    """
    import fcntl, os, pathlib, time
    folder = pathlib.Path({folder!r}) / os.environ["CLEARML_TASK_ID"]
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (folder / "twice-at-once").touch()
            raise
        (folder / f"start-{{time.monotonic_ns()}}").touch()
        print("working", flush=True)
        time.sleep({seconds})
        print("worked", flush=True)
        (folder / f"end-{{time.monotonic_ns()}}").touch()
    """
)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_task_ends_once_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    marks = tmp_path / "marks"
    marks.mkdir()
    server = support.Server(tmp_path / "server")
    server.start()
    session = support.session_of(server.environ)
    ids = []
    for n in range(TASKS):
        code = CODE.format(folder=str(marks), seconds=round(chance.uniform(0, 0.6), 2))
        ids.append(support.create_task(session, f"fault {n}", code))
        tasks.enqueue(session, ids[-1], support.queue_id(session, chance.choice(["first", "second"])))
    controller = support.controller(server.environ, SETTINGS, tmp_path)
    controller.start()
    kills = {"controller": 0, "server": 0, "pod": 0}
    try:
        _disturb(chance, server, controller, marks, kills)
        support.until(
            lambda: _all_ended(session, ids),
            300,
            lambda: f"{_statuses(session, ids)}\n{kills}\n{controller.text()[-6000:]}",
        )
        _hold(session, ids, marks, controller)
    finally:
        controller.stop()
        server.stop()
    assert min(kills.values()) >= 2, f"the test disturbed too little to say anything: {kills}"


def _disturb(
    chance: random.Random,
    server: support.Server,
    controller: support.Process,
    marks: Path,
    kills: dict[str, int],
) -> None:
    """About 25 kills over the run, at random moments, of a random victim; what is down comes up again."""
    for n in range(25):
        time.sleep(chance.uniform(0.05, 0.9))
        victim = ("controller", "server", "pod", "pod")[n % 4] if n < 12 else chance.choice(list(kills))
        if victim == "pod":
            pods = _bootstraps(str(marks.parent))
            if not pods:
                continue
            try:
                chance.choice(pods).send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue  # it ended by itself meanwhile
        else:
            process = controller if victim == "controller" else server
            process.kill9()
            time.sleep(chance.uniform(0, 0.5))
            process.start()
        kills[victim] += 1


def _bootstraps(folder: str) -> list[psutil.Process]:
    """This test's bootstrap processes: by their command line, and by the work folder in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if words[-1:] == ["bootstrap"] and folder in process.environ().get("PODSTRAP_WORK_DIR", ""):
                found.append(process)
        except psutil.Error:
            continue
    pids = {process.pid for process in found}
    return [process for process in found if not _is_its_child(process, pids)]


def _is_its_child(process: psutil.Process, pids: set[int]) -> bool:
    """A child of bootstrap looks like bootstrap until its exec; killing that is killing the task, not the pod.

    The process above the pod carries the same words, so one ancestor that is a candidate is as it should be.
    """
    try:
        parent = process.parent()
        grandparent = parent.parent() if parent else None
    except psutil.Error:
        return True
    return bool(parent and grandparent and parent.pid in pids and grandparent.pid in pids)


def _statuses(session, ids) -> dict[str, int]:
    found: dict[str, int] = {}
    for task in tasks.get_all(session, ids).values():
        found[task.status] = found.get(task.status, 0) + 1
    return found


def _all_ended(session, ids) -> bool:
    return sum(count for status, count in _statuses(session, ids).items() if status in support.ENDED) == len(ids)


def _hold(session, ids, marks: Path, controller: support.Process) -> None:
    found = tasks.get_all(session, ids)
    assert set(found) == set(ids), "a task is lost"
    wrong = {task.id: (task.status, task.status_reason, task.status_message) for task in found.values()}
    wrong = {one: facts for one, facts in wrong.items() if facts[0] != "completed"}
    assert not wrong, f"{wrong}\n{controller.text()[-6000:]}"
    assert not list(marks.glob("*/twice-at-once")), "two pods ran one task at the same time"
    for one in ids:
        ends = len(list((marks / one).glob("end-*")))
        starts = len(list((marks / one).glob("start-*")))
        assert ends >= 1, f"task {one} is completed but its script never ended"
        attempts = found[one].claim.attempt if found[one].claim else 1
        assert starts <= attempts, f"task {one} ran {starts} times in {attempts} attempts"
    assert all(not queue.entries for queue in queues.get_all(session, max_entries=5)), "an ended task is still queued"
