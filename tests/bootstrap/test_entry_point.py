"""From an entry point to a command."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap import extra_packages, stored_script, task_init
from bootstrap.entry_point import forced, resolve
from bootstrap.errors import EntryPointError
from bootstrap.prepared import Checkout, Launch, TaskEnvironment
from clearml_api.configuration import Configuration
from clearml_api.models import Script
from tests import support

FILES = {"app.py": "print('one')\n", "pkg/__init__.py": "", "pkg/mod.py": "x = 1\n", "a file with spaces.py": ""}


def environment() -> TaskEnvironment:
    return TaskEnvironment(Path(sys.executable))


@pytest.mark.parametrize(
    ("entry", "folder", "argv"),
    [
        ("app.py --x 'a b'", ".", ("-u", "app.py", "--x", "a b")),
        ("mod.py", "pkg", ("-u", "mod.py")),
        ("-m pkg.mod --flag", "", ("-u", "-m", "pkg.mod", "--flag")),
        ("-c 'print(1)'", ".", ("-u", "-c", "print(1)")),
        ("a file with spaces.py", ".", ("-u", "a file with spaces.py")),
        ("app.py $(touch /tmp/evil)", ".", ("-u", "app.py", "$(touch", "/tmp/evil)")),
    ],
)
def test_entry_points(tmp_path, entry, folder, argv) -> None:
    support.repository(tmp_path / "repo", FILES)
    script = Script(repository="r", entry_point=entry, working_dir=folder)
    launch = resolve(script, Checkout(tmp_path / "repo"), environment(), environ={})
    assert launch.argv == (sys.executable, *argv)
    assert launch.cwd == (tmp_path / "repo" / folder).resolve()
    assert launch.environ["PYTHONPATH"].split(":")[0] == str(launch.cwd)


def launched(script: Script, root: Path, agent: dict | None = None, **environ: str) -> Launch:
    conf = Configuration(tree={"agent": agent or {}})
    return resolve(forced(script, environ), Checkout(root), environment(), environ=environ, configuration=conf)


def test_variables_are_replaced_in_modules_alone_by_what_the_task_sees(tmp_path) -> None:
    (tmp_path / "app.py").touch()
    known = {"WHERE": "a 'b c'", "N": "3"}
    launch = launched(Script(entry_point="-m app --out $WHERE -n${N} $NONE"), tmp_path, **known)
    assert launch.argv[2:] == ("-m", "app", "--out", "a", "b c", "-n3", "$NONE")
    assert launched(Script(entry_point="app.py $N"), tmp_path, **known).argv[2:] == ("app.py", "$N")


@pytest.mark.parametrize(
    ("entry", "command"),
    [
        ("-c echo hi there; ls $HOME", "echo hi there; ls $HOME"),
        ("-c 'echo \"hi\"'", 'echo "hi"'),
        ("-c 'a' 'b'", "'a' 'b'"),
        ("-c echo it's", "echo it's"),
    ],
)
def test_everything_after_a_shells_c_is_one_command(tmp_path, entry, command) -> None:
    argv = launched(Script(entry_point=entry, binary="bash"), tmp_path).argv
    assert (Path(argv[0]).name, *argv[1:]) == ("bash", "-c", command)


def test_the_operator_may_force_entry_point_folder_and_python_path(tmp_path) -> None:
    (tmp_path / "pkg").mkdir()
    for name in ("app.py", "pkg/mod.py"):
        (tmp_path / name).touch()
    script = Script(entry_point="none.py", working_dir="none")
    before = {"PYTHONPATH": "/before", "CLEARML_AGENT_EXTRA_PYTHON_PATH": "/x:/y"}
    launch = launched(script, tmp_path, CLEARML_AGENT_FORCE_EXEC_SCRIPT="pkg:mod.py --a", **before)
    assert (launch.cwd, launch.argv[2:]) == (tmp_path / "pkg", ("mod.py", "--a"))
    assert launch.environ["PYTHONPATH"] == f"/before:{tmp_path / 'pkg'}:/x:/y"
    launch = launched(script, tmp_path, CLEARML_AGENT_FORCE_EXEC_SCRIPT="pkg/mod.py")
    assert launch.environ["PYTHONPATH"] == f"{tmp_path}:{tmp_path / 'pkg'}"
    script = Script(entry_point="mod.py", working_dir="pkg")
    launch = launched(script, tmp_path, {"force_git_root_python_path": True})
    assert launch.environ["PYTHONPATH"] == f"{tmp_path / 'pkg'}:{tmp_path}"


def test_a_notebook_goes_to_its_runner_and_a_notebooks_code_to_python(tmp_path) -> None:
    (tmp_path / "real.ipynb").write_text('{"cells": []}')
    (tmp_path / "code.ipynb").write_text("print(1)\n")
    argv = launched(Script(entry_point="real.ipynb 1"), tmp_path).argv
    assert Path(argv[2]).name == "run_notebook.py"
    assert argv[3:] == ("real.ipynb", "1")
    assert launched(Script(entry_point="code.ipynb"), tmp_path).argv[2:] == ("code.ipynb",)


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (Script(entry_point=""), "untitled.py"),
        (Script(entry_point="", binary="/bin/bash"), "untitled.sh"),
        (Script(entry_point="a/b.py --x"), "b.py"),
        (Script(entry_point="-m app", working_dir=".:app.py"), "app.py"),
        (Script(entry_point="-m app"), "untitled.py"),
        (Script(entry_point="-c ls", binary="bash"), "untitled.sh"),
        (Script(entry_point="n.ipynb"), "n.ipynb"),
    ],
)
def test_a_stored_script_is_named_as_under_clearml_agent(tmp_path, script, name) -> None:
    checkout = stored_script.write(replace(script, diff="text\n"), tmp_path)
    assert checkout.script == tmp_path / name
    assert resolve(script, checkout, environment(), environ={}).cwd == tmp_path


FUTURE = '"""Doc."""\nfrom __future__ import annotations\nimport os\n'
INIT = 'from clearml import Task\n(__name__ != "__main__") or Task.init()\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import os\n", INIT + "import os\n"),
        (FUTURE, FUTURE.replace("import os\n", INIT + "import os\n")),
        ("#!/usr/bin/python\n# coding: utf-8\nx = 1\n", "#!/usr/bin/python\n# coding: utf-8\n" + INIT + "x = 1\n"),
        (INIT + "x = 1\n", INIT + "x = 1\n"),
        (INIT + FUTURE, FUTURE.replace("import os\n", INIT + "import os\n")),
        ("no python (\n", "no python (\n"),
    ],
)
def test_task_init_is_forced_into_a_script_below_its_future(tmp_path, before, after) -> None:
    file = tmp_path / "app.py"
    file.write_text(before)
    task_init.below_future(file)
    task_init.add(file, lambda line: None)
    assert file.read_text() == after


def test_what_a_notebook_and_a_forced_init_need_is_added_once() -> None:
    environ = {"CLEARML_AGENT_FORCE_TASK_INIT": "1"}
    extra = extra_packages.needed(Script(entry_point="n.ipynb --a"), environ)
    assert extra == ("clearml", "nbconvert", "ipython")
    assert extra_packages.not_named(extra, "IPython==8.0\nclearml[s3]\nclearml-session") == ("nbconvert",)
    assert extra_packages.not_named(extra, "clearml-session") == extra
    assert extra_packages.needed(Script(entry_point="a.py n.ipynb2"), {}) == ()


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
