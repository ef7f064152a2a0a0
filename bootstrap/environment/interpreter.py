"""Which Python runs the task: the one that it names if the image has it, else the same version of uv's or of
podstrap's own, else the nearest; where the task names none the image's python3, else podstrap's own.

As clearml-agent: the task's `script.binary`, unless `agent.ignore_requested_python_version`; then
CLEARML_PYTHON_VER, `agent.python_binary`, `agent.default_python`, then the image's own. What uv downloads lies in the
cache for all pods; UV_PYTHON_INSTALL_MIRROR and its kin are honoured. PODSTRAP_MISSING_PYTHON says what happens when
the image lacks the version: `install` (and the nearest where that fails), `nearest`, or `fail`.

Never the environment that bootstrap itself runs in: its packages are not the task's. The bare interpreter behind it
may serve, as it does in an image without any.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.commands import Programs
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Tell
from clearml_api.configuration import Configuration
from clearml_api.models import Script
from protocol import environment as names

_PYTHON = re.compile(r"(?:python)?(\d+(?:\.\d+)?)?(?:\.\d+)*")
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Interpreter:
    """An executable, and what makes it another one when the image changes."""

    path: Path
    mark: str


def choose(
    script: Script,
    configuration: Configuration,
    environ: Mapping[str, str],
    *,
    cache: Path,
    programs: Programs,
    tell: Tell,
) -> Interpreter:
    """The interpreter for a task; a line tells when the one that it asked for is not here. Raises
    EnvironmentBuildError when it is not here and nothing else will do."""
    ignored = str(configuration.get("agent.ignore_requested_python_version") or "").lower() in _TRUE
    wishes = [
        "" if ignored else (script.binary.split() or [""])[0],
        environ.get("CLEARML_PYTHON_VER", ""),
        str(configuration.get("agent.python_binary") or ""),
        str(configuration.get("agent.default_python") or ""),
    ]
    wanted = next((wish for wish in wishes if wish and _PYTHON.fullmatch(Path(wish).name)), "")
    if wanted.startswith("/") and os.access(wanted, os.X_OK) and not _ours(Path(wanted)):
        return _interpreter(Path(wanted))
    match = _PYTHON.fullmatch(Path(wanted).name)
    version = (match[1] if match else None) or ""
    if "." not in version:
        return _interpreter(_on_path(f"python{version}" if version else "python3", environ) or _any(environ))
    here = _on_path(f"python{version}", environ) or _own_version(version, environ)
    if here is None:
        here = _missing(version, environ, cache, programs, tell)
    return _interpreter(here)


def _missing(version: str, environ: Mapping[str, str], cache: Path, programs: Programs, tell: Tell) -> Path:
    from bootstrap.environment import pythons

    policy = environ.get(names.MISSING_PYTHON, "") or "install"
    if policy == "install":
        found = (
            pythons.installed(version, cache)
            or _own(version)
            or pythons.install(version, environ, cache, programs, tell)
        )
        if found is not None:
            return found
    if policy == "fail":
        raise EnvironmentBuildError(
            f"the task asks for python{version}, which this image does not have",
            hint=f"use an image with it, or set {names.MISSING_PYTHON}=install (uv brings it) or nearest",
        )
    nearest = pythons.nearest(version, environ, _ours) or _any(environ)
    tell(f"the task asks for python{version}, which this image does not have; {nearest} is used")
    return nearest


def _any(environ: Mapping[str, str]) -> Path:
    return _on_path("python3", environ) or _behind_ours()


def _own(version: str) -> Path | None:
    """The Python behind our own environment, where it is of that version: nothing needs to be fetched."""
    found = _behind_ours()
    return found if version == f"{sys.version_info[0]}.{sys.version_info[1]}" and os.access(found, os.X_OK) else None


def _behind_ours() -> Path:
    return Path(getattr(sys, "_base_executable", "") or sys.executable)


def _own_version(version: str, environ: Mapping[str, str]) -> Path | None:
    """The image's `python3` when it is of that version under another name: told by its library's folder."""
    plain = _on_path("python3", environ) or _on_path("python", environ)
    if plain is None:
        return None
    real = plain.resolve()
    return plain if real.name == f"python{version}" else None


def _on_path(name: str, environ: Mapping[str, str]) -> Path | None:
    folders = [folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    outside = [folder for folder in folders if not _ours(Path(folder, name))]
    for folder in outside:
        found = shutil.which(name, path=folder)
        if found and (real := _behind_shim(Path(found), environ)):
            return real
    return None


def _behind_shim(path: Path, environ: Mapping[str, str]) -> Path | None:
    """pyenv puts a script for every version on PATH, also for those that are not active, and the script takes longer
    than everything else here; the program behind it."""
    if path.parent.name != "shims":
        return path
    root = path.parent.parent
    try:
        active = environ.get("PYENV_VERSION", "").split(":") + (root / "version").read_text().split()
    except OSError:
        active = []
    for version in active:
        if version and (found := root / "versions" / version / "bin" / path.name).exists():
            return found
    named = path.name.removeprefix("python")
    if "." not in named:
        return path
    installed = sorted((root / "versions").glob(f"{named}*/bin/{path.name}"))
    return installed[-1] if installed else None


def _ours(path: Path) -> bool:
    """Whether an executable lies in the environment that bootstrap runs in."""
    return sys.prefix != sys.base_prefix and path.parent.resolve() == Path(sys.prefix, "bin").resolve()


def _interpreter(path: Path) -> Interpreter:
    return Interpreter(path, _mark(path))


def _mark(path: Path) -> str:
    """Real path, size and time of change: cheap, and different for another interpreter under the same name."""
    real = path.resolve()
    try:
        stat = real.stat()
        return f"{real}:{stat.st_size}:{stat.st_mtime_ns}"
    except OSError:
        return str(real)
