"""From what the task asks for to the environment that runs it.

Warm: hash the text, look into the store, write a dozen small files. Cold: build an entry (venv, install, list what
is there), publish it, then the same. Without a cache the entry lies in the pod's work folder and serves this task.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bootstrap.commands import Programs
from bootstrap.environment import interpreter, requirements, thin
from bootstrap.environment.interpreter import Interpreter
from bootstrap.environment.requirements import Requirements
from bootstrap.environment.store import Entry, Store, key_of, mark_of
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Checkout, TaskEnvironment, Tell
from clearml_api.configuration import Configuration
from clearml_api.models import Script

if TYPE_CHECKING:
    from bootstrap.environment.installers import Installer

_FORMAT = "1"
"""Changes when the layout of entries does: old ones are then not found."""
_INDEX_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")
_VERSION = re.compile(r"^version(?:_info)?\s*=\s*((\d+\.\d+)[\w.+]*)", re.M)
_TRUE = ("1", "true", "yes", "on")


def prepare(
    script: Script,
    *,
    checkout: Callable[[], Checkout],
    work: Path,
    cache: Path | None,
    configuration: Configuration,
    environ: Mapping[str, str],
    package_manager: str,
    programs: Programs,
    tell: Tell,
) -> TaskEnvironment:
    """The environment of a task. Raises EnvironmentBuildError, what `checkout` raises, or Cancelled."""
    if given := _given(script, environ, tell):
        return TaskEnvironment(given)
    chosen = interpreter.choose(script, environ, tell)
    wanted = requirements.collect(script, checkout, tell)
    manager = _manager(package_manager, configuration)
    indexes = [environ.get(name, "") for name in _INDEX_VARIABLES]
    indexes.append(str(configuration.get("agent.package_manager.extra_index_url") or ""))
    key = key_of(_FORMAT, chosen.mark, platform.platform(), manager, wanted.key, *indexes)

    def build(folder: Path, using: Path) -> Entry:
        from bootstrap.environment.installers import installer

        tool = installer(
            manager, cache=using, configuration=configuration, environ=environ, programs=programs, tell=tell
        )
        return _build(tool, chosen, wanted, folder, tell)

    entry, cached = _entry(key, build, cache, work, tell)
    folder = work / "venv"
    try:
        python = thin.make(folder, entry)
    except OSError as error:
        raise EnvironmentBuildError(f"the task's environment could not be made in {folder}: {error}") from error
    return TaskEnvironment(python, thin.environ(folder, environ), entry.installed, cached, key)


def _given(script: Script, environ: Mapping[str, str], tell: Tell) -> Path | None:
    """The image's own Python as it is, when the operator or the task says that nothing shall be installed."""
    python = environ.get("CLEARML_AGENT_SKIP_PIP_VENV_INSTALL", "").strip()
    skip = environ.get("CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "").strip().lower() in _TRUE
    if not python and not skip:
        return None
    if python and python.lower() not in _TRUE:
        if not os.access(python, os.X_OK):
            raise EnvironmentBuildError(f"CLEARML_AGENT_SKIP_PIP_VENV_INSTALL names {python}, which cannot be executed")
        tell(f"nothing is installed: {python} runs the task (CLEARML_AGENT_SKIP_PIP_VENV_INSTALL)")
        return Path(python)
    chosen = interpreter.choose(script, environ, tell)
    tell(f"nothing is installed: {chosen.path} runs the task")
    return chosen.path


def _manager(package_manager: str, configuration: Configuration) -> str:
    """pip when the queue or clearml.conf asks for it; uv otherwise (conda and poetry: see docs)."""
    configured = str(configuration.get("agent.package_manager.type") or "")
    return "pip" if package_manager == "pip" or configured == "pip" else "uv"


def _entry(
    key: str, build: Callable[[Path, Path], Entry], cache: Path | None, work: Path, tell: Tell
) -> tuple[Entry, bool]:
    """From the shared store; from one in the work folder where there is none or it cannot be written."""
    own = work / "cache"
    if cache is not None:
        try:
            return Store(cache / "environments").get(key, lambda folder: build(folder, cache))
        except OSError as error:
            tell(f"the cache {cache} cannot be written ({error.strerror or error}): building for this pod alone")
    try:
        return Store(own / "environments").get(key, lambda folder: build(folder, own))
    except OSError as error:
        raise EnvironmentBuildError(
            f"the work folder cannot hold the environment: {error.strerror or error}", hint="is the disk full?"
        ) from error


def _build(tool: Installer, chosen: Interpreter, wanted: Requirements, folder: Path, tell: Tell) -> Entry:
    venv = folder / "venv"
    count = len(wanted.text.splitlines())
    if count:
        tell(f"building an environment: {count} requirements ({wanted.source}), {tool.name}")
    tool.make(chosen, venv)
    if wanted.text:
        file = folder / "requirements.txt"
        file.write_text(wanted.text + "\n")
        tool.install(venv, file, wanted.source, wanted.folder or folder)
        installed = tool.freeze(venv)
    else:
        installed = ""
    found = _VERSION.search((venv / "pyvenv.cfg").read_text())
    if not found:
        raise EnvironmentBuildError(f"{venv / 'pyvenv.cfg'} does not tell its Python's version")
    packages = Path("venv", "lib", f"python{found[2]}", "site-packages")
    return Entry(
        path=folder,
        python=found[2],
        version=found[1],
        base=str((venv / "bin" / "python").resolve()),  # what is behind a wrapper on PATH (pyenv's shims)
        site_packages=str(packages),
        installed=installed,
        mark=mark_of(folder / packages),
    )
