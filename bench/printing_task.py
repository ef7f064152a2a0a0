"""The task of the console bench, and the account of what of its lines the server has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from clearml_api.session import Session

LINE = re.compile(r"line (\d{9}) x{84}")
_PAGE = 500
_CODE = """
import os, sys, time
LINES, RATE, BURST = {lines}, {rate}, {burst}
began = time.monotonic()
for n in range(LINES):
    os.write(1, b"line %09d %s\\n" % (n, b"x" * 84))
    if n % BURST == BURST - 1:
        ahead = (n + 1) / RATE - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(ahead)
"""


def code(lines: int, rate: int, burst: int) -> str:
    """A script that prints numbered lines of 100 bytes, each with a write of its own, `rate` lines a second."""
    return _CODE.format(lines=lines, rate=rate, burst=burst)


@dataclass
class Account:
    """Every line that was sent, by what became of it."""

    seen: list[int] = field(default_factory=list)
    """The numbers of the whole lines, in the console's order."""
    pieces: int = 0
    """What is a part of a line of the task's, or not quite one."""
    events: int = 0
    first_millis: int = 0
    last_millis: int = 0

    def figures(self, sent: int) -> dict[str, Any]:
        """Lost, torn, doubled, out of order. A line that is not there whole is torn where a piece can be its, else
        lost; pieces that no missing line explains are torn too."""
        whole = len(set(self.seen))
        missing = sent - whole
        torn = min(missing, self.pieces)
        return {
            "lost": missing - torn,
            "torn": torn or self.pieces,
            "doubled": len(self.seen) - whole,
            "out_of_order": sum(1 for one, two in pairwise(self.seen) if two < one),
        }


def account(session: Session, task: str) -> Account:
    """Read a task's console back, page by page. What has no likeness to the task's lines is the runner's own story."""
    found = Account()
    for event in _events(session, task):
        found.events += 1
        found.first_millis = found.first_millis or event["timestamp"]
        found.last_millis = event["timestamp"]
        for line in event["msg"].split("\n"):
            if match := LINE.fullmatch(line):
                found.seen.append(int(match[1]))
            elif _is_a_piece(line):
                found.pieces += 1
    return found


def _is_a_piece(line: str) -> bool:
    return bool(line) and (line.startswith("line ") or line.endswith("xxx") or "line 0".startswith(line))


def _events(session: Session, task: str) -> Iterator[dict[str, Any]]:
    """The console's events, oldest first. A page may end inside a millisecond, which is then read again."""
    payload: dict[str, Any] = {"task": task, "batch_size": _PAGE, "navigate_earlier": False, "from_timestamp": 0}
    known: set[str] = set()
    while True:
        page = session.call("events.get_task_log", payload).get("events") or ()
        new = [event for event in page if _name(event) not in known]
        if not new:
            return
        yield from sorted(new, key=lambda event: event["timestamp"])
        known = {_name(event) for event in page}
        payload["from_timestamp"] = max(event["timestamp"] for event in page) - 1


def _name(event: dict[str, Any]) -> str:
    return f"{event['timestamp']} {event.get('worker')} {hash(event['msg'])}"
