"""Building one environment: the recipe, the steps, what came of it. Imported only when something is to be built.

The task's own code (`-e .`, a package of the repository) is installed with the rest, so that what it needs is there,
then taken out of the entry again: a shared entry must not point into one pod's checkout. It goes, without its
dependencies, into each task's private environment.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap.commands import Programs
from bootstrap.environment import care, index, installed, recipe
from bootstrap.environment.installers import Installer, Wanted, installer
from bootstrap.environment.interpreter import Interpreter
from bootstrap.environment.options import Options, normalised
from bootstrap.environment.recipe import Recipe
from bootstrap.environment.requirements import Requirements
from bootstrap.environment.seal import Entry, key_of, mark_of
from bootstrap.environment.store import Resolution
from bootstrap.environment.tools import WHEELS
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Tell
from clearml_api.configuration import Configuration

_VERSION = re.compile(r"^version(?:_info)?\s*=\s*((\d+\.\d+)[\w.+]*)", re.M)
_GIT_ADDRESS = re.compile(r"(?:git\+|\bgit = \"|type = \"git\"\nurl = \")((?:https?|ssh|git|file)://[^\s;#\"']+)")
"""In requirements, in uv.lock and in poetry.lock."""
_SHOWN = 12
"""Packages named in the console's line about a resolution."""


@dataclass(frozen=True)
class Built:
    """A finished environment, not yet published."""

    entry: Entry
    key: str
    resolution: Resolution


class Fill:
    """One environment to be built or looked after."""

    def __init__(
        self,
        options: Options,
        interpreter: Interpreter,
        wanted: Requirements,
        ground: tuple[str, ...],
        cache: Path,
        environ: Mapping[str, str],
        configuration: Configuration,
        work: Path,
        programs: Programs,
        tell: Tell,
    ) -> None:
        self._options = options
        self._interpreter = interpreter
        self._wanted = wanted
        self._ground = ground
        self._work = work
        self._tell = tell
        self._programs = programs
        self._environ = with_git(environ, wanted.text, configuration, work)
        self._cache = cache

    def build(self, folder: Path) -> Built:
        """Build in `folder`. Raises EnvironmentBuildError, OSError (no room), Cancelled."""
        tool = self._tool()
        venv = folder / "venv"
        began = time.monotonic()
        tool.make(self._interpreter, venv, system=self._options.system_site_packages)
        python, version = _version(venv)
        packages = Path("venv", "lib", f"python{python}", "site-packages")
        system = self._system_packages() if self._options.system_site_packages else ()
        seen = folder / packages / "podstrap_system.pth"  # an image's virtual environment is no base of another
        if system:
            seen.write_text("".join(f"import site; site.addsitedir({place!r})\n" for place in system))
        made = self._recipe(self._whole_version(version))
        self._tell_plan(made, tool)
        for number, step in enumerate(made.steps):
            self._install(tool, venv, folder, number, step, made.torch)
        seen.unlink(missing_ok=True)
        if made.local:
            self._set_own_code_apart(tool, venv, folder / packages)
        freeze = self._below_root(installed.freeze(folder / packages, made.names))
        key = key_of(*self._ground, "\n".join(sorted(freeze.splitlines())))
        entry = Entry(
            path=folder,
            python=python,
            version=version,
            base=str((venv / "bin" / "python").resolve()),  # what is behind a wrapper on PATH (pyenv's shims)
            site_packages=str(packages),
            installed=freeze,
            mark=mark_of(folder / packages),
            system=system,
            size_bytes=care.size_of(folder),
        )
        if made.steps:
            seconds = time.monotonic() - began
            self._tell(
                f"built in {seconds:.1f} s: {len(freeze.splitlines())} packages, {entry.size_bytes / 2**20:.0f} MiB"
            )
        shown = _shown(made, folder / packages)
        relative = tuple(line.replace(str(self._wanted.folder), "{root}") for line in made.local)
        return Built(entry, key, Resolution(key, made.pinned, time.time(), shown, relative))

    def unchanged(self, entry: Entry) -> bool:
        """Whether the index has nothing newer for the requirements than the entry. Raises EnvironmentBuildError."""
        made = self._recipe(self._whole_version(entry.version))
        tool = self._tool()
        folder = self._work / "asked"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [line for step in made.steps if not step.optional for line in step.lines]
        code = set(made.local)
        file = folder / "requirements.txt"
        file.write_text("\n".join(line for line in dict.fromkeys(lines) if line not in code) + "\n")
        return tool.unchanged(entry.path / "venv", self._of(folder, (file,), made.torch))

    def add_own_code(self, venv: Path, local: tuple[str, ...]) -> None:
        """Install the task's own packages into its private environment. Raises EnvironmentBuildError."""
        root = str(self._wanted.folder)
        lines = [line.replace("{root}", root) for line in local]
        file = self._work / "own-code.txt"
        file.write_text("\n".join(lines) + "\n")
        what = Wanted((file,), "the task's own code", self._wanted.folder or self._work, dependencies=False)
        tool = self._tool()
        try:
            tool.install(venv, what)
        except OSError as error:
            raise EnvironmentBuildError(f"the task's own code could not be installed: {error.strerror}") from error

    def _tool(self) -> Installer:
        return installer(
            self._options, cache=self._cache, environ=self._environ, programs=self._programs, tell=self._tell
        )

    def _recipe(self, python: str) -> Recipe:
        wanted = self._wanted
        if not wanted.lock:
            return recipe.write(wanted.text, self._options, root=wanted.folder)
        from bootstrap.environment import locks

        folder = wanted.folder or self._work
        own: tuple[str, ...] = ()
        if wanted.lock == "pyproject":
            text = locks.read_pyproject(wanted.text)
        elif wanted.lock == "uv":
            text = locks.export_uv(folder, self._options.lock_flags, self._environ, self._programs)
        else:
            project = (folder / "pyproject.toml").read_text("utf-8", "replace")
            text = locks.read_poetry((folder / "poetry.lock").read_text("utf-8", "replace"), project, python)
            own = (f"-e {folder}",) if locks.is_poetry_package(project) else ()
        locked = wanted.lock != "pyproject"
        if wanted.project:  # what a notebook or a forced Task.init needs besides
            text = f"{text}\n{wanted.project}"
        return recipe.write(text, self._options, root=folder, locked=locked, own=own)

    def _whole_version(self, version: str) -> str:
        """`3.11.7`, which poetry's markers go by; asked only for them."""
        if self._wanted.lock != "poetry" or version.count(".") > 1:
            return version
        code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
        return self._programs.run([self._interpreter.path, "-I", "-c", code], environ=self._environ).output.strip()

    def _tell_plan(self, made: Recipe, tool: Installer) -> None:
        for note in made.notes:
            self._tell(note)
        for key in self._options.left_out:
            self._tell(f"left out of clearml.conf: {key}")
        count = len(dict.fromkeys(line for step in made.steps for line in step.lines))
        if count:
            self._tell(f"building an environment: {count} requirements ({self._wanted.source}), {tool.name}")

    def _install(self, tool: Installer, venv: Path, folder: Path, number: int, step: recipe.Step, torch: str) -> None:
        file = folder / (f"requirements-{number}.txt" if number else "requirements.txt")
        file.write_text("\n".join(step.lines) + "\n")
        wanted = self._of(folder, (file,), torch)
        try:
            try:
                tool.install(venv, wanted)
            except EnvironmentBuildError as error:
                if not error.trouble or not (self._cache / WHEELS).is_dir():
                    raise
                self._tell(f"no index can be reached: trying the wheels in {self._cache / WHEELS}")
                tool.install(venv, replace(wanted, torch="", offline=True))
        except EnvironmentBuildError as error:
            if not step.optional:
                raise
            self._tell(f"left out {step.lines[-1]}, which is optional here: {error}")

    def _of(self, folder: Path, files: tuple[Path, ...], torch: str) -> Wanted:
        constraints: tuple[Path, ...] = ()
        if self._wanted.constraints:
            (folder / "constraints.txt").write_text(self._wanted.constraints + "\n")
            constraints = (folder / "constraints.txt",)
        return Wanted(files, self._wanted.source, self._wanted.folder or folder, constraints, torch=torch)

    def _set_own_code_apart(self, tool: Installer, venv: Path, packages: Path) -> None:
        root = self._wanted.folder
        if root is None:
            return
        below = root.resolve().as_uri()
        names = [one.name for one in installed.distributions(packages) if one.folder and one.address.startswith(below)]
        if names:
            tool.uninstall(venv, names)

    def _below_root(self, freeze: str) -> str:
        """An archive of the repository by its path there: the pod's own path means nothing tomorrow."""
        if self._wanted.folder is None:
            return freeze
        start = f"{self._wanted.folder.resolve().as_uri()}/"
        lines = [line.partition(start) for line in freeze.splitlines()]
        return "\n".join(f"./{after.partition('#')[0]}" if found else before for before, found, after in lines)

    def _system_packages(self) -> tuple[str, ...]:
        """The folders of the image's own packages, a virtual environment's among them."""
        code = "import site, sys; print('\\n'.join(p for p in sys.path if p.endswith('-packages')))"
        output = self._programs.run([self._interpreter.path, "-I", "-c", code], environ=self._environ).output
        return tuple(line for line in output.splitlines() if line.startswith("/"))


def _version(venv: Path) -> tuple[str, str]:
    """`3.11` and `3.11.7` of a new venv."""
    found = _VERSION.search((venv / "pyvenv.cfg").read_text())
    if not found:
        raise EnvironmentBuildError(f"{venv / 'pyvenv.cfg'} does not tell its Python's version")
    return found[2], found[1]


def _shown(made: Recipe, packages: Path) -> str:
    if not made.loose:
        return ""
    versions = {normalised(one.name): one.line for one in installed.distributions(packages)}
    named = [versions[name] for name in made.loose if name in versions]
    more = len(named) - _SHOWN
    return index.without_credentials(", ".join(named[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def with_git(environ: Mapping[str, str], text: str, configuration: Configuration, work: Path) -> Mapping[str, str]:
    """For requirements that git fetches: git as the repository's checkout uses it, with who we are at each host and
    the way there that clearml.conf asks for."""
    addresses = {"/".join(address.split("/")[:3]): address for address in _GIT_ADDRESS.findall(text)}
    if not addresses:
        return environ
    from bootstrap import git
    from bootstrap.remote import remote

    for begin, address in addresses.items():
        where = remote(re.sub(r"(://[^/]*/[^@]*)@.*$", r"\1", address), configuration, environ)
        environ = git.access(where, configuration, environ, work).environ
        if where.told:  # the tool says the address as it is written
            environ = git.redirected(environ, f"{begin}/", "/".join(where.url.split("/")[:3]) + "/")
    return environ
