"""The task's setup script: what it exports, and how it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bootstrap import setup_script
from bootstrap.commands import Programs
from bootstrap.errors import SetupScriptError


def run(script: str, work: Path, told: list[str] | None = None, path: str = "") -> dict[str, str | None]:
    environ = {"PATH": path or os.environ["PATH"], "OLD": "1", "GONE": "1"}
    tell = (told if told is not None else []).append
    return setup_script.run(script, work=work, environ=environ, programs=Programs(), tell=tell)


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("end", ["", "exit 0\n", "trap 'echo bye' EXIT\n", "set -eu\n"])
def test_what_it_exports_is_kept_however_it_ends(tmp_path, shell, end) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (shell, "cat"):
        (folder / name).symlink_to(str(shutil.which(name)))
    script = "export OLD=2 NEW='a\nb = c'\nunset GONE\nNOT=1\nexport PODSTRAP_TASK_ID=x\ncd /\n" + end
    assert run(script, tmp_path, path=str(folder)) == {"OLD": "2", "NEW": "a\nb = c", "GONE": None}


@pytest.mark.parametrize("script", ["echo preparing; exit 9", "set -e\necho preparing\n(exit 9)\necho never"])
def test_its_exit_code_decides(tmp_path, script) -> None:
    told: list[str] = []
    with pytest.raises(SetupScriptError, match="exit code 9") as caught:
        run(script, tmp_path, told)
    assert told[-1] == "preparing"
    assert caught.value.last_lines == ("preparing",)


def test_lines_that_ended_as_on_windows(tmp_path) -> None:
    assert run("export A=1\r\nexport B=2\r\n", tmp_path) == {"A": "1", "B": "2"}
