"""The task's setup_shell_script: run before everything else, in the pod's own work folder.

It is the task's own code, as its entry point is. It runs under bash where the image has it, else sh, and stops at
nothing by itself (as under clearml-agent); its exit code decides. What it exports stays with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from bootstrap.commands import CommandFailed, Programs
from bootstrap.errors import SetupScriptError
from bootstrap.prepared import Tell


def run(script: str, *, work: Path, environ: Mapping[str, str], programs: Programs, tell: Tell) -> None:
    """Run the script, its output in the console. Raises SetupScriptError or Cancelled."""
    shell = shutil.which("bash") or shutil.which("sh")
    if not shell:
        raise SetupScriptError("the task has a setup script, and the image has no shell", hint="use an image with sh")
    work.mkdir(parents=True, exist_ok=True)
    file = work / "setup.sh"
    file.write_text(script, encoding="utf-8", errors="surrogateescape")
    tell("running the task's setup script")
    try:
        programs.run([shell, file], cwd=work, environ=environ, tell=tell)
    except CommandFailed as failed:
        raise SetupScriptError(
            f"the task's setup script ended with exit code {failed.code}",
            hint="see its last lines; the script stands in the task's container section",
            last_lines=failed.last_lines,
        ) from failed
