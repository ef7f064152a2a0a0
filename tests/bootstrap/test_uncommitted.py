"""The task's uncommitted changes, as the SDK writes them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.errors import RepositoryError
from clearml_api.models import Script
from tests import support

FILES = {"app.py": "print('one')\n", "pkg/mod.py": "x = 1\n", "data.txt": "a\nb\nc\n", "dos.txt": "a\r\nb\r\nc\r\n"}


@pytest.fixture
def repo(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / "repo", support.repository(tmp_path / "repo", FILES)


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
        {"dos.txt": b"a\r\nB\r\nc\r\n"},
        {"data.txt": b"a\nb\nno newline at the end"},
        {"image.bin": bytes(range(256)) * 4},
        {"data.txt": "umlaut äöü\n".encode()},
    ],
    ids=["text", "new and removed", "CRLF", "inside CRLF", "no newline", "binary", "unicode"],
)
def test_uncommitted_changes_are_applied_byte_for_byte(repo, git_pod, tmp_path, change) -> None:
    path, first = repo
    diff = diff_of(path, change)
    checkout = git_pod.prepare(Script(repository=f"file://{path}", commit=first, diff=diff))
    for name, data in change.items():
        assert not (checkout.root / name).exists() if data is None else (checkout.root / name).read_bytes() == data


def test_a_diff_against_another_commit_is_merged_three_way(repo, git_pod, tmp_path) -> None:
    path, _ = repo
    lines = "".join(f"line {n}\n" for n in range(30))
    (path / "long.txt").write_text(lines)
    support.git(path, "add", "-A")
    support.git(path, "commit", "-qm", "long")
    diff = diff_of(path, {"long.txt": lines.replace("line 20", "line twenty").encode()})
    (path / "long.txt").write_text(lines.replace("line 18\n", "line 18\nmore\n"))
    support.git(path, "commit", "-qam", "moved")
    head = support.git(path, "rev-parse", "HEAD")
    checkout = git_pod.prepare(Script(repository=f"file://{path}", commit=head, diff=diff))
    text = (checkout.root / "long.txt").read_text()
    assert "line twenty" in text
    assert "more" in text


def test_what_clearml_task_inserts_applies_also_where_there_is_no_requirements_file(repo, git_pod, tmp_path) -> None:
    path, first = repo
    diff = (
        "diff --git a/requirements.txt b/requirements.txt\n--- a/requirements.txt\n+++ b/requirements.txt\n"
        "@@ -0,0 +1,1 @@\n+clearml\n"
        "diff --git a/app.py b/app.py\n--- a/app.py\n+++ b/app.py\n@@ -0,0 +1,2 @@\n+import this\n+\n"
    )
    checkout = git_pod.prepare(Script(repository=f"file://{path}", commit=first, diff=diff))
    assert (checkout.root / "app.py").read_text() == "import this\n\nprint('one')\n"
    assert (checkout.root / "requirements.txt").read_text() == "clearml\n"


def test_a_diff_that_does_not_apply_names_its_files(repo, git_pod, tmp_path) -> None:
    path, first = repo
    diff = "--- a/app.py\n+++ b/app.py\n@@ -1,1 +1,1 @@\n-something else\n+x\n"
    with pytest.raises(RepositoryError, match=r"do not apply to its commit: app\.py") as caught:
        git_pod.prepare(Script(repository=f"file://{path}", commit=first, diff=diff))
    assert caught.value.last_lines


@pytest.mark.parametrize("name", ["../../outside.txt", "/etc/passwd", ".git/hooks/post-checkout"])
def test_a_diff_stays_inside_the_checkout(repo, git_pod, tmp_path, name) -> None:
    path, first = repo
    diff = f"diff --git a/{name} b/{name}\nnew file mode 100755\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,1 @@\n+evil\n"
    before = Path("/etc/passwd").read_bytes()
    try:
        checkout = git_pod.prepare(Script(repository=f"file://{path}", commit=first, diff=diff))
        assert not (checkout.root / ".git" / "hooks" / "post-checkout").exists()
    except RepositoryError:
        assert not list(tmp_path.rglob("outside.txt"))
    assert Path("/etc/passwd").read_bytes() == before


def test_renames_modes_and_names_with_spaces(repo, git_pod) -> None:
    path, first = repo
    support.git(path, "mv", "pkg/mod.py", "pkg/a module ü.py")
    (path / "app.py").chmod(0o755)
    support.git(path, "add", "-A")
    diff = support.git(path, "diff", "HEAD", "-M")
    assert "rename from" in diff
    root = git_pod.prepare(Script(repository=f"file://{path}", commit=first, diff=diff)).root
    assert (root / "pkg/a module ü.py").read_text() == "x = 1\n"
    assert not (root / "pkg/mod.py").exists()
    assert (root / "app.py").stat().st_mode & 0o100


def test_a_diff_whose_last_empty_lines_somebody_stripped(repo, git_pod) -> None:
    path, _ = repo
    (path / "long.txt").write_text("1\n2\n3\n\n")
    support.git(path, "add", "-A")
    support.git(path, "commit", "-qm", "long")
    (path / "long.txt").write_text("1\n2\nthree\n\n")
    diff = support.git(path, "diff", "HEAD")
    head = support.git(path, "rev-parse", "HEAD")
    root = git_pod.prepare(Script(repository=f"file://{path}", commit=head, diff=diff.rstrip())).root
    assert (root / "long.txt").read_text() == "1\n2\nthree\n\n"


def test_the_rejected_hunks_are_shown(repo, git_pod) -> None:
    path, _ = repo
    diff = diff_of(path, {"data.txt": b"a\nB\nc\n", "app.py": b"print('changed')\n"})
    (path / "data.txt").write_text("x\ny\nz\n")
    support.git(path, "commit", "-qam", "moved on")
    head = support.git(path, "rev-parse", "HEAD")
    with pytest.raises(RepositoryError, match=r"do not apply to its commit: data\.txt") as caught:
        git_pod.prepare(Script(repository=f"file://{path}", commit=head, diff=diff))
    shown = "\n".join(caught.value.last_lines)
    assert "rejected:" in shown
    assert "+B" in shown


def test_changes_that_were_too_large_for_the_sdk_are_a_failure(repo, git_pod) -> None:
    path, first = repo
    diff = "# WARNING! git diff too large to store, clear this section to execute without it.\n# full git diff\n"
    with pytest.raises(RepositoryError, match="too large for the SDK"):
        git_pod.prepare(Script(repository=f"file://{path}", commit=first, diff=diff))


def test_a_whole_script_beside_a_repository_is_written_into_it_unless_it_is_there(repo, git_pod) -> None:
    path, first = repo
    script = Script(repository=f"file://{path}", commit=first, diff="print('stored')\n", working_dir="pkg")
    for entry, text in (("new.py --x 1", "print('stored')\n"), ("mod.py", "x = 1\n")):
        root = git_pod.prepare(replace(script, entry_point=entry)).root
        assert (root / "pkg" / entry.split()[0]).read_text() == text
    with pytest.raises(RepositoryError, match="outside the repository"):
        git_pod.prepare(replace(script, entry_point="../../x.py"))
