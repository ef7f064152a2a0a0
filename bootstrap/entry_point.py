"""From the task's entry point to a process: `file args`, `-m module args`, `-c code`, a notebook, a shell script.

Split as a shell splits words, run without one. As under clearml-agent 3.0.3: variables (`$NAME`) are replaced in
`-m …` alone, by what the task's process sees; everything after a shell's `-c` is one command; a file whose whole name
is the entry point wins over a file with arguments. CLEARML_AGENT_FORCE_EXEC_SCRIPT (`folder:entry point`) replaces
working folder and entry point. PYTHONPATH is what it was, then the working folder, the entry point's own folder, the
repository's root when `agent.force_git_root_python_path` says so, then CLEARML_AGENT_EXTRA_PYTHON_PATH.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bootstrap import lent
from bootstrap.errors import EntryPointError
from bootstrap.prepared import Checkout, Launch, TaskEnvironment
from bootstrap.stored_script import SHELLS, binary_name
from clearml_api.configuration import Configuration, variable
from clearml_api.models import Script

FORCE_EXEC_SCRIPT = "CLEARML_AGENT_FORCE_EXEC_SCRIPT"
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


def forced(script: Script, environ: Mapping[str, str]) -> Script:
    """The script with the operator's own entry point, where CLEARML_AGENT_FORCE_EXEC_SCRIPT names one."""
    wanted = variable(environ, FORCE_EXEC_SCRIPT)
    if not wanted:
        return script
    folder, colon, entry = wanted.partition(":")
    return replace(script, entry_point=entry if colon else folder, working_dir=folder if colon else ".")


def resolve(
    script: Script,
    checkout: Checkout,
    environment: TaskEnvironment,
    *,
    environ: Mapping[str, str],
    configuration: Configuration | None = None,
) -> Launch:
    """What to execute, and where; `environ` is what the task's process sees.

    Raises EntryPointError that names what is missing and what is near.
    """
    cwd = working_folder(script, checkout)
    words = _words(script, checkout, cwd, environ)
    argv = _command(script, words, checkout, cwd, environment, environ)
    root = configuration is not None and configuration.flag("agent.force_git_root_python_path")
    file = cwd / words[0]
    folders = [cwd, *([file.parent] if file.is_file() else []), *([checkout.root.resolve()] if root else [])]
    return Launch(tuple(argv), cwd, _variables(folders, environ))


def working_folder(script: Script, checkout: Checkout) -> Path:
    """The task's working folder; inside the repository, links followed. Raises EntryPointError."""
    root = checkout.root.resolve()
    if checkout.script or checkout.given:
        return root
    wanted = script.working_dir.partition(":")[0] if script.entry_point.startswith("-") else script.working_dir
    folder = (root / (wanted or ".")).resolve()
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


def file_of(script: Script, checkout: Checkout) -> Path | None:
    """The entry point's file, where it has one. Raises EntryPointError."""
    cwd = working_folder(script, checkout)
    words = _words(script, checkout, cwd, {})
    return cwd / words[0] if (cwd / words[0]).is_file() else None


def _words(script: Script, checkout: Checkout, cwd: Path, environ: Mapping[str, str]) -> list[str]:
    entry = script.entry_point.strip()
    if entry and (cwd / entry).is_file():
        return [entry]
    shell = binary_name(script) in SHELLS
    first, _, rest = entry.partition(" ")
    if shell and first == "-c" and rest.strip():
        return [first, _one_command(rest.strip())]
    if first == "-m" and not shell:
        entry = _VARIABLE.sub(lambda match: environ.get(match[1] or match[2], match[0]), entry)
    try:
        words = shlex.split(entry)
    except ValueError as error:
        raise EntryPointError(f"the entry point {script.entry_point!r} cannot be read: {error}") from None
    if not words and checkout.script:
        words = [checkout.script.name]
    if not words:
        raise EntryPointError("the task names no entry point", hint="set it on the task's Execution tab")
    return words


def _one_command(text: str) -> str:
    """What a shell's `-c` runs: the text as it is, without quotes that are around the whole of it."""
    try:
        words = shlex.split(text)
    except ValueError:
        return text  # the shell will tell what is wrong with it
    return words[0] if len(words) == 1 and text[0] in "'\"" and text[-1] == text[0] else text


def _command(
    script: Script,
    words: list[str],
    checkout: Checkout,
    cwd: Path,
    environment: TaskEnvironment,
    environ: Mapping[str, str],
) -> list[str]:
    shell = _shell(script, words[0], environ)
    python = [str(environment.python), "-u"]
    if words[0] in ("-m", "-c"):
        if len(words) < 2:
            raise EntryPointError(f"the entry point {script.entry_point!r} names nothing after {words[0]}")
        return [shell, *words] if shell else [*python, *words]
    file = cwd / words[0]
    if checkout.script and not file.is_file() and checkout.script.name == Path(words[0]).name:
        words = [checkout.script.name, *words[1:]]
        file = checkout.script
    if not file.is_file():
        raise EntryPointError(
            f"the entry point {words[0]!r} is not in {_code(script, checkout)}, folder {script.working_dir or '.'!r}",
            hint=_near(words[0], cwd, checkout.root),
        )
    if shell:
        return [shell, *words]
    if is_notebook(file):
        return [*python, str(Path(__file__).with_name("run_notebook.py")), *words]
    return [*python, *words]


def is_notebook(file: Path) -> bool:
    """Whether a file is a notebook by name and content: the SDK may store a notebook's code under its name."""
    if file.suffix.lower() != ".ipynb":
        return False
    with file.open("rb") as opened:
        return opened.read(4096).lstrip().startswith(b"{")


def _shell(script: Script, first: str, environ: Mapping[str, str]) -> str:
    """The shell that runs the entry point; empty when Python does."""
    name = binary_name(script)
    if name not in SHELLS and not first.endswith(".sh"):
        return ""
    wanted = script.binary.split()[0] if name in SHELLS else "bash"
    found = lent.shell(environ, wanted)
    if not found:
        raise EntryPointError(f"the entry point needs {wanted}, and the image has no shell")
    return found


def _variables(folders: list[Path], environ: Mapping[str, str]) -> dict[str, str]:
    extra = variable(environ, "CLEARML_AGENT_EXTRA_PYTHON_PATH").split(os.pathsep)
    before = environ.get("PYTHONPATH", "").split(os.pathsep)
    found = dict.fromkeys(folder for folder in (*before, *map(str, folders), *extra) if folder)
    return {"PYTHONPATH": os.pathsep.join(found)}


def _code(script: Script, checkout: Checkout) -> str:
    if checkout.given:
        return str(checkout.root)
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
