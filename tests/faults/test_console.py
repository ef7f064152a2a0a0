"""Tasks that print while the server comes and goes and their pods are taken away, at random: every line accounted for.

Each task numbers its lines on both streams and notes in a file what it has printed. Between pods and server stands a
proxy with weather: outages, cut connections, slow answers, answers lost after the server stored the batch, batches
stored in part. Meanwhile pods get SIGTERM or SIGKILL, tasks are aborted or end by themselves. Afterwards

- each line is on the server once, whole and in its stream's order, where the pod said that it reported all;
- elsewhere (killed, or taken away in the middle of an outage) what the server has is there once and in order, and the
  pod's own output, which the controller recovers, has everything that was printed;
- each task has the status, reason and exit code of what was done to it, and a disturbed one ran again.

PODSTRAP_CONSOLE_SEEDS (default 5) is how many seeds to run; `make soak` runs many.
"""

from __future__ import annotations

import os
import random
import re
import signal
import textwrap
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from clearml_api import queues, tasks
from clearml_api.session import Session
from protocol import environment as names
from protocol.termination import Outcome
from tests import support
from tests.bootstrap.conftest import Pod
from tests.bootstrap.faulty import Answer, Faulty, Forward, batch_answer

SEEDS = range(1, 1 + int(os.environ.get("PODSTRAP_CONSOLE_SEEDS", "5")))
AT_ONCE = 4
CODE = textwrap.dedent(
    """
    import os, pathlib, random, signal, sys, time, zlib
    folder, pod = pathlib.Path({folder!r}), os.environ["PODSTRAP_POD_NAME"]
    chance = random.Random({seed!r} + pod)
    again = any(folder.glob("printed-*"))
    count = 100 if again else {count}
    with open(folder / f"printed-{{pod}}", "wb", 0) as journal:
        for n in range(count):
            for descriptor, stream in ((1, "out"), (2, "err")):
                body = f"{{pod}} {{stream}} {{n}} " + "x" * (n * 7919 % 500)
                line = f"{{body}} {{zlib.crc32(body.encode()):08x}}\\n".encode()
                if chance.random() < 0.1:  # in two writes
                    at = chance.randrange(1, len(line))
                    os.write(descriptor, line[:at])
                    time.sleep(chance.choice((0, 0.03)))
                    line = line[at:]
                os.write(descriptor, line)
            journal.write(b"%d\\n" % n)
            if n % 40 == 0:
                time.sleep(chance.uniform(0, 0.25))
    {ending}
    """
)
LINE = re.compile(r"(\S+) (out|err) (\d+) x* ([0-9a-f]{8})")


@dataclass(frozen=True)
class Fate:
    """What becomes of a task: by itself (`ending`), and from outside (`disturb`)."""

    ending: str
    status: str
    reason: str
    exit_code: int
    disturb: str = ""
    """`term`, `kill`: of its pod, so that another one goes on; `stop`: by a user."""


FATES = {
    "ends well": Fate("", "completed", "", 0),
    "fails": Fate("sys.exit(3)", "failed", "exit code 3", 3),
    "crashes": Fate("os.kill(os.getpid(), signal.SIGSEGV)", "failed", "killed by signal 11 (SIGSEGV)", 139),
    "taken away": Fate("", "completed", "", 0, "term"),
    "killed": Fate("", "completed", "", 0, "kill"),
    "aborted": Fate("", "stopped", "", 0, "stop"),
}


class Weather:
    """What stands between the pods and the server, changing at random until `clear`."""

    def __init__(self, proxy: Faulty, chance: random.Random) -> None:
        self._chance = chance
        self._state = "fine"
        self._over = threading.Event()
        self.met: dict[str, int] = {}
        proxy.fault = self._fault
        self._thread = threading.Thread(target=self._change, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def clear(self) -> None:
        self._over.set()
        self._thread.join()
        self._state = "fine"

    def _change(self) -> None:
        states = ("fine", "down", "cut", "slow", "answers lost", "stored in part")
        while not self._over.is_set():
            self._state = self._chance.choice(states)
            self._over.wait(self._chance.uniform(0.2, 1.5))

    def _fault(self, endpoint: str, body: bytes, forward: Forward) -> Answer | None:
        state, of_batch = self._state, endpoint == "events.add_batch"
        if state != "fine":
            self.met[state] = self.met.get(state, 0) + 1
        if state == "down":
            return 503, b"down"
        if state == "cut":
            return 0, b""
        if state == "slow":
            time.sleep(self._chance.uniform(0.1, 1.0))
        if state == "answers lost" and of_batch:
            forward(body)
            return self._chance.choice([(0, b""), (502, b"<html>"), (504, b"")])
        if state == "stored in part" and of_batch:
            every = body.split(b"\n")
            stored = [one for one in every if self._chance.random() < 0.5]
            if stored:
                forward(b"\n".join(stored))
            return batch_answer(len(stored), len(every) - len(stored), "index busy")
        return None


@dataclass
class Case:
    """One task with its pods."""

    task: str
    name: str
    fate: Fate
    folder: Path
    pods: list[Pod] = field(default_factory=list)

    def printed(self, pod: Pod) -> int:
        """How many lines the task under this pod has printed on each stream, by its own account."""
        try:
            return len((self.folder / f"printed-{pod.name}").read_text().splitlines())
        except FileNotFoundError:
            return 0


class Cluster:
    """Starts pods as a Job would, behind the proxy."""

    def __init__(self, folder: Path, environ: dict[str, str], queue: str, address: str) -> None:
        self._folder, self._queue = folder, queue
        self._environ = {**support.base_environ(), **environ, "CLEARML_API_HOST": address, "HOME": str(folder)}
        self.pods: list[Pod] = []

    def start(self, case: Case) -> None:
        folder = self._folder / f"pod-{len(self.pods)}"
        name = f"pod-{len(self.pods)}-{uuid.uuid4().hex[:6]}"
        variables = {
            names.TASK_ID: case.task,
            names.QUEUE_ID: self._queue,
            names.JOB_UID: f"job-of-{case.task}",
            names.POD_NAME: name,
            names.WORK_DIR: str(folder / "work"),
            names.CACHE_DIR: str(self._folder / "cache"),
            names.TERMINATION_LOG: str(folder / "termination"),
            names.POLL_SECONDS: "0.5",
            names.SAMPLE_SECONDS: "2",
            names.GRACE_SECONDS: "6",
        }
        pod = Pod(folder, {**self._environ, **variables}, name=name)
        self.pods.append(pod)
        case.pods.append(pod)

    def end(self) -> None:
        for pod in self.pods:
            pod.end()


@pytest.fixture
def proxy(server_environ: dict[str, str]) -> Iterator[Faulty]:
    found = Faulty(server_environ["CLEARML_API_HOST"])
    yield found
    found.close()


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_line_is_accounted_for_and_every_task_has_its_status(
    api: Session, server_environ: dict[str, str], proxy: Faulty, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    queue = queues.create(api, f"console-{uuid.uuid4().hex[:8]}")
    cluster = Cluster(tmp_path, server_environ, queue, proxy.address)
    weather = Weather(proxy, random.Random(seed))
    cases = []
    for number, name in enumerate(chance.sample(sorted(FATES), AT_ONCE)):
        folder = tmp_path / f"task-{number}"
        folder.mkdir()
        fate = FATES[name]
        code = CODE.format(folder=str(folder), seed=str(seed), count=chance.randint(300, 1500), ending=fate.ending)
        cases.append(Case(support.create_task(api, f"console {seed} {name}", code), name, fate, folder))
        tasks.enqueue(api, cases[-1].task, queue)
    try:
        for case in cases:
            cluster.start(case)
        for case in cases:  # claims under trouble are another test's
            support.until(lambda case=case: case.printed(case.pods[0]), 60, case.pods[0].output)
        weather.begin()
        moments = [chance.uniform(0, 3) for _ in cases]
        works = [
            support.InBackground(lambda case=case, at=at: _undergo(api, cluster, case, at))
            for case, at in zip(cases, moments, strict=True)
        ]
        for work in works:
            work.start()
        time.sleep(chance.uniform(4, 8))
        weather.clear()
        for work in works:
            work.check()
        for case in cases:
            _hold(api, case)
    finally:
        cluster.end()
    assert weather.met, "no request met any trouble: the test says nothing"


def _undergo(api: Session, cluster: Cluster, case: Case, at: float) -> None:
    """A pod's life, and that of the one that goes on in its place."""
    time.sleep(at)
    pod = case.pods[0]
    if case.fate.disturb == "stop":
        api.call("tasks.stop", {"task": case.task})
    elif case.fate.disturb == "term":
        pod.process.send_signal(signal.SIGTERM)
    elif case.fate.disturb == "kill":
        _kill_whole(pod)
    code = pod.wait(90)
    if code in (75, -signal.SIGKILL):
        cluster.start(case)
        code = case.pods[-1].wait(90)
    assert code == case.fate.exit_code or (case.fate.disturb == "stop" and code == 0), (case.name, code)


def _kill_whole(pod: Pod) -> None:
    """As the kernel or a node's end takes a container: everything in it at once."""
    tree = [psutil.Process(pod.process.pid)]
    tree += tree[0].children(recursive=True)
    for process in tree:
        process.suspend()
    for process in reversed(tree):
        process.kill()


def _hold(api: Session, case: Case) -> None:
    text = support.console(api, case.task)
    where = f"{case.name}: {[pod.message() for pod in case.pods]}"
    found = support.task(api, case.task)
    ended_before = case.fate.disturb and len(case.pods) == 1 and found.status == "completed"
    # Taken away when it had just ended, in the middle of an outage: its last words are the controller's to report.
    left = case.fate.disturb == "term" and len(case.pods) == 1 and not case.pods[0].message().reported
    if left:
        assert case.pods[0].message().outcome is Outcome.COMPLETED, where
    else:
        assert found.status == case.fate.status or ended_before, f"{where} {found.status} {found.status_message}"
        assert case.fate.reason in found.status_reason, f"{where} {found.status_reason}"
    for pod in case.pods:
        own = _lines(pod.output(), case, pod)
        shown = _lines(text, case, pod, own)
        last = pod is case.pods[-1]
        assert not last or left or pod.message().reported, f"{where}: the last pod had all the time it needed"
        whole = pod.message().reported and pod.message().outcome is not Outcome.RUNNING
        for stream in ("out", "err"):
            assert own[stream] == list(range(len(own[stream]))), f"{where}: the pod's own {stream}"
            if whole:
                assert shown[stream] == own[stream], f"{where}: {pod.name}: the console's {stream}"
            else:  # a batch that was stored in part may have been the last
                assert shown[stream] == sorted(set(shown[stream])), f"{where}: {pod.name}: the console's {stream}"
                assert set(shown[stream]) <= set(own[stream]), f"{where}: {pod.name}: the console's {stream}"
            if pod.message().outcome is not Outcome.RUNNING:  # not killed: the pipes were read to their end
                assert len(own[stream]) >= case.printed(pod), f"{where}: {stream}"


def _lines(text: str, case: Case, pod: Pod, printed: dict[str, list[int]] | None = None) -> dict[str, list[int]]:
    """The numbers of this pod's lines on each stream. Fails on a piece of a line, unless it is the last of a task that
    was ended between two writes: the one after all that were `printed` whole (by default: after those found)."""
    found: dict[str, list[int]] = {"out": [], "err": []}
    unfinished = []
    for line in text.splitlines():
        if line.startswith("podstrap: ") or not line.strip():
            continue
        match = LINE.fullmatch(line)
        if match and line == _whole(match[1], match[2], int(match[3])):
            if match[1] == pod.name:
                found[match[2]].append(int(match[3]))
        elif pod.name.startswith(line) or line.startswith(pod.name):
            unfinished.append(line)
        else:
            others = [one.name for one in case.pods]
            assert any(line.startswith(one) or one.startswith(line) for one in others), f"foreign: {line[:200]!r}"
    expected = [_whole(pod.name, stream, len(numbers)) for stream, numbers in (printed or found).items()]
    for line in unfinished:
        assert case.fate.disturb and any(one.startswith(line) for one in expected), f"torn: {line[:200]!r}"
    assert len(unfinished) <= 1, "the task writes to one stream at a time"
    return found


def _whole(pod: str, stream: str, number: int) -> str:
    body = f"{pod} {stream} {number} " + "x" * (number * 7919 % 500)
    return f"{body} {zlib.crc32(body.encode()):08x}"
