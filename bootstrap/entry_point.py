"""From the task's entry point to a process: `file args`, `-m module args`, `-c code`, a shell script.

Split as a shell splits words, run without one. The working folder lies inside the repository; the repository's root
and the working folder go onto PYTHONPATH, as clearml-agent does.
"""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from bootstrap.errors import EntryPointError
from bootstrap.prepared import Checkout, Launch, TaskEnvironment
from clearml_api.models import Script

_SHELLS = ("bash", "sh", "zsh", "dash")


def resolve(script: Script, checkout: Checkout, environment: TaskEnvironment, *, environ: Mapping[str, str]) -> Launch:
    """What to execute, and where. Raises EntryPointError that names what is missing and what is near."""
    cwd = working_folder(script, checkout)
    try:
        words = shlex.split(os.path.expandvars(script.entry_point) if "$" in script.entry_point else script.entry_point)
    except ValueError as error:
        raise EntryPointError(f"the entry point {script.entry_point!r} cannot be read: {error}") from None
    if not words and checkout.script:
        words = [checkout.script.name]
    if not words:
        raise EntryPointError("the task names no entry point", hint="set it on the task's Execution tab")
    argv = _command(script, words, checkout, cwd, environment)
    return Launch(tuple(argv), cwd, _variables(checkout, cwd, environ))


def working_folder(script: Script, checkout: Checkout) -> Path:
    """The task's working folder; inside the repository, links followed. Raises EntryPointError."""
    root = checkout.root.resolve()
    if checkout.script:
        return root
    folder = (root / (script.working_dir or ".")).resolve()
    if folder != root and root not in folder.parents:
        raise EntryPointError(
            f"the working folder {script.working_dir!r} lies outside the repository", hint="use a folder inside it"
        )
    if not folder.is_dir():
        raise EntryPointError(
            f"the working folder {script.working_dir!r} is not in {_code(script, checkout)}",
            hint="is the name right, and is the folder committed?",
        )
    return folder


def _command(
    script: Script, words: list[str], checkout: Checkout, cwd: Path, environment: TaskEnvironment
) -> list[str]:
    shell = _shell(script, words[0])
    if words[0] in ("-m", "-c"):
        if len(words) < 2:
            raise EntryPointError(f"the entry point {script.entry_point!r} names nothing after {words[0]}")
        return [shell or str(environment.python), *words]
    file = cwd / words[0]
    if not file.is_file():
        raise EntryPointError(
            f"the entry point {words[0]!r} is not in {_code(script, checkout)}, folder {script.working_dir or '.'!r}",
            hint=_near(words[0], cwd, checkout.root),
        )
    if shell:
        return [shell, words[0], *words[1:]]
    return [str(environment.python), "-u", words[0], *words[1:]]


def _shell(script: Script, first: str) -> str:
    """The shell that runs the entry point; empty when Python does."""
    name = Path(script.binary.split()[0]).name if script.binary.split() else ""
    if name not in _SHELLS and not first.endswith(".sh"):
        return ""
    wanted = script.binary if name in _SHELLS else "bash"
    found = shutil.which(wanted) or shutil.which("bash") or shutil.which("sh")
    if not found:
        raise EntryPointError(f"the entry point needs {wanted}, and the image has no shell")
    return found


def _variables(checkout: Checkout, cwd: Path, environ: Mapping[str, str]) -> dict[str, str]:
    extra = environ.get("CLEARML_AGENT_EXTRA_PYTHON_PATH", "")
    folders = [str(cwd), *([str(checkout.root.resolve())] if checkout.root.resolve() != cwd else []), *extra.split(":")]
    folders += environ.get("PYTHONPATH", "").split(":")
    return {"PYTHONPATH": ":".join(dict.fromkeys(folder for folder in folders if folder))}


def _code(script: Script, checkout: Checkout) -> str:
    if not script.repository:
        return "the task's stored code"
    return f"{script.repository} at {checkout.commit[:12]}"


def _near(name: str, cwd: Path, root: Path) -> str:
    here = sorted(file.name for file in cwd.iterdir() if file.is_file())
    near = difflib.get_close_matches(Path(name).name, here, n=3)
    elsewhere = [
        str(file.relative_to(root)) for file in list(root.rglob(Path(name).name))[:3] if ".git" not in file.parts
    ]
    if elsewhere:
        return f"there is {', '.join(elsewhere)}: set the working folder or the path"
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"the folder has {', '.join(here[:8]) or 'no files'}; was the file committed and pushed?"
