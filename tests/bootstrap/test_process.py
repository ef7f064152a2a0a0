"""The task's process tree: read to the end, signalled, and killed whole, whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.support import REPOSITORY_ROOT

RUNNER = """
import os, sys, time, threading
from pathlib import Path
from bootstrap.console import Console
from bootstrap.masking import Masker
from bootstrap.prepared import Launch
from bootstrap.children import reap_orphans
from bootstrap.process import TaskProcess
from bootstrap.spool import Spool
folder = Path(sys.argv[1])
console = Console(Spool(folder / "spool"), Masker())
launch = Launch((sys.executable, "-u", str(folder / "task.py")), folder)
process = TaskProcess(launch, dict(os.environ), console)
(folder / "pid").write_text(str(process.pid))
if sys.argv[2] == "wait":
    while process.poll() is None:
        process.wait(0.05)
        reap_orphans()
    process.finish_output()
else:
    while not (folder / "ready").exists():
        time.sleep(0.01)
    process.terminate(float(sys.argv[2]))
    process.finish_output()
print("CODE", process.poll(), flush=True)
"""


def run(
    tmp_path: Path, task: str, how: str = "wait", seconds: float = 30, prefix: Sequence[str] = ()
) -> tuple[str, float]:
    """Run a task's code under a TaskProcess in a process of its own; its output and how long it took."""
    (tmp_path / "task.py").write_text(textwrap.dedent(task))
    began = time.monotonic()
    done = subprocess.run(
        [*prefix, sys.executable, "-c", RUNNER, str(tmp_path), how],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY_ROOT), "MARK": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, time.monotonic() - began


def survivors(tmp_path: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == str(tmp_path) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


DAEMON = """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("daemon here", flush=True)
            time.sleep(600)
        os._exit(0)
    time.sleep(0.3)
    print("main done")
"""


def test_output_is_whole_and_the_code_is_kept(tmp_path: Path) -> None:
    output, _ = run(tmp_path, "import sys\nfor n in range(5000): print('line', n)\nsys.exit(3)")
    assert output.count("line ") == 5000
    assert output.endswith("CODE 3\n")


def test_a_daemon_that_left_its_session_and_holds_the_pipe_is_killed(tmp_path: Path) -> None:
    output, took = run(tmp_path, DAEMON)
    assert "daemon here" in output
    assert "main done" in output
    assert "CODE 0" in output
    assert took < 10
    assert survivors(tmp_path) == []


def test_terminate_asks_first(tmp_path: Path) -> None:
    task = """
        import pathlib, signal, sys, time
        def bye(*_):
            print("saving", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, bye)
        pathlib.Path("ready").touch()
        time.sleep(600)
    """
    output, took = run(tmp_path, task, "10")
    assert "saving" in output
    assert "CODE 0" in output
    assert took < 9


def test_terminate_kills_what_will_not_go_with_its_children(tmp_path: Path) -> None:
    task = """
        import pathlib, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for _ in range(3):
            subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"],
                             start_new_session=True)
        pathlib.Path("ready").touch()
        time.sleep(600)
    """
    output, took = run(tmp_path, task, "0.5")
    assert f"CODE {-signal.SIGKILL}" in output
    assert took < 9
    assert survivors(tmp_path) == []


def test_terminate_waits_for_the_group_when_the_shell_above_it_dies_at_once(tmp_path: Path) -> None:
    (tmp_path / "saver.py").write_text(
        textwrap.dedent("""
        import pathlib, signal, sys, time
        def save(*_):
            print("asked", flush=True)
            time.sleep(0.5)
            print("saved", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        pathlib.Path("ready").touch()
        time.sleep(600)
        """)
    )
    task = """
        import signal, subprocess, sys, time
        subprocess.Popen([sys.executable, "-u", "saver.py"])
        time.sleep(600)
    """
    output, took = run(tmp_path, task, "10")
    assert output.splitlines() == ["asked", "saved", f"CODE {-signal.SIGTERM}"], "each is asked once"
    assert took < 9


def test_pid_1_ends_what_forks_faster_than_it_is_found(tmp_path: Path) -> None:
    """Each generation leaves its session and lives a moment only: no walk through /proc catches it."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("may not make a pid namespace here")
    task = """
        import os, sys
        if os.fork() == 0:
            for _ in range(1_000_000):
                if os.fork():
                    os._exit(0)
                os.setsid()
        print("main done")
    """
    output, took = run(tmp_path, task, prefix=unshare)
    assert "main done\nCODE 0" in output
    assert took < 10
    assert survivors(tmp_path) == []


def test_the_reaper_never_takes_the_exit_code_of_a_program_of_ours(tmp_path: Path) -> None:
    script = """
import threading
from bootstrap.children import become_reaper, reap_orphans
from bootstrap.commands import CommandFailed, Programs
become_reaper()
over = threading.Event()
def reap():
    while not over.is_set():
        reap_orphans()
threading.Thread(target=reap, daemon=True).start()
programs, codes = Programs(), []
for _ in range(200):
    try:
        programs.run(["false"])
        codes.append(0)
    except CommandFailed as failed:
        codes.append(failed.code)
over.set()
print(set(codes))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "{1}", done.stderr


def test_output_stands_before_the_error_that_follows_it(tmp_path: Path) -> None:
    output, _ = run(tmp_path, "for n in range(300): print('line', n)\nraise SystemExit('the error')")
    assert output.splitlines()[-3:-1] == ["line 299", "the error"]


def test_orphans_do_not_stay_as_zombies(tmp_path: Path) -> None:
    task = """
        import os, time
        for _ in range(50):
            if os.fork() == 0:
                if os.fork() == 0:
                    os._exit(0)
                os._exit(0)
            os.wait()
        time.sleep(0.5)
        parent = os.getppid()
        import pathlib
        states = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[1]) == parent and fields[0] == "Z":
                    states.append(entry.name)
        print("ZOMBIES", len(states))
    """
    output, _ = run(tmp_path, task)
    assert "ZOMBIES 0" in output


@pytest.mark.parametrize(
    "task", ["import os\nos.close(1)\nos.close(2)\n", "import sys\nsys.stdout.write('no newline')"]
)
def test_odd_streams_are_survived(tmp_path: Path, task: str) -> None:
    output, _ = run(tmp_path, task)
    assert "CODE 0" in output
