"""The task's code on disk, with real git repositories made on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bootstrap import repository
from bootstrap.commands import Programs
from bootstrap.entry_point import resolve
from bootstrap.errors import EntryPointError, RepositoryError
from bootstrap.prepared import Checkout, TaskEnvironment
from clearml_api.configuration import Configuration
from clearml_api.models import Script
from tests import support

FILES = {"app.py": "print('one')\n", "pkg/__init__.py": "", "pkg/mod.py": "x = 1\n", "data.txt": "a\nb\nc\n"}


def prepare(script: Script, tmp_path: Path, *, cache: Path | None = None, environ: dict | None = None) -> Checkout:
    work = tmp_path / f"work-{len(list(tmp_path.glob('work-*')))}"
    work.mkdir()
    env = environ or {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    return repository.prepare(
        script,
        work=work,
        cache=cache or tmp_path / "cache",
        configuration=Configuration(),
        environ=env,
        programs=Programs(),
        tell=lambda line: None,
    )


@pytest.fixture
def repo(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / "repo", support.repository(tmp_path / "repo", FILES)


def commit_again(repo: Path, text: str, branch: str = "main") -> str:
    support.git(repo, "checkout", "-q", "-B", branch)
    (repo / "app.py").write_text(text)
    support.git(repo, "commit", "-qam", text)
    return support.git(repo, "rev-parse", "HEAD")


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "file://{path}/.git"])
def test_exactly_the_commit_is_checked_out(repo, tmp_path, form) -> None:
    path, first = repo
    commit_again(path, "print('two')\n")
    checkout = prepare(Script(repository=form.format(path=path), commit=first, branch="main"), tmp_path)
    assert (checkout.root / "app.py").read_text() == "print('one')\n"
    assert checkout.commit == first
    assert support.git(checkout.root, "rev-parse", "HEAD") == first
    assert support.git(checkout.root, "status", "--porcelain") == ""
    assert support.git(checkout.root, "remote", "get-url", "origin").endswith(str(path)) or form.endswith(".git")


def test_branch_tag_default_and_short_commit(repo, tmp_path) -> None:
    path, first = repo
    second = commit_again(path, "print('two')\n", "side")
    support.git(path, "tag", "v1", first)
    support.git(path, "checkout", "-q", "main")
    url = f"file://{path}"
    assert prepare(Script(repository=url, branch="side"), tmp_path).commit == second
    assert prepare(Script(repository=url, branch="origin/side"), tmp_path).commit == second
    assert prepare(Script(repository=url, tag="v1"), tmp_path).commit == first
    assert prepare(Script(repository=url), tmp_path).commit == first
    assert prepare(Script(repository=url, commit=second[:10], branch="side"), tmp_path).commit == second


def test_a_branch_is_taken_as_it_is_now_not_as_the_cache_had_it(repo, tmp_path) -> None:
    path, first = repo
    script = Script(repository=f"file://{path}", branch="main")
    assert prepare(script, tmp_path).commit == first
    second = commit_again(path, "print('two')\n")
    assert prepare(script, tmp_path).commit == second


def test_a_cached_commit_needs_no_remote(repo, tmp_path) -> None:
    path, first = repo
    script = Script(repository=f"file://{path}", commit=first)
    prepare(script, tmp_path)
    shutil.rmtree(path)
    assert (prepare(script, tmp_path).root / "app.py").is_file()


def test_a_commit_that_no_branch_reaches(repo, tmp_path) -> None:
    path, _ = repo
    lonely = commit_again(path, "print('lonely')\n", "gone")
    support.git(path, "checkout", "-q", "main")
    support.git(path, "branch", "-q", "-D", "gone")
    checkout = prepare(Script(repository=f"file://{path}", commit=lonely), tmp_path)
    assert (checkout.root / "app.py").read_text() == "print('lonely')\n"


def test_many_pods_share_one_mirror(repo, tmp_path) -> None:
    path, first = repo
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            prepare(
                Script(repository=f"file://{path}", commit=first), tmp_path / str(number), cache=tmp_path / "shared"
            )
        except BaseException as error:
            errors.append(error)

    for number in range(8):
        (tmp_path / str(number)).mkdir()
    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list((tmp_path / "shared" / "repositories").glob("*.git"))) == 1


def diff_of(path: Path, change: dict[str, bytes | None]) -> str:
    for name, data in change.items():
        if data is None:
            (path / name).unlink()
        else:
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_bytes(data)
    support.git(path, "add", "-A")
    done = subprocess.run(["git", "-C", str(path), "diff", "--cached", "--binary"], capture_output=True, check=True)
    support.git(path, "reset", "-q", "--hard")
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "change",
    [
        {"app.py": b"print('changed')\n"},
        {"new/file.py": b"n = 1\n", "app.py": None},
        {"data.txt": b"a\r\nb\r\nc\r\n"},
        {"data.txt": b"a\nb\nno newline at the end"},
        {"image.bin": bytes(range(256)) * 4},
        {"data.txt": "umlaut äöü\n".encode()},
    ],
    ids=["text", "new and removed", "CRLF", "no newline", "binary", "unicode"],
)
def test_uncommitted_changes_are_applied_byte_for_byte(repo, tmp_path, change) -> None:
    path, first = repo
    diff = diff_of(path, change)
    checkout = prepare(Script(repository=f"file://{path}", commit=first, diff=diff), tmp_path)
    for name, data in change.items():
        assert not (checkout.root / name).exists() if data is None else (checkout.root / name).read_bytes() == data


def test_a_diff_against_another_commit_is_merged_three_way(repo, tmp_path) -> None:
    path, _ = repo
    lines = "".join(f"line {n}\n" for n in range(30))
    (path / "long.txt").write_text(lines)
    support.git(path, "add", "-A")
    support.git(path, "commit", "-qm", "long")
    diff = diff_of(path, {"long.txt": lines.replace("line 20", "line twenty").encode()})
    (path / "long.txt").write_text(lines.replace("line 18\n", "line 18\nmore\n"))
    support.git(path, "commit", "-qam", "moved")
    head = support.git(path, "rev-parse", "HEAD")
    checkout = prepare(Script(repository=f"file://{path}", commit=head, diff=diff), tmp_path)
    text = (checkout.root / "long.txt").read_text()
    assert "line twenty" in text
    assert "more" in text


def test_what_clearml_task_inserts_applies_also_where_there_is_no_requirements_file(repo, tmp_path) -> None:
    path, first = repo
    diff = (
        "diff --git a/requirements.txt b/requirements.txt\n--- a/requirements.txt\n+++ b/requirements.txt\n"
        "@@ -0,0 +1,1 @@\n+clearml\n"
        "diff --git a/app.py b/app.py\n--- a/app.py\n+++ b/app.py\n@@ -0,0 +1,2 @@\n+import this\n+\n"
    )
    checkout = prepare(Script(repository=f"file://{path}", commit=first, diff=diff), tmp_path)
    assert (checkout.root / "app.py").read_text() == "import this\n\nprint('one')\n"
    assert (checkout.root / "requirements.txt").read_text() == "clearml\n"


def test_a_diff_that_does_not_apply_names_its_files(repo, tmp_path) -> None:
    path, first = repo
    diff = "--- a/app.py\n+++ b/app.py\n@@ -1,1 +1,1 @@\n-something else\n+x\n"
    with pytest.raises(RepositoryError, match=r"do not apply to its commit: app\.py") as caught:
        prepare(Script(repository=f"file://{path}", commit=first, diff=diff), tmp_path)
    assert caught.value.last_lines


@pytest.mark.parametrize("name", ["../../outside.txt", "/etc/passwd", ".git/hooks/post-checkout"])
def test_a_diff_stays_inside_the_checkout(repo, tmp_path, name) -> None:
    path, first = repo
    diff = f"diff --git a/{name} b/{name}\nnew file mode 100755\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,1 @@\n+evil\n"
    before = Path("/etc/passwd").read_bytes()
    try:
        checkout = prepare(Script(repository=f"file://{path}", commit=first, diff=diff), tmp_path)
        assert not (checkout.root / ".git" / "hooks" / "post-checkout").exists()
    except RepositoryError:
        assert not list(tmp_path.rglob("outside.txt"))
    assert Path("/etc/passwd").read_bytes() == before


@pytest.mark.parametrize(
    "script",
    [
        Script(repository="--upload-pack=touch /tmp/evil"),
        Script(repository="ext::sh -c touch% /tmp/evil"),
        Script(repository="ftp://example.org/x.git"),
        Script(repository="file:///x\n--evil"),
        Script(repository="{repo}", branch="--upload-pack=evil"),
        Script(repository="{repo}", commit="-evil"),
        Script(repository="{repo}", tag="a b"),
        Script(repository="{repo}", branch="a:b"),
    ],
)
def test_hostile_names_are_refused(repo, tmp_path, script) -> None:
    from dataclasses import replace

    with pytest.raises(RepositoryError):
        prepare(replace(script, repository=script.repository.replace("{repo}", f"file://{repo[0]}")), tmp_path)
    assert not Path("/tmp/evil").exists()


def test_what_is_missing_is_named(repo, tmp_path) -> None:
    path, _ = repo
    url = f"file://{path}"
    with pytest.raises(RepositoryError, match=r"none\.git could not be fetched"):
        prepare(Script(repository=f"file://{tmp_path}/none.git", branch="main"), tmp_path)
    with pytest.raises(RepositoryError, match=r"commit 1{40} is not in repository"):
        prepare(Script(repository=url, commit="1" * 40), tmp_path)
    with pytest.raises(RepositoryError, match="branch or tag 'nowhere' is not in repository"):
        prepare(Script(repository=url, branch="nowhere"), tmp_path)


def test_hooks_of_the_repository_do_not_run(repo, tmp_path) -> None:
    path, first = repo
    prepare(Script(repository=f"file://{path}", commit=first), tmp_path)
    mirror = next((tmp_path / "cache" / "repositories").glob("*.git"))
    hook = mirror / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    prepare(Script(repository=f"file://{path}", commit=first), tmp_path)
    assert not (tmp_path / "ran").exists()


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
