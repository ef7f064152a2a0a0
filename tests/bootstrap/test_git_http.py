"""Repositories over http: who we are there, who may have what from the cache, what a server refuses."""

from __future__ import annotations

import os
import subprocess

import pytest

from bootstrap.environment.fill import with_git
from bootstrap.errors import RepositoryError
from clearml_api.configuration import Configuration
from clearml_api.models import Script
from tests import support
from tests.bootstrap.environments import prepare, project, python, wheel
from tests.bootstrap.git_servers import me


def test_user_and_password_open_a_private_repository_and_stand_nowhere(git_pod, http, head) -> None:
    trace = {"GIT_TRACE2_EVENT": str(git_pod.folder / "trace")}  # every git process's arguments
    checkout = git_pod.prepare(Script(repository=http.url("private/closed.git"), commit=head), **me(http), **trace)
    assert (checkout.root / "app.py").read_text() == "print('one')\n"
    assert b'"argv"' in git_pod.files()
    assert http.password.encode() not in git_pod.files()
    assert http.password not in "\n".join(git_pod.told)
    with pytest.raises(RepositoryError) as caught:
        git_pod.prepare(Script(repository=http.url("private/none.git"), branch="main"), **me(http))
    assert http.password not in str(caught.value) + "".join(caught.value.last_lines)


def test_credentials_in_the_address_of_clearml_conf_and_of_extra_credentials(git_pod, http, head) -> None:
    url = http.url("private/closed.git")
    inside = url.replace("http://", "http://robot:s3cr%20et%2Fpass@")
    checkout = git_pod.prepare(Script(repository=inside, commit=head))
    assert support.git(checkout.root, "remote", "get-url", "origin") == url
    conf = {"git_user": http.user, "git_pass": http.password, "git_host": "127.0.0.1"}
    extra = {"user": http.user, "pass": http.password, "host": "127.0.0.1"}
    others = {"git_user": "x", "git_pass": "wrong", "git": {"extra_credentials": [{"host": "h"}, extra]}}
    whole = {**extra, "host": http.url("private")}
    prefix = {"git_host_match_prefix": True, "git": {"extra_credentials": [whole]}}
    for tree in (conf, others, prefix):
        git_pod.prepare(Script(repository=url, branch="main"), tree)


@pytest.mark.parametrize("tree", [{"git_host": "example.org"}, {"git_host": "http://x", "git_host_match_prefix": True}])
def test_another_host_gets_nothing(git_pod, http, head, tree) -> None:
    with pytest.raises(RepositoryError, match="could not be fetched"):
        git_pod.prepare(Script(repository=http.url("private/closed.git"), commit=head), tree, **me(http))


def test_a_user_alone_is_a_token(git_pod, http, head, monkeypatch) -> None:
    monkeypatch.setattr(http, "user", "ghp_token")
    monkeypatch.setattr(http, "password", "")
    git_pod.prepare(Script(repository=http.url("private/closed.git").replace("//", "//ghp_token@"), commit=head))
    assert b"ghp_token" not in git_pod.files()


def test_a_helper_of_the_image_is_not_given_our_password_to_store(git_pod, http, head) -> None:
    (git_pod.home / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    git_pod.prepare(Script(repository=http.url("private/closed.git"), commit=head), **me(http))
    assert not (git_pod.home / ".git-credentials").exists()
    stored = http.url("private/closed.git").replace("//", "//robot:s3cr%20et%2Fpass@")
    (git_pod.home / ".git-credentials").write_text(stored + "\n")
    git_pod.prepare(Script(repository=http.url("private/closed.git"), branch="main"))


# -- what the cache gives


def test_a_private_mirror_serves_only_whom_the_remote_lets_in(git_pod, http, head) -> None:
    script = Script(repository=http.url("private/closed.git"), commit=head)
    git_pod.prepare(script, **me(http))
    with pytest.raises(RepositoryError, match="could not be fetched"):
        git_pod.prepare(script)
    http.requests.clear()
    git_pod.prepare(script, **me(http))
    assert all("upload-pack" in one for one in http.requests)
    assert sum(one.startswith("POST") for one in http.requests) <= 1, "asked, not fetched"


def test_a_mirror_filled_by_the_images_own_credentials_is_private(git_pod, http, head) -> None:
    stored = http.url("private/closed.git").replace("//", "//robot:s3cr%20et%2Fpass@")
    (git_pod.home / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    (git_pod.home / ".git-credentials").write_text(stored + "\n")
    script = Script(repository=http.url("private/closed.git"), commit=head)
    git_pod.prepare(script)
    (git_pod.home / ".gitconfig").unlink()
    with pytest.raises(RepositoryError, match="could not be fetched"):
        git_pod.prepare(script)


def test_an_open_mirror_needs_no_remote(git_pod, http, head) -> None:
    script = Script(repository=http.url("open.git"), commit=head)
    git_pod.prepare(script, **me(http))
    http.requests.clear()
    git_pod.prepare(script)
    assert http.requests == []


def test_a_damaged_mirror_is_fetched_anew(git_pod, http, head) -> None:
    script = Script(repository=http.url("open.git"), commit=head)
    git_pod.prepare(script)
    mirror = next((git_pod.cache / "repositories").glob("*.git"))
    tree = support.git(mirror, "rev-parse", f"{head}^{{tree}}")
    for file in mirror.glob("objects/pack/*"):
        file.chmod(0o600)
        file.write_bytes(b"")
    for file in mirror.glob(f"objects/{tree[:2]}/{tree[2:]}"):
        file.chmod(0o600)
        file.write_bytes(b"")
    checkout = git_pod.prepare(script)
    assert (checkout.root / "app.py").is_file()
    assert any("is damaged: fetching it anew" in line for line in git_pod.told)


def test_a_cache_that_cannot_be_written_serves_what_it_has(git_pod, http, head, monkeypatch) -> None:
    script = Script(repository=http.url("open.git"), commit=head)
    git_pod.prepare(script)
    git_pod.told.clear()
    before = git_pod.listing(git_pod.cache)
    real = os.access  # root may write everywhere: what it would say of a read-only volume
    ours = str(git_pod.cache)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(ours) and real(path, mode))
    git_pod.prepare(script)
    assert git_pod.told == []
    checkout = git_pod.prepare(Script(repository=http.url("open.git"), branch="main"))
    assert (checkout.root / "app.py").is_file()
    assert any("the cache cannot be written" in line for line in git_pod.told)
    assert git_pod.listing(git_pod.cache) == before


# -- by steps


def test_locks_of_a_git_that_was_killed_shut_nobody_out(git_pod, http, head) -> None:
    git_pod.prepare(Script(repository=http.url("open.git"), commit=head))
    mirror = next((git_pod.cache / "repositories").glob("*.git"))
    (mirror / "shallow.lock").touch()
    locks = [mirror / "shallow.lock", mirror / "refs/podstrap/tips/main.lock"]
    locks[1].parent.mkdir(exist_ok=True)
    locks[1].touch()
    checkout = git_pod.prepare(Script(repository=http.url("open.git"), branch="main"))
    assert (checkout.root / "app.py").is_file()
    assert any("locked by a git that was killed" in line for line in git_pod.told)
    for lock in locks:
        os.utime(lock, (1, 1))
    git_pod.told.clear()
    git_pod.prepare(Script(repository=http.url("open.git"), branch="main"))
    assert not any(lock.exists() for lock in locks)
    assert not any("killed" in line for line in git_pod.told)


@pytest.mark.parametrize("refuse", [False, True], ids=["serves bare commits", "refuses bare commits"])
def test_commits_of_every_kind(git_pod, http, served, head, refuse, tmp_path) -> None:
    http.refuse_bare = refuse
    clone = tmp_path / "clone"
    support.git(tmp_path, "clone", "-q", str(served / "open.git"), str(clone))
    made = {}
    for name in ("old", "tip", "pull"):
        (clone / "app.py").write_text(f"print('{name}')\n")
        support.git(clone, "commit", "-qam", name)
        made[name] = support.git(clone, "rev-parse", "HEAD")
    branch = f"side-{refuse}"
    to = (f"{made['tip']}:refs/heads/{branch}", f"{made['pull']}:refs/pull/{branch}")
    support.git(clone, "push", "-q", "origin", *to)
    url = http.url("open.git")
    assert git_pod.prepare(Script(repository=url, commit=made["pull"])).commit == made["pull"], "no branch reaches it"
    assert git_pod.prepare(Script(repository=url, commit=made["old"], branch=branch)).commit == made["old"]
    assert git_pod.prepare(Script(repository=url, commit=made["tip"][:9], branch="main")).commit == made["tip"]
    mirror = next((git_pod.cache / "repositories").glob("*.git"))
    assert (mirror / "shallow").exists() != refuse
    with pytest.raises(RepositoryError, match="is not in repository"):
        git_pod.prepare(Script(repository=url, commit="1" * 40, branch="main"))


def test_trouble_with_the_network_is_met_with_patience_and_a_bound(git_pod, http, head, monkeypatch) -> None:
    monkeypatch.setattr("bootstrap.mirror.PAUSES", (0.01, 0.01))
    http.failures = 2
    git_pod.prepare(Script(repository=http.url("open.git"), commit=head))
    assert sum("trouble with the network" in line for line in git_pod.told) == 2
    http.failures = 100
    with pytest.raises(RepositoryError, match="503"):
        git_pod.prepare(Script(repository=http.url("open.git"), branch="main"))


@pytest.mark.parametrize("manager", ["uv", "pip"])
def test_a_requirement_in_a_private_repository_is_fetched_as_the_task_fetches_its_own(
    tmp_path, http, served, manager
) -> None:
    project(tmp_path / "source", f"mine{manager}", '"alpha==1.0"')
    files = {file.name: file.read_text() for file in (tmp_path / "source").iterdir()}
    support.repository(tmp_path / "project", files)
    support.git(tmp_path, "clone", "-q", "--bare", str(tmp_path / "project"), str(served / f"private/{manager}.git"))
    wheel(tmp_path / "wheels", "alpha")
    made = prepare(
        f"mine{manager} @ git+{http.url(f'private/{manager}.git')}@main",
        tmp_path,
        tmp_path / "wheels",
        manager=manager,
        environ={**me(http), "UV_OFFLINE": ""},
    )
    assert http.password not in made.installed
    assert python(made, f"import mine{manager}, alpha; print(alpha.VERSION)") == "1.0"


def test_a_requirement_goes_the_way_that_clearml_conf_asks_for(git_pod) -> None:
    lock = 'source = { git = "ssh://git@example.org/a/c.git?rev=main#01" }'
    text = f"a @ git+https://example.org/a/b@v1\nb @ git+ssh://git@example.org/a/b.git#egg=b\n{lock}"
    password = Configuration(tree={"agent": {"git_user": "me", "git_pass": "secret-pass"}})
    forced = Configuration(tree={"agent": {"force_git_ssh_protocol": True, "force_git_ssh_user": "robot"}})

    def way(address: str, configuration: Configuration) -> str:
        environ = with_git({"PATH": os.environ["PATH"]}, text, configuration, git_pod.folder)
        found = subprocess.run(["git", "ls-remote", "--get-url", address], env=environ, capture_output=True, text=True)
        return found.stdout.strip()

    for name in ("b.git", "c.git"):
        assert way(f"ssh://git@example.org/a/{name}", password) == f"https://example.org/a/{name}"
    assert way("https://example.org/a/b", forced) == "ssh://robot@example.org/a/b"
    assert way("https://example.org/a/b", password) == "https://example.org/a/b"
