"""Out of memory in a real control group of version 1, made for the test and shown to the pod as its own."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import support

LIMIT = 200 << 20
HIERARCHY = Path("/sys/fs/cgroup/memory")
INSIDE = 'echo $$ > "$0/cgroup.procs" && mount --bind "$0" /sys/fs/cgroup/memory && exec "$@"'
GREEDY = "x = bytearray(400 << 20)\nfor at in range(0, len(x), 4096): x[at] = 1\n"
CHILD = f"""
import subprocess, sys
done = subprocess.run([sys.executable, "-c", {GREEDY!r}])
print("the child came to", done.returncode, flush=True)
"""


@pytest.fixture
def small_memory() -> Iterator[list[str]]:
    """A command's prefix: what follows runs with 200 MiB and sees that limit as a pod does."""
    group = HIERARCHY / f"podstrap-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError:
        pytest.skip("no memory control group of version 1 that may be changed here")
    prefix = ["unshare", "--mount", "sh", "-c", INSIDE, str(group)]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        group.rmdir()
        pytest.skip("may not make a mount namespace here")
    yield prefix
    support.until(lambda: _removed(group), 10)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), 9)
        return False
    return True


def test_the_task_itself(api, queued, start, small_memory) -> None:
    task = queued(f"print('running', flush=True)\n{GREEDY}")
    assert start(task, prefix=small_memory).wait(60) == 137
    found = support.task(api, task)
    assert found.status == "failed"
    assert found.status_reason.startswith("OOMKilled: limit 0.20 GiB, peak 0."), found.status_reason
    assert "killed by signal 9" in found.status_message
    assert "give the pod more memory" in found.status_message


def test_a_child_whose_end_makes_the_task_fail(api, queued, start, small_memory) -> None:
    task = queued(f"{CHILD}\nsys.exit(done.returncode and 'a worker died')")
    assert start(task, prefix=small_memory).wait(60) == 1
    found = support.task(api, task)
    assert found.status_reason.startswith("OOMKilled: limit 0.20 GiB, peak 0."), found.status_reason
    assert "exit code 1 after a process of its own was killed" in found.status_message
    assert "a worker died" in found.status_message


def test_a_child_that_the_task_can_do_without_is_told_in_the_console(api, queued, start, small_memory) -> None:
    task = queued(CHILD)
    assert start(task, prefix=small_memory).wait(60) == 0
    assert support.task(api, task).status == "completed"
    text = support.console(api, task)
    assert "the child came to -9" in text
    assert text.count("out of memory: the kernel killed a process of this pod (limit 0.20 GiB, peak 0.") == 1
