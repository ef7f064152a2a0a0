"""A task that prints a million lines: what reached the server, and what it cost.

One bootstrap as a Job's pod would run it, on the server of the environment (CLEARML_API_HOST and keys) or on the
embedded one. The task prints LINES numbered lines of 100 bytes at RATE lines a second, each flushed. Then the console
is read back page by page and every line is accounted for: lost, torn (not a whole line of the task's), doubled, out of
order. `cpu_share` is bootstrap's own CPU seconds (without its children's) divided by the seconds from the task's first
line until bootstrap ended; `rss_mb` its largest resident memory. The last line of the output is one JSON object.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from clearml_api import queues, tasks  # noqa: E402
from clearml_api.session import Session  # noqa: E402
from protocol import environment as names  # noqa: E402
from tests import support  # noqa: E402

LINES = int(os.environ.get("LINES_SENT", "1000000"))
RATE = int(os.environ.get("RATE", "50000"))
BURST = int(os.environ.get("BURST", "500"))
TASK = f"""
import os, sys, time
LINES, RATE = {LINES}, {RATE}
began = time.monotonic()
for n in range(LINES):
    os.write(1, b"line %09d %s\\n" % (n, b"x" * 84))
    if n % {BURST} == {BURST} - 1:
        ahead = (n + 1) / RATE - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(ahead)
"""
LINE = re.compile(r"line (\d{9}) x{84}")


def run(session: Session, queue: str, environ: dict[str, str], folder: Path) -> dict[str, Any]:
    """One bootstrap's run; the figures."""
    task = support.create_task(session, "console bench", TASK)
    tasks.enqueue(session, task, queue)
    mine = {
        names.TASK_ID: task,
        names.QUEUE_ID: queue,
        names.JOB_UID: "bench",
        names.POD_NAME: "bench",
        names.WORK_DIR: str(folder / "work"),
        names.CACHE_DIR: str(folder / "cache"),
        names.TERMINATION_LOG: str(folder / "termination"),
    }
    with (folder / "output").open("wb") as output:
        pod = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "bootstrap"], cwd=ROOT, stdout=output, env={**environ, **mine}
        )
        began, cpu, rss = 0.0, 0.0, 0
        process = psutil.Process(pod.pid)
        while pod.poll() is None:
            with process.oneshot():
                try:
                    times = process.cpu_times()
                    rss = max(rss, process.memory_info().rss)
                except psutil.Error:
                    break
            output = folder / "output"
            if not began and output.stat().st_size and b"line 0" in output.read_bytes()[:4096]:
                began, before = time.monotonic(), times.user + times.system
            if began:
                cpu = times.user + times.system - before
            time.sleep(0.05)
        code = pod.wait()
    seconds = time.monotonic() - began
    figures = account(session, task)
    return {
        "lines_sent": LINES,
        **figures,
        "exit_code": code,
        "seconds": round(seconds, 1),
        "cpu_share": round(cpu / seconds, 3),
        "rss_mb": round(rss / 2**20, 1),
    }


def account(session: Session, task: str) -> dict[str, Any]:
    """Read the console back and account for every line."""
    seen: list[int] = []
    torn = events = 0
    first = last = 0
    payload: dict[str, Any] = {"task": task, "batch_size": 500, "navigate_earlier": False, "from_timestamp": 0}
    while True:
        answer = session.call("events.get_task_log", payload)
        found = sorted(answer.get("events") or (), key=lambda event: event["timestamp"])
        if not found:
            break
        for event in found:
            events += 1
            for line in event["msg"].split("\n"):
                if line.startswith("podstrap: "):
                    continue
                if match := LINE.fullmatch(line):
                    seen.append(int(match[1]))
                else:
                    torn += 1
        first = first or found[0]["timestamp"]
        last = payload["from_timestamp"] = found[-1]["timestamp"]
    return {
        "lost": LINES - len(set(seen)),
        "torn": torn,
        "doubled": len(seen) - len(set(seen)),
        "out_of_order": sum(1 for one, two in pairwise(seen) if two < one),
        "events": events,
        "seconds_by_timestamps": round((last - first) / 1000, 1),
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="podstrap-bench-") as name:
        folder = Path(name)
        server = None
        if os.environ.get("CLEARML_API_HOST"):
            mine = {key: value for key, value in os.environ.items() if key.startswith("CLEARML_")}
        else:
            server = support.Server(folder / "server")
            server.start()
            mine = server.environ
        try:
            session = support.session_of(mine)
            queue = queues.create(session, f"bench-console-{os.getpid()}")
            print(json.dumps(run(session, queue, {**support.base_environ(), **mine, "HOME": name}, folder)))
        finally:
            if server:
                server.stop()


if __name__ == "__main__":
    main()
