"""Every way a task can end: its status, a reason that names the cause, and the console that shows it."""

from __future__ import annotations

import re
import textwrap
import time

import pytest

from clearml_api import tasks
from tests import support


def test_stored_script_completes_and_its_console_is_whole(world) -> None:
    code = "import os\nfor n in range(200):\n    print('line', n)\nprint(os.environ['CLEARML_TASK_ID'])"
    task = world.run("completes", code)
    ended = support.ended(world.session, task, log=world.controller)
    assert ended.status == "completed"
    text = support.console(world.session, task)
    assert re.findall(r"^line (\d+)$", text, re.M) == [str(n) for n in range(200)]
    assert task in text


def test_repository_with_arguments_module_and_diff(world, tmp_path) -> None:
    files = {
        "pkg/__init__.py": "",
        "pkg/tool.py": "import sys\nprint('tool', sys.argv[1:])\n",
        "app.py": "print('old')\n",
    }
    commit = support.repository(tmp_path / "repo", files)
    where = {"repository": f"file://{tmp_path}/repo", "version_num": commit, "branch": "main"}
    (tmp_path / "repo" / "app.py").write_text("import sys\nprint('new', sys.argv[1:])\n")
    diff = support.git(tmp_path / "repo", "diff") + "\n"
    module = world.run("module", **where, entry_point="-m pkg.tool --rate 'a b'")
    patched = world.run("patched", **where, entry_point="app.py --epochs 3", diff=diff)
    assert support.ended(world.session, module, log=world.controller).status == "completed"
    assert support.ended(world.session, patched, log=world.controller).status == "completed"
    assert "tool ['--rate', 'a b']" in support.console(world.session, module)
    assert "new ['--epochs', '3']" in support.console(world.session, patched)


def test_setup_script_runs_before_everything(world, tmp_path) -> None:
    made = tmp_path / "made"
    code = f"print('setup left', open({str(made)!r}).read())"
    task = world.run("setup script", code, container={"setup_shell_script": f"#!/bin/bash\necho hello > {made}\n"})
    assert support.ended(world.session, task, log=world.controller).status == "completed"
    assert "setup left hello" in support.console(world.session, task)


def test_requirements_are_installed_and_written_back(world) -> None:
    code = "import six\nprint('six is', six.__version__)"
    task = world.run("requirements", code, requirements={"pip": "six==1.16.0"})
    ended = support.ended(world.session, task, log=world.controller)
    assert ended.status == "completed"
    assert "six is 1.16.0" in support.console(world.session, task)
    support.until(lambda: "six==1.16.0" in str(support.task(world.session, task).script.requirements.get("pip")), 20)


REPOSITORY = {"repository": "file://{repo}", "branch": "main", "version_num": "{commit}", "entry_point": "app.py"}
FAILURES = {
    "setup script fails": (
        {"code": "print('never')", "container": {"setup_shell_script": "echo preparing\nexit 9"}},
        r"setup script.*exit code 9",
        r"preparing",
    ),
    "exit 3": ({"code": "import sys\nprint('about to leave')\nsys.exit(3)"}, r"exit code 3", r"about to leave"),
    "exit 75": ({"code": "import sys\nsys.exit(75)"}, r"exit code 75", r""),
    "signal": ({"code": "import os\nos.kill(os.getpid(), 11)"}, r"(?i)signal 11.*SIGSEGV|SIGSEGV", r""),
    "exception": ({"code": "print(1 / 0)"}, r"exit code 1", r"ZeroDivisionError: division by zero"),
    "entry point missing": ({**REPOSITORY, "entry_point": "nowhere.py"}, r"nowhere\.py", r"nowhere\.py"),
    "repository missing": (
        {**REPOSITORY, "repository": "file://{tmp}/none.git"},
        r"none\.git",
        r"(?i)does not (exist|appear)|not found|no such",
    ),
    "commit missing": ({**REPOSITORY, "version_num": "1" * 40}, r"1{12,40}", r"1{12,40}"),
    "requirement missing": (
        {"code": "print(1)", "requirements": {"pip": "podstrap-no-such-package==9.9"}},
        r"podstrap-no-such-package",
        r"podstrap-no-such-package",
    ),
    "diff does not apply": (
        {**REPOSITORY, "diff": "--- a/app.py\n+++ b/app.py\n@@ -1,1 +1,1 @@\n-something else\n+x\n"},
        r"app\.py",
        r"app\.py",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_names_its_cause(world, tmp_path, name) -> None:
    script, reason, shown = FAILURES[name]
    commit = support.repository(tmp_path / "repo", {"app.py": "print('here')\n"})
    fill = {"{repo}": f"{tmp_path}/repo", "{tmp}": str(tmp_path), "{commit}": commit}
    filled = {}
    for key, value in script.items():
        for mark, text in fill.items():
            value = value.replace(mark, text) if isinstance(value, str) else value
        filled[key] = value
    task = world.run(name, filled.pop("code", ""), **filled)
    ended = support.ended(world.session, task, log=world.controller)
    text = support.console(world.session, task)
    assert ended.status == "failed", text
    said = f"{ended.status_reason} {ended.status_message}"
    assert re.search(reason, said), said
    assert re.search(shown, text), text


ENDLESS = textwrap.dedent(
    """
    import pathlib, time
    folder = pathlib.Path({folder!r})
    (folder / f"started-{{time.monotonic_ns()}}").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
    print("went on")
    """
)


def test_reset_and_enqueued_again_while_running_runs_once_more_and_never_twice_at_once(world, tmp_path) -> None:
    code = textwrap.dedent(
        f"""
        import fcntl, pathlib, time
        folder = pathlib.Path({str(tmp_path)!r})
        with (folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                (folder / "twice").touch()
                raise
            (folder / f"started-{{time.monotonic_ns()}}").touch()
            while not (folder / "go").exists():
                time.sleep(0.02)
        print("went on")
        """
    )
    task = world.run("reset while running", code)
    support.until(lambda: len(list(tmp_path.glob("started-*"))) == 1, describe=world.controller.text)
    world.session.call("tasks.reset", {"task": task})
    tasks.enqueue(world.session, task, world.queue)
    support.until(lambda: len(list(tmp_path.glob("started-*"))) == 2, describe=world.controller.text)
    (tmp_path / "go").touch()
    assert support.ended(world.session, task, log=world.controller).status == "completed"
    assert not (tmp_path / "twice").exists()
    assert support.console(world.session, task).count("went on") == 1


def test_task_deleted_while_running_is_killed(world, tmp_path) -> None:
    task = world.run("deleted", ENDLESS.format(folder=str(tmp_path)) + f"\n# {time.monotonic_ns()}")
    support.until(lambda: list(tmp_path.glob("started-*")), describe=world.controller.text)
    world.session.call("tasks.delete", {"task": task, "force": True})
    support.until(lambda: not _processes_with(str(task)), 20, lambda: str(_processes_with(str(task))))


def test_aborted_task_ends_stopped(world, tmp_path) -> None:
    task = world.run("aborted", ENDLESS.format(folder=str(tmp_path)))
    support.until(lambda: list(tmp_path.glob("started-*")), describe=world.controller.text)
    world.session.call("tasks.stop", {"task": task})
    assert support.ended(world.session, task, 30, log=world.controller).status == "stopped"
    support.until(lambda: not _processes_with(str(task)), 20, lambda: str(_processes_with(str(task))))


def test_two_controllers_on_one_queue_run_each_task_once(world, tmp_path) -> None:
    name = f"shared-{time.monotonic_ns()}"
    queue = support.queue_id(world.session, name)
    settings = f"pollSeconds: 0.2\nqueues:\n  {name}: {{}}\n"
    two = [support.controller(world.environ, settings, tmp_path / str(n)) for n in (1, 2)]
    for one in two:
        one.start()
    try:
        code = f"import pathlib, time\npathlib.Path({str(tmp_path)!r}, f'ran-%s-{{time.monotonic_ns()}}').touch()\n"
        ids = []
        for n in range(6):
            ids.append(support.create_task(world.session, f"shared {n}", code.replace("%s", str(n))))
            tasks.enqueue(world.session, ids[-1], queue)
        for one in ids:
            assert support.ended(world.session, one, log=two[0]).status == "completed"
        assert sorted(file.name.split("-")[1] for file in tmp_path.glob("ran-*")) == [str(n) for n in range(6)]
    finally:
        for one in two:
            one.stop()


def _processes_with(text: str) -> list[int]:
    """Processes whose environment names the task, our own children of the test excepted."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CLEARML_TASK_ID") == text:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_task_that_failed_by_itself_is_tried_again_where_its_queue_asks(world, tmp_path) -> None:
    marker = tmp_path / "tried"
    code = f"import pathlib, sys\nf = pathlib.Path({str(marker)!r})\nif not f.exists():\n    f.touch()\n    sys.exit(3)"
    task = world.run("fails once", code, again=True)
    ended = support.ended(world.session, task, log=world.controller)
    assert ended.status == "completed"
    assert ended.claim and (ended.claim.attempt, ended.claim.failures) == (2, 1)
    assert ended.claim.history == ("attempt 1: exit code 3",)


def test_the_last_try_of_a_task_that_fails_by_itself_is_its_end(world) -> None:
    task = world.run("fails always", "raise SystemExit(3)", again=True)
    ended = support.ended(world.session, task, log=world.controller)
    assert (ended.status, ended.status_reason) == ("failed", "exit code 3")
    assert ended.claim and ended.claim.attempt == 2
    text = support.console(world.session, task)
    assert len(re.findall(r"waiting: attempt 2 of 4 begins at .* UTC after attempt 1: exit code 3", text)) <= 1
    assert text.count("failed after") == 2
