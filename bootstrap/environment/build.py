"""From what the task asks for to the environment that runs it.

Warm: hash the text, look up what it led to, check the entry's seal, write a dozen small files. Cold: build an entry
(venv, install, read what is there), publish it under the hash of what was installed, then the same. Requirements that
are all pinned never ask an index again; others once in a while, and the entry serves on when the index is away.
Without a cache the entry lies in the pod's work folder and serves this task alone.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bootstrap.commands import Programs
from bootstrap.environment import index, interpreter, options, requirements, thin
from bootstrap.environment.interpreter import Interpreter
from bootstrap.environment.options import Options
from bootstrap.environment.seal import Entry, key_of
from bootstrap.environment.store import Resolution, Store
from bootstrap.errors import EnvironmentBuildError
from bootstrap.extra_packages import needed
from bootstrap.prepared import Checkout, TaskEnvironment, Tell
from clearml_api.configuration import Configuration
from clearml_api.models import Script

if TYPE_CHECKING:
    from bootstrap.environment.fill import Fill

_FORMAT = "2"
"""Changes when the layout of entries does: old ones are then not found."""
_RESOLVE_AFTER_SECONDS = 24 * 3600.0
_ASK_AGAIN_SECONDS = 900.0
"""After an index that could not be asked, the next task that tries."""


@dataclass(frozen=True)
class Place:
    """Where an environment may be kept."""

    work: Path
    cache: Path | None = None
    resolve_after_seconds: float = _RESOLVE_AFTER_SECONDS
    max_bytes: int | None = None
    max_seconds: float | None = None


def prepare(
    script: Script,
    *,
    checkout: Callable[[], Checkout],
    place: Place,
    configuration: Configuration,
    environ: Mapping[str, str],
    package_manager: str,
    programs: Programs,
    tell: Tell,
) -> TaskEnvironment:
    """The environment of a task. Raises EnvironmentBuildError, what `checkout` raises, or Cancelled."""
    kept_in = place.cache or place.work / "cache"

    def choose() -> Interpreter:
        return interpreter.choose(script, configuration, environ, cache=kept_in, programs=programs, tell=tell)

    if given := _given(environ, choose, tell):
        return TaskEnvironment(given)
    environ = {**index.of_pip_conf(environ), **environ}
    asked = options.read(configuration, environ, package_manager)
    wanted = requirements.collect(script, checkout, tell, asked, needed(script, environ))
    if wanted.lock == "conda" or (asked.conda and wanted.folder and not wanted.text):
        from bootstrap.environment import conda

        return conda.prepare(wanted, place.work, kept_in, environ, programs, tell)
    chosen = choose()
    ground = (_FORMAT, chosen.mark, platform.machine(), asked.key, index.key(environ), _driver(asked, environ))
    request = key_of(*ground, wanted.key)

    def fill(cache: Path) -> Fill:
        from bootstrap.environment.fill import Fill

        return Fill(asked, chosen, wanted, ground, cache, environ, configuration, place.work, programs, tell)

    entry, resolution, cached = _entry(request, fill, place, tell)
    folder = place.work / "venv"
    try:
        python = thin.make(folder, entry)
    except OSError as error:
        raise EnvironmentBuildError(f"the task's environment could not be made in {folder}: {error}") from error
    if resolution.local:
        fill(kept_in).add_own_code(folder, resolution.local)
    frozen = "\n".join([entry.installed, *(line.replace("{root}", ".") for line in resolution.local)]).strip()
    return TaskEnvironment(python, thin.environ(folder, environ), index.clean(frozen), cached, entry.path.name)


def _given(environ: Mapping[str, str], choose: Callable[[], Interpreter], tell: Tell) -> Path | None:
    """The image's own Python as it is, when the operator or the task says that nothing shall be installed."""
    python = environ.get("CLEARML_AGENT_SKIP_PIP_VENV_INSTALL", "").strip()
    skip = environ.get("CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "").strip().lower() in options.TRUE
    if not python and not skip:
        return None
    if python and python.lower() not in options.TRUE:
        if not os.access(python, os.X_OK):
            raise EnvironmentBuildError(f"CLEARML_AGENT_SKIP_PIP_VENV_INSTALL names {python}, which cannot be executed")
        tell(f"nothing is installed: {python} runs the task (CLEARML_AGENT_SKIP_PIP_VENV_INSTALL)")
        return Path(python)
    chosen = choose()
    tell(f"nothing is installed: {chosen.path} runs the task")
    return chosen.path


def _driver(asked: Options, environ: Mapping[str, str]) -> str:
    """With torch by driver: what the wheels depend on. One failed look where there is no GPU."""
    if asked.torch != "auto":
        return ""
    if given := environ.get("UV_CUDA_DRIVER_VERSION"):
        return given
    try:
        return Path("/sys/module/nvidia/version").read_text().partition(".")[0]
    except OSError:
        return ""


def _entry(request: str, fill: Callable[[Path], Fill], place: Place, tell: Tell) -> tuple[Entry, Resolution, bool]:
    """From the shared store; from one in the work folder where there is none or it cannot be written."""
    own = place.work / "cache"
    if place.cache is not None:
        try:
            return _from_store(request, fill, Store(place.cache / "environments"), place.cache, place, tell)
        except OSError as error:
            tell(f"the cache {place.cache} cannot be written ({error.strerror or error}): building for this pod alone")
    try:
        return _from_store(request, fill, Store(own / "environments"), own, place, tell)
    except OSError as error:
        raise EnvironmentBuildError(
            f"the work folder cannot hold the environment: {error.strerror or error}", hint="is the disk full?"
        ) from error


def _from_store(
    request: str, fill: Callable[[Path], Fill], store: Store, cache: Path, place: Place, tell: Tell
) -> tuple[Entry, Resolution, bool]:
    known, entry = _known(store, request)
    if known and entry and (known.pinned or known.age_seconds() <= place.resolve_after_seconds):
        _show(known, tell)
        return entry, known, True
    with store.locked(request):
        known, entry = _known(store, request)
        if known and entry:
            if not known.pinned and known.age_seconds() > place.resolve_after_seconds:
                known = _asked_again(known, entry, fill(cache), place, tell)
            if known is not None:
                _remember(store, request, known)
                _show(known, tell)
                return entry, known, True
        with store.building() as made:
            built = fill(cache).build(made)
            entry = store.publish(built.key, built.entry)
        store.remember(request, built.resolution)
        _show(built.resolution, tell)
    _prune(store, place, tell)
    return entry, built.resolution, False


def _known(store: Store, request: str) -> tuple[Resolution | None, Entry | None]:
    known = store.resolution(request)
    return known, store.find(known.entry) if known else None


def _asked_again(known: Resolution, entry: Entry, tool: Fill, place: Place, tell: Tell) -> Resolution | None:
    """A resolution that is old: confirmed by the index, or kept because the index is away; None when there is
    something newer."""
    now = time.time()
    try:
        if not tool.unchanged(entry):
            tell("the requirements that are not pinned lead to newer packages now: building anew")
            return None
        resolved_at = now
    except (EnvironmentBuildError, OSError) as error:
        hours = known.age_seconds() / 3600
        tell(f"the index could not be asked for newer packages; those of {hours:.1f} h ago serve on: {error}")
        resolved_at = now - place.resolve_after_seconds + min(_ASK_AGAIN_SECONDS, place.resolve_after_seconds)
    return Resolution(known.entry, known.pinned, resolved_at, known.shown, known.local)


def _remember(store: Store, request: str, known: Resolution) -> None:
    try:
        store.remember(request, known)
    except OSError:
        return  # a read-only cache serves all the same


def _show(known: Resolution, tell: Tell) -> None:
    if not known.pinned and known.shown:
        tell(f"not pinned, resolved {_ago(known.age_seconds())}: {known.shown}")


def _ago(seconds: float) -> str:
    return (
        "just now"
        if seconds < 60
        else f"{seconds / 60:.0f} min ago"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h ago"
    )


def _prune(store: Store, place: Place, tell: Tell) -> None:
    if place.max_bytes is None and place.max_seconds is None:
        return
    from bootstrap.environment.care import Limits, prune

    try:
        prune(store, Limits(place.max_bytes, place.max_seconds), tell)
    except OSError as error:
        tell(f"the cache could not be pruned: {error}")
