"""What the task wants installed, as text: which source, in ClearML's order. Little is parsed here: the text is the key.

1. a lock file of the repository, where the operator asks for one (package manager `uv` or `poetry`)
2. the task's own requirements (a text or a list of lines; the SDK writes comment lines around them), unless
   `force_repo_requirements_txt`; `force_original_requirements` takes what the user wrote before anything was frozen
3. every requirements.txt from the repository's root down to the script's folder (an emptied section of the task
   means these too, as under clearml-agent)
4. uv.lock, poetry.lock, pyproject.toml; environment.yml only where the image has conda or micromamba

`-r` and `-c` files of the checkout are read in, so that the text says it all.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bootstrap.environment.options import Options
from bootstrap.errors import EnvironmentBuildError
from bootstrap.extra_packages import not_named
from bootstrap.prepared import Checkout, Tell
from clearml_api.models import Script

LOCKS = {"uv": "uv.lock", "poetry": "poetry.lock"}
CONDA_FILES = ("environment.yml", "environment.yaml")
_INCLUDE = re.compile(
    r"^\s*(-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=-r)|(?<=-c))([^\s#;]+)\s*(?:#.*)?$", re.M
)
_LOCAL = re.compile(r"^\s*(?:(?:-e|--editable)(?:\s+|=)(?!(?:git|hg|svn|bzr)\+)|\.{1,2}(?:[/\[\s;]|$))", re.M)
_PLAIN_PATH = re.compile(r"^\s*[\w.-]+/[\w./-]*(?:\[[^\]]*\])?\s*(?:;.*)?$", re.M)
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements*.txt")
_DEEPEST = 10
_USUAL = Options()


@dataclass(frozen=True)
class Requirements:
    """What to install."""

    text: str
    source: str
    """`task`, the repository's file, or `none`."""
    folder: Path | None = None
    """The checkout, when a line or a lock file needs it."""
    constraints: str = ""
    lock: str = ""
    """`uv`, `poetry` or `pyproject`: the text is that file's, read when an environment is built; `conda`."""
    project: str = ""
    """A hash of what the task's own packages say that they need."""

    @property
    def key(self) -> str:
        """What the environment depends on."""
        return "\x00".join((self.text, self.constraints, self.lock, self.project))


def collect(
    script: Script,
    checkout: Callable[[], Checkout],
    tell: Tell,
    options: Options = _USUAL,
    extra: tuple[str, ...] = (),
) -> Requirements:
    """The requirements of a task with what it needs besides (`extra_packages`); waits for the checkout only when they
    need it. Raises EnvironmentBuildError for a line that names a file which is not there, and `checkout`'s errors."""
    return _with(extra, _collect(script, checkout, tell, options))


def _collect(script: Script, checkout: Callable[[], Checkout], tell: Tell, options: Options) -> Requirements:
    if options.lock and script.repository and (locked := _locked(script, checkout(), options)):
        return locked
    key = "org_pip" if options.force_original and script.requirements.get("org_pip") else "pip"
    own = None if options.force_repository else _own(script.requirements, key)
    if own is not None and (own.strip() or not script.repository):
        if options.force_original and key == "org_pip":
            tell("force_original_requirements: what the user asked for, not what was installed last")
        return _from_text(own, "task", checkout)
    conda = None if options.force_repository else _own(script.requirements, "conda")
    if conda and conda.strip() and own is None:
        return Requirements(conda, "the task's conda requirements", lock="conda")
    if not script.repository:
        return Requirements("", "none")
    if options.force_repository:
        tell("force_repo_requirements_txt: the repository's requirements, not the task's")
    return _from_repository(script, checkout())


def _own(requirements: Mapping[str, Any], key: str) -> str | None:
    """A section of the task's requirements; None when there is none."""
    value = requirements.get(key)
    if value is None:
        return None
    return "\n".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


def _from_text(text: str, source: str, checkout: Callable[[], Checkout]) -> Requirements:
    text = _without_comments(text)
    if not needs_checkout(text):
        return Requirements(text, source)
    root = checkout().root.resolve()
    whole, constraints = _included(text, root, root)
    return Requirements(whole, source, root, constraints, project=_project(whole, root))


def _without_comments(text: str) -> str:
    """Without comment and blank lines, of which the SDK writes many: they change nothing, so they are no key."""
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def needs_checkout(text: str) -> bool:
    """Whether a line names a file of the repository."""
    return bool(_INCLUDE.search(text) or _LOCAL.search(text) or _PLAIN_PATH.search(text))


def _from_repository(script: Script, code: Checkout) -> Requirements:
    root = code.root.resolve()
    folders = _down_to_the_script(root, script)
    files = [folder / "requirements.txt" for folder in folders if (folder / "requirements.txt").is_file()]
    if files:
        text = "\n".join(_text_of(file) for file in files)
        name = " and ".join(str(file.relative_to(root)) for file in files)
        found = _from_text(text, name, lambda: code)
        return replace(found, folder=found.folder and files[-1].parent) if len(files) == 1 else found
    for folder in reversed(folders):
        if locked := _lock_in(folder, "uv", root) or _lock_in(folder, "poetry", root):
            return locked
        if (folder / "pyproject.toml").is_file():
            text = _text_of(folder / "pyproject.toml")
            name = str((folder / "pyproject.toml").relative_to(root))
            return Requirements(text, name, folder, lock="pyproject")
        for name in CONDA_FILES:
            if (folder / name).is_file():
                return Requirements(_text_of(folder / name), name, folder, lock="conda")
    return Requirements("", "none")


def _locked(script: Script, code: Checkout, options: Options) -> Requirements | None:
    root = code.root.resolve()
    folder = _down_to_the_script(root, script)[-1] if options.lock_in_working_dir else root
    return _lock_in(folder, options.lock, root)


def _lock_in(folder: Path, kind: str, root: Path) -> Requirements | None:
    file, project = folder / LOCKS[kind], folder / "pyproject.toml"
    if not file.is_file() or not project.is_file():
        return None
    return Requirements(_text_of(file) + _text_of(project), str(file.relative_to(root)), folder, lock=kind)


def _down_to_the_script(root: Path, script: Script) -> list[Path]:
    """The folders from the root to the one that the script lies in, as far as they are inside."""
    words = script.entry_point.split()
    file = words[0] if words and not words[0].startswith("-") else ""
    deepest = Path(os.path.normpath(root / (script.working_dir or ".") / Path(file).parent))
    if root != deepest and root not in deepest.parents:
        return [root]
    below = [folder for folder in (deepest, *deepest.parents) if folder == root or root in folder.parents]
    return [folder for folder in reversed(below) if folder.is_dir()]


def _included(text: str, base: Path, root: Path, depth: int = 0) -> tuple[str, str]:
    """The text with its `-r` files in place, and the text of its `-c` files."""
    constraints: list[str] = []

    def read(found: re.Match[str]) -> str:
        kind, name = found[1], found[2]
        if "://" in name:
            return found[0]
        file = next((place for place in (base / name, root / name) if place.is_file()), None)
        if file is None or root not in file.resolve().parents:
            raise EnvironmentBuildError(
                f"the requirements say {found[0].strip()!r}, and the repository has no such file",
                hint="is it committed, and named from the repository's root?",
            )
        if depth >= _DEEPEST:
            raise EnvironmentBuildError(f"requirements include each other: {found[0].strip()!r}")
        inner, more = _included(_text_of(file), file.parent, root, depth + 1)
        if kind in ("-c", "--constraint"):
            constraints.append("\n".join(part for part in (inner, more) if part))
            return ""
        constraints.extend([more] if more else [])
        return inner

    return _without_comments(_INCLUDE.sub(read, text)), _without_comments("\n".join(constraints))


def _project(text: str, root: Path) -> str:
    """A hash of the files in which the packages that lie in the repository say what they need."""
    if not (_LOCAL.search(text) or _PLAIN_PATH.search(text)):
        return ""
    from bootstrap.environment.lines import absolute, logical, parse

    digest = hashlib.sha256()
    for line in map(parse, logical(text)):
        folder = Path(absolute(line, root).local) if line.local else None
        if folder is not None and folder.is_file() and root in folder.resolve().parents:
            digest.update(folder.read_bytes())
        if folder is None or not folder.is_dir():
            continue
        for pattern in _PROJECT_FILES:
            for file in sorted(folder.glob(pattern)):
                digest.update(file.name.encode() + b"\x00" + file.read_bytes())
    return digest.hexdigest()


def _with(extra: tuple[str, ...], found: Requirements) -> Requirements:
    if found.lock:
        return replace(found, project="\n".join(extra)) if extra else found
    missing = not_named(extra, found.text)
    return replace(found, text="\n".join((*missing, found.text)).strip()) if missing else found


def _text_of(file: Path) -> str:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise EnvironmentBuildError(f"{file.name} cannot be read: {error.strerror}") from error
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return raw.decode(encoding, "replace")
