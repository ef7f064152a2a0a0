"""What fills a new environment: uv, or virtualenv with pip where the operator or the task asks for it.

Both satisfy one protocol and pass the same tests. Index addresses go by variables (`index`), never as arguments, since
they may carry credentials. Trouble of the network is tried again a bounded number of times, here and by the tools
themselves; then the error names the package and the index.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bootstrap.commands import CommandFailed, Programs
from bootstrap.environment import explain, index
from bootstrap.environment.flags import uv_flags
from bootstrap.environment.interpreter import Interpreter
from bootstrap.environment.options import Options
from bootstrap.environment.tools import WHEELS, bare_venv, downloads, find_uv
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Tell

_PYTHON_NAME = re.compile(r"python(3\.\d+)")
_INSTALL_SECONDS = 3600.0
RETRY_PAUSES = (2.0, 8.0)
"""Seconds before each further try after trouble of the network; the tools try several times themselves."""
_DISK_FULL = re.compile(r"no space left on device|os error 28|errno 28|disk quota exceeded", re.I)


@dataclass(frozen=True)
class Wanted:
    """One installation."""

    files: tuple[Path, ...]
    source: str
    """Where the requirements come from, for messages."""
    cwd: Path
    constraints: tuple[Path, ...] = ()
    dependencies: bool = True
    torch: str = ""
    """uv's torch backend."""
    offline: bool = False
    """Only from what is on disk: the volume's wheels, the tool's own cache."""


class Installer(Protocol):
    """One way to build an environment."""

    name: str

    def make(self, interpreter: Interpreter, folder: Path, *, system: bool = False) -> None:
        """An empty venv; with `system` the image's own packages count. Raises EnvironmentBuildError."""

    def install(self, folder: Path, wanted: Wanted) -> None:
        """Install requirements files. Raises EnvironmentBuildError naming the requirement, DiskFull."""

    def unchanged(self, folder: Path, wanted: Wanted) -> bool:
        """Whether the newest that the index has for these requirements is what is installed. Raises
        EnvironmentBuildError when it cannot be told."""

    def uninstall(self, folder: Path, names: Sequence[str]) -> None:
        """Take packages out again, their dependencies stay."""


class DiskFull(OSError):
    """There was no room for the environment."""


class _Tool:
    """What both share: how a command is run, tried again and explained."""

    name = ""

    def __init__(
        self,
        cache: Path,
        options: Options,
        environ: Mapping[str, str],
        programs: Programs,
        tell: Tell,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._environ = {**index.variables(options, environ), **self._own(cache)}
        for kept in ("UV_NO_CONFIG", "VIRTUALENV_OVERRIDE_APP_DATA"):
            if environ.get(kept):
                self._environ[kept] = environ[kept]
        if environ.get("UV_CONFIG_FILE"):
            self._environ.pop("UV_NO_CONFIG", None)  # the operator's own; one in the task's folder stays unread
        wheels = cache / WHEELS
        if wheels.is_dir():
            for name, between in (("UV_FIND_LINKS", ","), ("PIP_FIND_LINKS", " ")):
                self._environ[name] = f"{self._environ.get(name, '')}{between}{wheels}".lstrip(between)
        self._programs = programs
        self._tell = tell
        self._pause = pause

    def _own(self, cache: Path) -> dict[str, str]:
        raise NotImplementedError

    def _unsaid(self, command: Sequence[str | Path]) -> str:
        """What the tool knows of the network and does not say."""
        del command
        return ""

    def _run(
        self,
        command: Sequence[str | Path],
        cwd: Path,
        what: str,
        tell: Tell | None = None,
        pauses: Sequence[float] | None = None,
    ) -> str:
        for pause in (*(RETRY_PAUSES if pauses is None else pauses), None):
            try:
                run = self._programs.run(command, environ=self._environ, cwd=cwd, seconds=_INSTALL_SECONDS, tell=tell)
                return run.output + self._unsaid(command)
            except CommandFailed as failed:
                if _DISK_FULL.search(failed.output):
                    raise DiskFull(28, "No space left on device") from failed
                words = failed.output + self._unsaid(command)
                if pause is None or not explain.is_trouble(words):
                    raise explain.error(what, failed, words) from failed
                where = explain.place(words)
                self._tell(f"trouble with the network ({where or 'see above'}): trying again in {pause:g} s")
                self._pause(pause)
        raise AssertionError("the last try returns or raises")


class UvInstaller(_Tool):
    """uv: fast, and its cache serves many environments by hard links."""

    name = "uv"

    def _own(self, cache: Path) -> dict[str, str]:
        return {
            "UV_CACHE_DIR": str(downloads(cache, "uv")),
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }

    def make(self, interpreter: Interpreter, folder: Path, *, system: bool = False) -> None:
        """What `uv venv` makes, without starting it where the interpreter's own name tells its version."""
        del system  # pip's to see
        base = interpreter.path.resolve()
        if _PYTHON_NAME.fullmatch(base.name) and os.access(base, os.X_OK):
            bare_venv(folder, base)
            return
        command: list[str | Path] = [find_uv(), "venv", "--quiet", "--no-project", "--python", interpreter.path]
        self._run([*command, "--", folder], folder.parent, "the virtual environment could not be made", pauses=())

    def install(self, folder: Path, wanted: Wanted) -> None:
        """`uv pip install`."""
        what = f"the requirements ({wanted.source}) could not be installed by uv"
        try:
            self._run(self._command(folder, wanted), wanted.cwd, what, self._tell_short, _pauses(wanted))
        except EnvironmentBuildError as error:
            if not wanted.torch or not error.trouble:
                raise
            self._tell(f"the index for torch ({wanted.torch}) cannot be reached: torch comes from the usual index")
            plain = replace(wanted, torch="")
            self._run(self._command(folder, plain), plain.cwd, what, self._tell_short)

    def unchanged(self, folder: Path, wanted: Wanted) -> bool:
        """`uv pip install --upgrade --dry-run`: would it change anything?"""
        command = [*self._command(folder, wanted), "--upgrade", "--dry-run"]
        return "Would make no changes" in self._run(command, wanted.cwd, "the index could not be asked", pauses=())

    def uninstall(self, folder: Path, names: Sequence[str]) -> None:
        """`uv pip uninstall`."""
        command: list[str | Path] = [find_uv(), "pip", "uninstall", "--python", folder / "bin" / "python", "--", *names]
        self._run(command, folder.parent, "the task's own packages could not be set apart", pauses=())

    def _command(self, folder: Path, wanted: Wanted) -> list[str | Path]:
        command: list[str | Path] = [find_uv(), "pip", "install", "--python", folder / "bin" / "python"]
        for file in wanted.files:
            command += ["--requirement", file]
        for file in wanted.constraints:
            command += ["--constraint", file]
        command += [] if wanted.dependencies else ["--no-deps"]
        command += ["--torch-backend", wanted.torch] if wanted.torch else []
        command += ["--offline"] if wanted.offline else []
        return [*command, *(uv_flags(self._options.extra_flags) or ())]

    def _tell_short(self, line: str) -> None:
        """uv's story without the list of every package, which stands on the task once it is installed."""
        if not line.startswith((" + ", " ~ ", " Downloaded", "Using Python")):
            self._tell(line)


class PipInstaller(_Tool):
    """virtualenv and pip, as clearml-agent's default."""

    name = "pip"

    def _own(self, cache: Path) -> dict[str, str]:
        return {
            "PIP_CACHE_DIR": str(downloads(cache, "pip")),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_PROGRESS_BAR": "off",
            "VIRTUALENV_OVERRIDE_APP_DATA": str(downloads(cache, "virtualenv")),
        }

    def make(self, interpreter: Interpreter, folder: Path, *, system: bool = False) -> None:
        """`virtualenv`, with the pip that it brings."""
        command: list[str | Path] = [sys.executable, "-m", "virtualenv", "--quiet", "--no-download"]
        command += ["--system-site-packages"] if system else []
        command += ["--python", interpreter.path, "--", folder]
        self._run(command, folder.parent, "the virtual environment could not be made", pauses=())

    def install(self, folder: Path, wanted: Wanted) -> None:
        """`pip install`."""
        what = f"the requirements ({wanted.source}) could not be installed by pip"
        self._run(self._command(folder, wanted), wanted.cwd, what, self._tell)

    def unchanged(self, folder: Path, wanted: Wanted) -> bool:
        """`pip install --upgrade --dry-run`: would it install anything?"""
        command = [*self._command(folder, wanted), "--upgrade", "--upgrade-strategy", "eager", "--dry-run"]
        output = self._run(command, wanted.cwd, "the index could not be asked", pauses=())
        if explain.is_trouble(output):  # pip is content with what is installed
            raise EnvironmentBuildError(f"the network failed ({explain.place(output)})", trouble=True)
        return "Would install" not in output

    def uninstall(self, folder: Path, names: Sequence[str]) -> None:
        """`pip uninstall`."""
        command: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "uninstall", "--yes", "--quiet", *names]
        self._run(command, folder.parent, "the task's own packages could not be set apart", pauses=())

    def _command(self, folder: Path, wanted: Wanted) -> list[str | Path]:
        command: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install"]
        for file in wanted.files:
            command += ["--requirement", file]
        for file in wanted.constraints:
            command += ["--constraint", file]
        command += [] if wanted.dependencies else ["--no-deps"]
        command += ["--no-index"] if wanted.offline else []
        return [*command, *self._options.extra_flags, "--log", wanted.files[0].with_suffix(".log")]

    def _unsaid(self, command: Sequence[str | Path]) -> str:
        """pip keeps to itself why it could not read an index, and says that nothing fits; its log tells."""
        if command[-2:-1] != ["--log"]:
            return ""
        log = Path(command[-1])
        with contextlib.suppress(OSError):
            # Without its time: the milliseconds would be read as an answer (`,401 `).
            lines = re.findall(r"Could not fetch URL.*", log.read_text("utf-8", "replace"))
            log.unlink()
            return "".join(f"\n{line}" for line in lines if "404 Client Error" not in line)
        return ""


def installer(
    options: Options, *, cache: Path, environ: Mapping[str, str], programs: Programs, tell: Tell
) -> Installer:
    """The installer that the options ask for. pip also where uv cannot do what is asked: it does not see the image's
    packages (system_site_packages) and does not know all of pip's flags."""
    kind: type[UvInstaller] | type[PipInstaller] = PipInstaller if options.manager == "pip" else UvInstaller
    if kind is UvInstaller and options.system_site_packages:
        tell("system_site_packages: pip installs, since uv does not count the image's packages")
        kind = PipInstaller
    elif kind is UvInstaller and uv_flags(options.extra_flags) is None:
        tell(f"pip installs, since uv does not know all of {' '.join(options.extra_flags)}")
        kind = PipInstaller
    return kind(cache, options, environ, programs, tell)


def _pauses(wanted: Wanted) -> Sequence[float] | None:
    """With torch's own index there is another way to try before the same once more."""
    return () if wanted.torch else None
