"""A task without a repository: its `diff` is the whole script, shell script or notebook.

The file's name is the entry point's, as under clearml-agent (`LiteralScriptManager`): for `-m` and `-c` it is
`untitled.py` (`untitled.sh` for a shell's `-c`), or what a working folder `folder:name` says after its colon.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from bootstrap.errors import RepositoryError
from bootstrap.prepared import Checkout
from clearml_api.models import Script

SHELLS = ("bash", "sh", "zsh", "dash")


def write(script: Script, folder: Path) -> Checkout:
    """Write it into a folder of its own. Raises RepositoryError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not script.diff:
            return Checkout(folder)
        file = folder / Path(name_of(script)).name
        _write(file, script.diff)
    except OSError as error:
        raise RepositoryError(
            f"the task's stored script could not be written: {error.strerror or error}", hint="is the disk full?"
        ) from error
    return Checkout(folder, script=file)


def write_into(script: Script, root: Path) -> None:
    """Write it into a repository's working folder unless the repository has the file. Raises RepositoryError."""
    file = Path(os.path.normpath(root / (script.working_dir.partition(":")[0] or ".") / name_of(script)))
    if root not in file.parents or root.resolve() not in (file.parent.resolve(), *file.parent.resolve().parents):
        raise RepositoryError(f"the stored script {name_of(script)!r} would lie outside the repository")
    if file.exists():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, script.diff)
    except OSError as error:
        raise RepositoryError(f"the task's stored script could not be written: {error.strerror or error}") from error


def name_of(script: Script) -> str:
    """The file's name; may have folders."""
    shell = binary_name(script) in SHELLS
    entry = script.entry_point.strip()
    if entry.startswith("-"):
        named = script.working_dir.partition(":")[2]
        return named or ("untitled.sh" if shell and entry.startswith("-c") else "untitled.py")
    try:
        first = (shlex.split(entry) or [""])[0]
    except ValueError:
        first = entry.split()[0]
    return first or ("untitled.sh" if shell else "untitled.py")


def binary_name(script: Script) -> str:
    """The program that the task names, without folder and arguments."""
    words = script.binary.split()
    return Path(words[0]).name if words else ""


def _write(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(text.encode("utf-8", "surrogateescape"))
