"""The task's setup_shell_script: run before everything else, in the pod's own work folder.

It is the task's own code, as its entry point is. It runs under bash where the image has it, else sh, else a sh of
ours, and stops at nothing by itself (as under clearml-agent); its exit code decides. What it exports reaches everything
that comes after it, git, the installer and the task, as under ClearML's glue, where script and agent are one shell: so
a script may fetch a token and export CLEARML_AGENT_GIT_PASS, or set PIP_EXTRA_INDEX_URL. podstrap's own variables stay
as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bootstrap import lent
from bootstrap.commands import CommandFailed, Programs
from bootstrap.errors import SetupScriptError
from bootstrap.prepared import Tell
from protocol import environment as names

_WRAPPER = """podstrap_keep() { podstrap_code=$?; cat /proc/self/environ > "$PODSTRAP_EXPORTED"; exit $podstrap_code; }
trap podstrap_keep EXIT
. "$1"
podstrap_keep
"""
"""Sources the script and, however it ends, keeps what it exported: the environment of a child."""
_EXPORTED = "PODSTRAP_EXPORTED"
_OF_THE_SHELL = ("_", "PWD", "OLDPWD", "SHLVL", _EXPORTED)


def run(
    script: str, *, work: Path, environ: Mapping[str, str], programs: Programs, tell: Tell
) -> dict[str, str | None]:
    """Run the script, its output in the console; the variables that it changed, None for those it took away.

    Raises SetupScriptError or Cancelled.
    """
    shell = lent.shell(environ)
    if not shell:
        raise SetupScriptError("the task has a setup script, and the image has no shell", hint="use an image with sh")
    if lent.is_ours(shell):
        tell("the image has no shell: the task's setup script runs under podstrap's own (busybox)")
    work.mkdir(parents=True, exist_ok=True)
    file, exported = work / "setup.sh", work / "setup-exported"
    file.write_text(script.replace("\r\n", "\n"), encoding="utf-8", errors="surrogateescape")
    tell("running the task's setup script")
    try:
        programs.run(
            [shell, "-c", _WRAPPER, "setup.sh", file],
            cwd=work,
            environ={**environ, _EXPORTED: str(exported)},
            tell=tell,
        )
    except CommandFailed as failed:
        raise SetupScriptError(
            f"the task's setup script ended with exit code {failed.code}",
            hint="see its last lines; the script stands in the task's container section",
            last_lines=failed.last_lines,
        ) from failed
    return lent.taken_back(_changes(lent.to_helpers(environ), exported))


def _changes(before: Mapping[str, str], exported: Path) -> dict[str, str | None]:
    try:
        text = exported.read_bytes().decode("utf-8", "surrogateescape")
        exported.unlink()
    except OSError:  # a script that ends by `exec` leaves none
        return {}
    after = dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)
    changed: dict[str, str | None] = {name: value for name, value in after.items() if before.get(name) != value}
    changed.update(dict.fromkeys(name for name in before if name not in after))
    return {
        name: value
        for name, value in changed.items()
        if name not in _OF_THE_SHELL and not name.startswith((names.PREFIX, "BASH_FUNC_"))
    }
