"""A room ends with whoever opened it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY_ROOT, until

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")]
_OPEN = """
import sys
from pathlib import Path
from tests.cluster import tools
from tests.cluster.room import Program, Room
room = Room(Path(sys.argv[1]), tools.pause())
room.open()
words = ["sh", "-c", "mount -t tmpfs none /run && sleep 987 & sleep 987"]
program = Program("sleep", room, words, Path(sys.argv[2]), {})
program.start()
print(room.pid, flush=True)
sys.stdin.read()
"""


def test_a_room_dies_with_tests_that_are_killed(tmp_path: Path) -> None:
    mounts = Path("/proc/mounts").read_text()
    with subprocess.Popen(
        [sys.executable, "-c", _OPEN, tmp_path / "room", tmp_path / "log"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY_ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as tests:  # fmt: skip
        assert tests.stdout
        first = int(tests.stdout.readline())
        namespace = (Path("/proc") / str(first) / "ns" / "pid").readlink()
        until(lambda: len(members(namespace)) >= 4, 10, lambda: str(members(namespace)))
        tests.send_signal(signal.SIGKILL)
    until(lambda: not members(namespace), 10, lambda: str(members(namespace)))
    assert Path("/proc/mounts").read_text() == mounts


def members(namespace: Path) -> list[int]:
    """Processes in this namespace of process ids."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns" / "pid").readlink() == namespace:
                found.append(int(process.name))
        except OSError:
            continue
    return found
