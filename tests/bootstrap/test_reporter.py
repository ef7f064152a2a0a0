"""The sender against a real server behind a proxy that misbehaves: every line once, in order, and never for ever."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootstrap.reporter import Reporter
from bootstrap.spool import Spool
from clearml_api import events
from tests import support
from tests.bootstrap.faulty import Answer, Faulty, Forward, batch_answer

LINES = [f"line {n}" for n in range(60)]


@pytest.fixture
def proxy(server_environ: dict[str, str]) -> Iterator[Faulty]:
    found = Faulty(server_environ["CLEARML_API_HOST"])
    yield found
    found.close()


class Sender:
    """A reporter with its spool and what it told."""

    def __init__(self, session, task: str, folder: Path) -> None:
        self.spool = Spool(folder / "spool")
        self.told: list[str] = []
        self.reporter = Reporter(session, task, f"worker-{task}", self.spool, self.tell)
        self._millis = int(time.time() * 1000)

    def tell(self, line: str) -> None:
        self.told.append(line)
        self.put(f"podstrap: {line}")

    def put(self, line: str) -> None:
        self._millis += 1
        self.spool.append(self._millis, 0, line.encode() + b"\n")

    def finish(self, seconds: float = 30) -> bool:
        end = time.monotonic() + seconds
        return self.reporter.finish(lambda: max(0.0, end - time.monotonic()))


Make = Callable[[], tuple[Sender, str]]


@pytest.fixture
def make(api, proxy: Faulty, server_environ: dict[str, str], tmp_path: Path) -> Make:
    """A sender whose server is the proxy, and the id of its task."""

    def begin() -> tuple[Sender, str]:
        task = support.create_task(api, "reporter test", "pass")
        session = support.session_of({**server_environ, "CLEARML_API_HOST": proxy.address})
        sender = Sender(session, task, tmp_path)
        return sender, task

    return begin


def shown(api, task: str) -> list[str]:
    return [line for line in support.console(api, task).splitlines() if line.startswith("line ")]


def of_batches(what: Callable[[int, bytes, Forward], Answer | None]) -> Callable[[str, bytes, Forward], Answer | None]:
    """A fault on events.add_batch alone; the first argument counts them from 0."""
    count = -1

    def fault(endpoint: str, body: bytes, forward: Forward) -> Answer | None:
        nonlocal count
        if endpoint != "events.add_batch":
            return None
        count += 1
        return what(count, body, forward)

    return fault


def half_then_error(number: int, body: bytes, forward: Forward) -> Answer | None:
    """The server stores every other event of the first batch and refuses the rest."""
    if number:
        return None
    every = body.split(b"\n")
    forward(b"\n".join(every[::2]))
    return batch_answer(len(every[::2]), len(every[1::2]), "bulk index failed")


FAULTS = {
    "partial errors": half_then_error,
    "503": lambda number, *_: (503, b"busy") if number < 2 else None,
    "429": lambda number, *_: (429, b"{}") if number < 2 else None,
    "500": lambda number, *_: (500, b"oops") if number < 2 else None,
    "stored, then 502": lambda number, body, forward: (forward(body), (502, b""))[1] if number == 0 else None,
    "too large": lambda number, body, _: (413, b"<html>too large</html>") if len(body) > 2000 else None,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_every_line_arrives_once_and_in_order(api, proxy, make, fault) -> None:
    sender, task = make()
    proxy.fault = of_batches(fault)
    for line in LINES:
        sender.put(line)
    sender.reporter.start()
    assert sender.finish()
    assert shown(api, task) == LINES


def test_a_server_that_stores_a_little_at_each_try_gets_it_all(api, proxy, make, monkeypatch) -> None:
    monkeypatch.setattr("bootstrap.reporter._LONGEST_PAUSE", 1.5)

    def one_by_one(number: int, body: bytes, forward: Forward) -> Answer | None:
        every = body.split(b"\n")
        if number > 7:
            return None
        forward(every[0])
        return batch_answer(1, len(every) - 1, "index busy")

    sender, task = make()
    proxy.fault = of_batches(one_by_one)
    for line in LINES:
        sender.put(line)
    sender.reporter.start()
    assert sender.finish(60)
    assert shown(api, task) == LINES


def test_events_that_stay_refused_are_told_and_hold_up_nothing(api, proxy, make) -> None:
    def never(number: int, body: bytes, forward: Forward) -> Answer | None:
        good = [one for one in body.split(b"\n") if json.loads(one)["msg"] != "line 7"]
        if len(good) == len(body.split(b"\n")):
            return None
        if good:
            forward(b"\n".join(good))
        return batch_answer(len(good), 1, "it cannot be stored")

    sender, task = make()
    proxy.fault = of_batches(never)
    for line in LINES:
        sender.put(line)
    sender.reporter.start()
    assert sender.finish()
    assert shown(api, task) == [line for line in LINES if line != "line 7"]
    assert any("refused 1 console event" in line and "it cannot be stored" in line for line in sender.told)


def test_a_deleted_task_ends_the_sending(api, make) -> None:
    """Each line that tells of a refusal would be refused in its turn."""
    sender, task = make()
    api.call("tasks.delete", {"task": task, "force": True})
    for line in LINES:
        sender.put(line)
    sender.reporter.start()
    began = time.monotonic()
    sender.finish(20)
    assert time.monotonic() - began < 10
    assert len(sender.told) < 3


def test_lines_of_others_between_ours_do_not_make_ours_double(api, proxy, make) -> None:
    """The SDK's own report_text stands in the same console; the lookup after a lost answer must see past it."""

    def crowded(number: int, body: bytes, forward: Forward) -> Answer | None:
        if number:
            return None
        forward(body)
        first = json.loads(body.split(b"\n")[0])["timestamp"]
        others = [events.log_event(task, "the-sdk", first + n % 50, f"other {n}") for n in range(150)]
        forward(events.encode(others))
        return 502, b""

    sender, task = make()
    proxy.fault = of_batches(crowded)
    for line in LINES:
        sender.put(line)
    sender.reporter.start()
    assert sender.finish()
    assert shown(api, task) == LINES


def test_a_server_that_never_takes_them_does_not_hold_the_end(proxy, make) -> None:
    sender, _ = make()
    proxy.fault = of_batches(lambda *_: (503, b""))
    sender.put("line 0")
    sender.reporter.start()
    began = time.monotonic()
    assert not sender.finish(2)
    assert time.monotonic() - began < 4
    assert "503" in sender.reporter.trouble


def test_a_batch_that_was_stored_just_before_the_time_is_over_is_not_sent_blindly_once_more(api, proxy, make) -> None:
    def stored_unheard(number: int, body: bytes, forward: Forward) -> Answer | None:
        return (forward(body), (502, b""))[1] if number == 0 else None

    sender, task = make()
    proxy.fault = of_batches(stored_unheard)
    for line in LINES:
        sender.put(line)
    sender.reporter.start()
    assert not sender.finish(1.0), "too short for a look at what the server has"
    assert shown(api, task) == LINES


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_goes_wrong_at_random_every_line_arrives_once_and_in_order(
    api, proxy, make, monkeypatch, seed
) -> None:
    monkeypatch.setattr("bootstrap.reporter.BATCH_BYTES", 1500)
    dice = random.Random(seed)

    def fault(number: int, body: bytes, forward: Forward) -> Answer | None:
        if dice.random() > 0.25:
            return None
        if number % 2:
            return dice.choice([(503, b""), (502, b"<html>"), (429, b"{}"), (200, b'{"meta": {"res')])
        every = body.split(b"\n")
        stored = every[: dice.randrange(len(every) + 1)]
        if stored:
            forward(b"\n".join(stored))
        return dice.choice([(504, b""), batch_answer(len(stored), len(every) - len(stored), "index busy")])

    sender, task = make()
    proxy.fault = of_batches(fault)
    sender.reporter.start()
    for line in LINES * 5:
        sender.put(line)
    assert sender.finish(120)
    assert shown(api, task) == LINES * 5
