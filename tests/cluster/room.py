"""A room of its own for a test node: private process ids and mounts, the host's network.

Inside, containerd and the kubelet find /run, /var/lib and /var/log empty and theirs, so they run with the paths of a
real node and touch nothing of the machine's own. The first process in the room is `pause until-eof`: when the tests
end, even by SIGKILL, its standard input ends, it leaves, and the kernel kills every process of the room and drops its
mounts. Nothing needs to be searched for and nothing can be forgotten.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

PRIVATE = {"run": "/run", "lib": "/var/lib", "log": "/var/log"}
"""Folder below the room's -> what it is inside."""
_ENTER = """
cut -d' ' -f4 /proc/self/stat
mount -t proc proc /proc
mount --make-rshared /
for pair in {pairs}; do mount --bind "$1/${{pair%%:*}}" "${{pair#*:}}"; done
echo ready
exec "$2" until-eof
"""
"""cut's parent is this shell: its process id as the host's /proc tells it."""


class Room:
    """`folder`: the room's files, at paths that are not below those of PRIVATE. `pause`: the program of pause.c."""

    def __init__(self, folder: Path, pause: Path) -> None:
        self.folder = folder
        self._pause = pause
        self._first: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def open(self) -> None:
        """There, with its mounts; /run is empty as after any boot."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        for name in PRIVATE:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        pairs = " ".join(f"{name}:{inside}" for name, inside in PRIVATE.items())
        script = _ENTER.format(pairs=pairs)
        with (self.folder / "room.log").open("ab") as log:
            self._first = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
                 "sh", "-ec", script, "sh", self.folder, self._pause],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/",
            )  # fmt: skip
        assert self._first.stdout
        number, ready = self._first.stdout.readline(), self._first.stdout.readline()
        self._first.stdout.close()
        assert ready == b"ready\n", f"the node's namespaces: {(self.folder / 'room.log').read_text()[-2000:]}"
        self.pid = int(number)

    def close(self) -> None:
        """Every process in it killed, every mount gone. Its files stay until `clear`."""
        if self._first is None:
            return
        assert self._first.stdin
        self._first.stdin.close()
        try:
            self._first.wait(20)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait()
        self._first = None

    def clear(self) -> None:
        """Its private folders removed, all but the logs."""
        assert self._first is None, "close the room first"
        for name in PRIVATE:
            if name != "log":
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def words(self, *command: str | Path) -> list[str | Path]:
        """The command that runs `command` inside."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", *command]


class Program:
    """A program that stays, inside a room; its output in `log`."""

    def __init__(self, name: str, room: Room, words: list[str | Path], log: Path, environ: dict[str, str]) -> None:
        self.name = name
        self.log = log
        self._room = room
        self._words = words
        self._environ = environ
        self._entered: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert not self.running(), f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._entered = subprocess.Popen(
                self._room.words(*self._words), env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def running(self) -> bool:
        return self._entered is not None and self._entered.poll() is None

    def send(self, number: int) -> None:
        """A signal to the program, not to what took it into the room."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, number: int = signal.SIGTERM, seconds: float = 20) -> None:
        """Ended by this signal, by SIGKILL after `seconds`."""
        if self._entered is None:
            return
        end = time.monotonic() + seconds
        self.send(number)
        while self.running():
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
            time.sleep(0.02)
        self._entered = None

    def tail(self, size: int = 4000) -> str:
        """The end of its log, named."""
        return f"{self.name}: {self.log.read_text(errors='replace')[-size:] if self.log.exists() else 'no log'}"

    def _pids(self) -> list[int]:
        if not self.running():
            return []
        assert self._entered
        own = self._entered.pid
        return [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()]
