"""From an entry point to a command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bootstrap.entry_point import resolve
from bootstrap.errors import EntryPointError
from bootstrap.prepared import Checkout, TaskEnvironment
from clearml_api.models import Script
from tests import support

FILES = {"app.py": "print('one')\n", "pkg/__init__.py": "", "pkg/mod.py": "x = 1\n", "data.txt": "a\nb\nc\n"}


def environment() -> TaskEnvironment:
    return TaskEnvironment(Path(sys.executable))


@pytest.mark.parametrize(
    ("entry", "folder", "argv"),
    [
        ("app.py --x 'a b'", ".", ("-u", "app.py", "--x", "a b")),
        ("mod.py", "pkg", ("-u", "mod.py")),
        ("-m pkg.mod --flag", "", ("-m", "pkg.mod", "--flag")),
        ("-c 'print(1)'", ".", ("-c", "print(1)")),
        ("app.py $(touch /tmp/evil)", ".", ("-u", "app.py", "$(touch", "/tmp/evil)")),
    ],
)
def test_entry_points(tmp_path, entry, folder, argv) -> None:
    support.repository(tmp_path / "repo", FILES)
    script = Script(repository="r", entry_point=entry, working_dir=folder)
    launch = resolve(script, Checkout(tmp_path / "repo"), environment(), environ={})
    assert launch.argv == (sys.executable, *argv)
    assert launch.cwd == (tmp_path / "repo" / folder).resolve()
    assert str(tmp_path / "repo") in launch.environ["PYTHONPATH"].split(":")


def test_shell_scripts_run_under_their_shell(tmp_path) -> None:
    (tmp_path / "run.sh").write_text("echo hi\n")
    for script in (Script(entry_point="run.sh a"), Script(entry_point="run.sh a", binary="/bin/bash")):
        launch = resolve(script, Checkout(tmp_path), environment(), environ={})
        assert Path(launch.argv[0]).name == "bash"
        assert launch.argv[1:] == ("run.sh", "a")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(entry_point="ap.py", repository="the-repo"), r"'ap\.py' is not in the-repo at .*did you mean app\.py"),
        (Script(entry_point="mod.py", repository="r"), r"there is pkg/mod\.py: set the working folder"),
        (Script(entry_point="app.py", working_dir="../.."), "outside the repository"),
        (Script(entry_point="app.py", working_dir="link"), "outside the repository"),
        (Script(entry_point="app.py", working_dir="nowhere"), "'nowhere' is not in"),
        (Script(entry_point=""), "names no entry point"),
        (Script(entry_point="app.py 'x"), "cannot be read"),
        (Script(entry_point="-m"), "names nothing after -m"),
    ],
)
def test_entry_points_that_are_not_there(tmp_path, script, words) -> None:
    support.repository(tmp_path / "repo", FILES)
    (tmp_path / "repo" / "link").symlink_to("/etc")
    with pytest.raises(EntryPointError, match=f"(?s){words}"):
        resolve(script, Checkout(tmp_path / "repo", "c" * 40), environment(), environ={})
