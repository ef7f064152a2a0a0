"""Disks that refuse and users that nobody knows: a clear reason on the task, never a traceback as the only word."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import support

NOBODY = "12345"
AS_NOBODY = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    # Only to read the interpreter, which may lie in somebody's home.
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
]  # fmt: skip
READ_ONLY_ROOT = ["unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh"]

Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """`mount(options)`: a small file system of its own."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False).returncode:
            pytest.skip("may not mount a file system here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def as_nobody(tmp_path: Path) -> list[str]:
    if not shutil.which("setpriv") or subprocess.run([*AS_NOBODY, "true"], check=False).returncode:
        pytest.skip("may not become another user here")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    return AS_NOBODY


def failed(api, task: str, pod) -> str:
    """The reason of a task that failed without a traceback."""
    assert pod.wait(60) not in (0, 75), pod.output()
    found = support.task(api, task)
    assert found.status == "failed"
    said = f"{found.status_reason}\n{found.status_message}"
    assert "Traceback" not in said + pod.output() + support.console(api, task)
    return said


def test_a_disk_too_small_for_the_code_is_named_with_its_size(api, queued, start, mount) -> None:
    task = queued("#" * 200_000 + "\nprint('ran')")
    said = failed(api, task, start(task, PODSTRAP_WORK_DIR=str(mount("size=128k"))))
    assert "is full (0.1 MiB)" in said


def test_a_disk_without_inodes_is_told_from_a_full_one(api, queued, start, mount) -> None:
    task = queued("print('ran')")
    said = failed(api, task, start(task, PODSTRAP_WORK_DIR=str(mount("nr_inodes=8")), PODSTRAP_CACHE_DIR=""))
    assert "has no inodes left (8 files)" in said


def test_a_work_folder_that_is_read_only(api, queued, start, mount) -> None:
    task = queued("print('ran')")
    assert "read-only file system" in failed(api, task, start(task, PODSTRAP_WORK_DIR=str(mount("ro"))))


def test_a_work_folder_of_another_user(api, queued, start, tmp_path, as_nobody) -> None:
    folder = tmp_path / "of-root"
    folder.mkdir(mode=0o755)
    task = queued("print('ran')")
    said = failed(api, task, start(task, prefix=as_nobody, PODSTRAP_WORK_DIR=str(folder)))
    assert f"{folder}/spool may not be written by user {NOBODY}" in said


def test_a_disk_that_fills_up_while_the_task_runs(api, queued, start, mount) -> None:
    work = mount("size=4m")
    code = (
        "for n in range(2000): print('line', n, flush=True)\n"
        f"with open({str(work / 'big')!r}, 'wb') as file:\n"
        "    while True: file.write(bytes(4096)); file.flush()\n"
    )
    task = queued(code)
    pod = start(task, PODSTRAP_WORK_DIR=str(work))
    assert pod.wait(60) == 1
    found = support.task(api, task)
    assert found.status_reason == "exit code 1"
    assert "No space left on device" in found.status_message
    assert f"the disk under {work} is full (4.0 MiB)" in found.status_message
    lines = [line for line in support.console(api, task).splitlines() if line.startswith("line ")]
    assert lines == [f"line {n}" for n in range(2000)]


def test_an_unknown_user_without_a_home_and_with_a_cache_of_others_runs(
    api, queued, start, tmp_path, as_nobody
) -> None:
    work, cache = tmp_path / "work", tmp_path / "of-root"
    cache.mkdir(mode=0o755)
    work.mkdir()
    work.chmod(0o777)
    task = queued("import os\nprint('ran as', os.getuid(), os.environ['HOME'])")
    folders = {"PODSTRAP_WORK_DIR": str(work), "PODSTRAP_CACHE_DIR": str(cache), "HOME": "/nonexistent"}
    pod = start(task, prefix=as_nobody, **folders)
    assert pod.wait(60) == 0, pod.output()
    text = support.console(api, task)
    assert f"ran as {NOBODY} {work / 'home'}" in text, "one that it can write to"
    assert "Traceback" not in text


def test_a_read_only_root_is_enough_where_the_work_folder_can_be_written(api, queued, start, mount) -> None:
    if subprocess.run([*READ_ONLY_ROOT, "true"], check=False, capture_output=True).returncode:
        pytest.skip("may not make a mount namespace here")
    task = queued("import tempfile\ntry: open('/etc/x', 'w')\nexcept OSError as error: print('ran', error.strerror)")
    pod = start(task, prefix=READ_ONLY_ROOT, PODSTRAP_WORK_DIR=str(mount("size=50m")))
    assert pod.wait(60) == 0, pod.output()
    text = support.console(api, task)
    assert "ran Read-only file system" in text
    assert "Traceback" not in text
