"""What fills a new environment: uv, or virtualenv with pip where the operator or the task asks for it.

Both satisfy one protocol: make a venv, install a requirements file into it, list what is there. Index addresses go
by variables, never as arguments, since they may carry credentials.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bootstrap.commands import CommandFailed, Programs
from bootstrap.environment.interpreter import Interpreter
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Tell
from clearml_api.configuration import Configuration

_INSTALL_SECONDS = 3600.0
_DECORATION = re.compile(r"^[\s×╰─▶│├├─•✗]+|\x1b\[[0-9;]*m")


class Installer(Protocol):
    """One way to build an environment."""

    name: str

    def make(self, interpreter: Interpreter, folder: Path) -> None:
        """An empty venv. Raises EnvironmentBuildError."""

    def install(self, folder: Path, requirements: Path, source: str, cwd: Path) -> None:
        """Install a requirements file. Raises EnvironmentBuildError naming the requirement."""

    def freeze(self, folder: Path) -> str:
        """What is installed, `name==version` lines."""


def installer(
    name: str,
    *,
    cache: Path,
    configuration: Configuration,
    environ: Mapping[str, str],
    programs: Programs,
    tell: Tell,
) -> Installer:
    """The installer by name (`uv` or `pip`)."""
    kind = PipInstaller if name == "pip" else UvInstaller
    extra = _index_variables(configuration, environ)
    kept = {key: value for key, value in environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    return kind(cache, {**kept, **extra}, programs, tell)


class UvInstaller:
    """uv: fast, and its cache serves many environments by hard links."""

    name = "uv"

    def __init__(self, cache: Path, environ: Mapping[str, str], programs: Programs, tell: Tell) -> None:
        self._uv = find_uv()
        self._environ = {**environ, "UV_CACHE_DIR": str(cache / "uv"), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
        self._environ.setdefault("UV_NO_CONFIG", "1")
        self._programs = programs
        self._tell = tell

    def make(self, interpreter: Interpreter, folder: Path) -> None:
        """`uv venv`."""
        command: list[str | Path] = [self._uv, "venv", "--quiet", "--python", interpreter.path, "--", folder]
        _run(self._programs, command, self._environ, folder.parent, "the virtual environment could not be made")

    def install(self, folder: Path, requirements: Path, source: str, cwd: Path) -> None:
        """`uv pip install`."""
        command: list[str | Path] = [self._uv, "pip", "install", "--python", folder / "bin" / "python"]
        command += ["--requirement", requirements]
        what = f"the requirements ({source}) could not be installed by uv"
        _run(self._programs, command, self._environ, cwd, what, self._tell_short)

    def _tell_short(self, line: str) -> None:
        """uv's story without the list of every package, which stands on the task once it is installed."""
        if not line.startswith((" + ", " Downloaded", "Using Python")):
            self._tell(line)

    def freeze(self, folder: Path) -> str:
        """`uv pip freeze`."""
        command: list[str | Path] = [self._uv, "pip", "freeze", "--quiet", "--python", folder / "bin" / "python"]
        return self._programs.run(command, environ=self._environ, errors_apart=True).output.strip()


class PipInstaller:
    """virtualenv and pip, as clearml-agent's default."""

    name = "pip"

    def __init__(self, cache: Path, environ: Mapping[str, str], programs: Programs, tell: Tell) -> None:
        self._environ = {**environ, "PIP_CACHE_DIR": str(cache / "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self._environ.setdefault("PIP_NO_INPUT", "1")
        self._programs = programs
        self._tell = tell

    def make(self, interpreter: Interpreter, folder: Path) -> None:
        """`virtualenv`, with the pip that it brings."""
        command: list[str | Path] = [sys.executable, "-m", "virtualenv", "--quiet", "--no-download"]
        command += ["--python", interpreter.path, "--", folder]
        _run(self._programs, command, self._environ, folder.parent, "the virtual environment could not be made")

    def install(self, folder: Path, requirements: Path, source: str, cwd: Path) -> None:
        """`pip install`."""
        command: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--requirement", requirements]
        what = f"the requirements ({source}) could not be installed by pip"
        _run(self._programs, command, self._environ, cwd, what, self._tell)

    def freeze(self, folder: Path) -> str:
        """`pip freeze`."""
        command: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "freeze"]
        return self._programs.run(command, environ=self._environ, errors_apart=True).output.strip()


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


def _run(
    programs: Programs,
    command: Sequence[str | Path],
    environ: Mapping[str, str],
    cwd: Path,
    what: str,
    tell: Tell | None = None,
) -> None:
    try:
        programs.run(command, environ=environ, cwd=cwd, seconds=_INSTALL_SECONDS, tell=tell)
    except CommandFailed as failed:
        raise EnvironmentBuildError(
            f"{what}: {_summary(failed)}",
            hint="is the name and version right, and does the index (UV_DEFAULT_INDEX, PIP_INDEX_URL) have it?",
            last_lines=failed.last_lines,
        ) from failed


def _summary(failed: CommandFailed) -> str:
    """The sentence that says why, out of an installer's many lines."""
    lines = [_DECORATION.sub("", line).strip() for line in failed.last_lines]
    start = next(
        (n for n, line in enumerate(lines) if line.startswith(("ERROR", "error", "No solution", "Because"))), 0
    )
    chosen = [line for line in lines[start : start + 6] if line and not line.startswith("[notice]")]
    return " ".join(chosen)[:400] or str(failed)


def _index_variables(configuration: Configuration, environ: Mapping[str, str]) -> dict[str, str]:
    """agent.package_manager.extra_index_url of clearml.conf, for uv and pip alike."""
    extra = configuration.get("agent.package_manager.extra_index_url") or []
    urls = " ".join([extra] if isinstance(extra, str) else [str(url) for url in extra])
    found: dict[str, str] = {}
    if urls:
        found["PIP_EXTRA_INDEX_URL"] = f"{environ.get('PIP_EXTRA_INDEX_URL', '')} {urls}".strip()
        found["UV_EXTRA_INDEX_URL"] = f"{environ.get('UV_EXTRA_INDEX_URL', '')} {urls}".strip()
    for pip, uv in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("UV_DEFAULT_INDEX", "PIP_INDEX_URL")):
        if environ.get(pip) and not environ.get(uv):
            found[uv] = environ[pip]
    return {name: value for name, value in found.items() if value and os.fsencode(value)}
