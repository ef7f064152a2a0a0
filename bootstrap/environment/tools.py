"""Where the helper programs are and where they keep their things; the venv that is made without one."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from bootstrap.errors import EnvironmentBuildError

WHEELS = "wheels"
"""A folder of the cache that an operator may fill with wheels for pods without an index."""


def find_uv() -> str:
    """uv's executable: beside our own Python, else on PATH. Raises EnvironmentBuildError."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        raise EnvironmentBuildError(
            "uv was not found beside podstrap's Python nor on PATH",
            hint="install podstrap with its [pod] extra, or set PODSTRAP_PACKAGE_MANAGER=pip",
        )
    return found


def downloads(cache: Path, name: str) -> Path:
    """A tool's own folder in the cache. Tools keep theirs to one user, so another user's is left alone."""
    folder, user = cache / name, os.geteuid()
    try:
        mine = user in (0, folder.stat().st_uid)
    except OSError:
        mine = True
    return folder if mine else cache / f"{name}-{user}"


def bare_venv(folder: Path, base: Path) -> None:
    """A virtual environment of a few files; `base` is a real `python3.N`."""
    short = base.name.removeprefix("python")
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / base.name / "site-packages").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(
        f"home = {base.parent}\nimplementation = CPython\nversion = {short}\ninclude-system-site-packages = false\n"
    )
    (folder / "bin" / "python").symlink_to(base)
    for name in ("python3", base.name):
        (folder / "bin" / name).symlink_to("python")
