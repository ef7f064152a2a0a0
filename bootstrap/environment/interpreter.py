"""Which Python runs the task: the one it names if the image has it, else the image's own.

Never the environment that bootstrap itself runs in: its packages are not the task's.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.prepared import Tell
from clearml_api.models import Script

_PYTHON = re.compile(r"python(\d+(?:\.\d+)?)?")


@dataclass(frozen=True)
class Interpreter:
    """An executable, and what makes it another one when the image changes."""

    path: Path
    mark: str


def choose(script: Script, environ: Mapping[str, str], tell: Tell) -> Interpreter:
    """The interpreter for a task; a line tells when the one it asked for is not here."""
    wanted = script.binary.split()[0] if script.binary.split() else ""
    name = Path(wanted).name
    found: Path | None = None
    if wanted.startswith("/") and _PYTHON.fullmatch(name) and os.access(wanted, os.X_OK) and not _ours(Path(wanted)):
        found = Path(wanted)
    elif _PYTHON.fullmatch(name):
        found = _on_path(name, environ)
    if found is None and _PYTHON.fullmatch(name) and name not in ("python", "python3"):
        tell(f"the task asks for {name}, which this image does not have; the image's own Python is used")
    found = found or _on_path("python3", environ) or _base()
    return Interpreter(found, _mark(found))


def _on_path(name: str, environ: Mapping[str, str]) -> Path | None:
    folders = [folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    outside = os.pathsep.join(folder for folder in folders if not _ours(Path(folder, name)))
    found = shutil.which(name, path=outside) if outside else None
    return Path(found) if found else None


def _ours(path: Path) -> bool:
    """Whether an executable lies in the environment that bootstrap runs in."""
    return sys.prefix != sys.base_prefix and path.parent.resolve() == Path(sys.prefix, "bin").resolve()


def _base() -> Path:
    return Path(getattr(sys, "_base_executable", "") or sys.executable)


def _mark(path: Path) -> str:
    """Real path, size and time of change: cheap, and different for another interpreter under the same name."""
    real = path.resolve()
    try:
        stat = real.stat()
        return f"{real}:{stat.st_size}:{stat.st_mtime_ns}"
    except OSError:
        return str(real)
