"""Whole runs of tasks that print what nobody should: each is survived, shown, and the same in the pod's own output."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from datetime import datetime

import pytest

from tests import support

ODD = r"""
import os, sys, time
os.write(1, b"nul \0 in the middle\n")
os.write(1, b"no utf-8: \xff\xfe\n")
os.write(1, b"surrogate: \xed\xa0\x80\n")
os.write(2, b"an error line\n")
os.write(1, b"\x1b[32mgreen\x1b[0m\n")
os.write(1, b"z" * 10_000_000 + b"\n")
for percent in range(0, 101, 10):
    os.write(1, b"\r%3d%%|" % percent)
    time.sleep(0.01)
os.write(1, b"\n")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)  # holds both pipes
    os._exit(0)
os.wait()
os.write(1, b"no newline at the end")
os.close(1)
os.close(2)
"""


def events(api, task: str) -> list[dict]:
    answer = api.call("events.get_task_log", {"task": task, "batch_size": 5000, "navigate_earlier": False})
    return sorted(answer["events"], key=lambda event: event["timestamp"])


@pytest.mark.parametrize("ansi", ["keep", "strip"])
def test_odd_output_is_survived_and_the_pods_own_output_shows_the_same(api, queued, start, ansi) -> None:
    task = queued(ODD)
    pod = start(task, PODSTRAP_ANSI=ansi)
    began = time.monotonic()
    assert pod.wait(60) == 0
    assert time.monotonic() - began < 20, "nobody waits for who holds the pipe"
    found = events(api, task)
    lines = "\n".join(event["msg"] for event in found).split("\n")
    shown = [line for line in lines if not line.startswith("podstrap: ")]
    own = [line for line in pod.output().removesuffix("\n").split("\n") if not line.startswith("podstrap: ")]
    assert shown == own
    for wanted in ("nul \ufffd in the middle", "no utf-8: \ufffd\ufffd", "100%|", "no newline at the end"):
        assert wanted in shown
    assert sum(line.startswith("surrogate: \ufffd") for line in shown) == 1
    assert ("green" if ansi == "strip" else "\x1b[32mgreen\x1b[0m") in shown
    assert sum(line.count("z") for line in shown if set(line) == {"z"}) == 10_000_000
    assert not any(line.startswith(" 50%") for line in shown), "a bar shows its last state"
    levels = {event["level"] for event in found if "an error line" in event["msg"]}
    assert levels == {"error"}, "standard error is marked"
    assert {event["level"] for event in found if "no newline" in event["msg"]} == {"info"}


def test_a_fork_bomb_is_ended_and_its_reason_stands_on_the_task(api, queued, start) -> None:
    """In a process namespace of its own, as a pod's container, bounded by the pod's process limit."""
    prefix = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "prlimit", "--nproc=400:400"]
    prefix += ["setpriv", "--reuid=23456", "--regid=23456", "--clear-groups"]
    prefix += ["--inh-caps=-all,+dac_read_search,+dac_override", "--ambient-caps=-all,+dac_read_search,+dac_override"]
    if not shutil.which("setpriv") or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("may not make a pid namespace or become another user here")
    task = queued(
        "import os, time\n"
        "print('begins', flush=True)\n"
        "end = time.monotonic() + 2\n"
        "failed = 0\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        os.fork()\n"
        "    except BlockingIOError:\n"
        "        failed += 1\n"
        "        time.sleep(0.05)\n"
        "time.sleep(0.2)\n"
        "raise SystemExit(7)\n"
    )
    pod = start(task, prefix=prefix)
    assert pod.wait(90) == 7, pod.output()[-3000:]
    found = support.task(api, task)
    assert (found.status, found.status_reason) == ("failed", "exit code 7")
    assert "begins" in support.console(api, task)


def test_the_first_line_is_on_the_server_within_a_second(api, queued, start) -> None:
    task = queued("import time\nprint('printed at', time.time(), flush=True)\ntime.sleep(3)")
    pod = start(task)
    assert pod.wait(30) == 0
    (event,) = [event for event in events(api, task) if "printed at" in event["msg"]]
    found = re.search(r"printed at (\S+)", event["msg"])
    assert found, json.dumps(event)
    received = datetime.fromisoformat(event["@timestamp"].replace("Z", "+00:00")).timestamp()
    assert received - float(found[1]) < 1.0
    assert abs(event["timestamp"] / 1000 - float(found[1])) < 0.1, "the time is that of the writing"
