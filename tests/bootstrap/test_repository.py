"""The task's code on disk, with real git repositories made on the spot."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from bootstrap import repository
from bootstrap.commands import Programs
from bootstrap.errors import RepositoryError
from bootstrap.prepared import Checkout
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
