"""What the pages tell a person without a cluster to type, typed; and the list of commands, against the program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearml_api.session import Session
from cli import main as program
from tests import support
from tests.docs import pages
from tests.docs.pages import ROOT, Block

COMMANDS = ROOT / "docs" / "commands.md"
TYPED = [page for page in pages.pages() if any(one.kind == "local" for one in pages.blocks(page))]


class Sandbox:
    """A folder with what a clone has, and a shell in it that knows the tests' server."""

    def __init__(self, folder: Path, server: dict[str, str]) -> None:
        self.folder = folder
        for one in ROOT.iterdir():
            if one.name in ("charts", "deploy", "docs", "examples", "Makefile"):
                (folder / one.name).symlink_to(one)
        path = f"{Path(sys.executable).parent}:{support.base_environ()['PATH']}"
        self.environ = {**support.base_environ(), **server, "HOME": str(folder), "PATH": path}

    def shell(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text], cwd=self.folder, env=self.environ,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.place}:\n{block.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def sandbox(tmp_path: Path, server_environ: dict[str, str]) -> Sandbox:
    return Sandbox(tmp_path, server_environ)


@pytest.mark.parametrize("page", TYPED, ids=pages.name_of)
def test_the_commands_of_a_page_work_one_after_the_other(page: Path, sandbox: Sandbox) -> None:
    for block in pages.blocks(page):
        if block.file:
            (sandbox.folder / block.file).write_text(block.text)
        if block.kind == "local":
            sandbox.shell(block)


def block_of(page: Path, test: str) -> Block:
    """The block that says that `test` holds it."""
    (found,) = [one for one in pages.blocks(page) if one.kind == "by" and one.detail.endswith(f"::{test}")]
    return found


def test_every_command_is_on_the_page() -> None:
    """And each option on the page is one of its command."""
    text = block_of(COMMANDS, "test_every_command_is_on_the_page").text
    listed: dict[str, set[str]] = {}
    for line in text.splitlines():
        found = re.match(r"podstrap (\w+)", line)
        assert found, line
        listed.setdefault(found[1], set()).update(re.findall(r"--[a-z-]+", line))
    assert set(listed) == set(program._COMMANDS) - {"demo"}
    for command, options in listed.items():
        words = [sys.executable, "-m", "cli.main", command, "--help"]
        helped = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True).stdout
        assert {one for one in options if one not in helped} == set(), command


def test_every_exit_code_is_on_the_page() -> None:
    from protocol import exit_codes

    text = COMMANDS.read_text(encoding="utf-8").partition("Exit codes:")[2]
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    assert codes == {int(one) for one in re.findall(r"\b(\d+)\b", text.partition("\n\n")[0])}


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[support.Server]:
    server = support.Server(tmp_path / "machine")
    yield server
    server.kill9()


def test_one_machine_runs_what_waits(tmp_path: Path, serving: support.Server) -> None:
    """The page's first command is the server of `serving`, whose command line it must be; the others are typed."""
    block = block_of(COMMANDS, "test_one_machine_runs_what_waits")
    first, *others = block.text.splitlines(keepends=True)
    assert re.match(r"podstrap standalone --data data --api-port 8008 ", first)
    serving.start()
    session: Session = support.session_of(serving.environ)
    task = support.create_task(session, "a task", "print('hello')")
    session.call("tasks.enqueue", {"task": task, "queue": support.queue_id(session, "default")})
    (tmp_path / "typed").mkdir()
    Sandbox(tmp_path / "typed", serving.environ).shell(
        Block(block.page, block.line, block.language, "".join(others), block.kind)
    )
    assert support.task(session, task).status == "completed"


@pytest.mark.slow
def test_make_run_ends_with_two_completed_tasks(tmp_path: Path) -> None:
    """By the command of make's recipe: its other half makes the environment that this test runs in."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nrun:")[2].splitlines()[1]
    assert recipe.split("$(if")[0].split() == ["$(BIN)/python", "-m", "cli.main", "demo"]
    words = [sys.executable, "-m", "cli.main", "demo", "--data", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^task [0-9a-f]{32} demo-\w+ completed \d+\.\d+$", done.stdout, re.M)) == 2
