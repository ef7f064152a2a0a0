"""Submodules: from the cache like the repository itself, and under the same rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap.errors import RepositoryError
from clearml_api.models import Script
from tests import support
from tests.bootstrap.git_servers import me

FILE = ("-c", "protocol.file.allow=always")


@pytest.fixture(scope="module")
def nested(served: Path) -> str:
    """open.git on a branch `nested` with lib.git as `libs/lib`, which has private/closed.git as `inner`."""
    lib = served / "lib-source"
    support.repository(lib, {"lib.py": "x = 1\n"})
    support.git(lib, *FILE, "submodule", "--quiet", "add", "../private/closed.git", "inner")
    support.git(lib, "commit", "-qm", "inner")
    support.git(served, "clone", "-q", "--bare", str(lib), str(served / "lib.git"))
    outer = served / "nested-source"
    support.git(served, "clone", "-q", str(served / "open.git"), str(outer))
    support.git(outer, *FILE, "submodule", "--quiet", "add", "../lib.git", "libs/lib")
    support.git(outer, "commit", "-qm", "libs")
    support.git(outer, "push", "-q", "origin", "HEAD:refs/heads/nested")
    return support.git(outer, "rev-parse", "HEAD")


def test_nested_submodules_with_credentials_come_from_the_cache_the_next_time(git_pod, http, nested) -> None:
    script = Script(repository=http.url("open.git"), commit=nested)
    for _ in range(2):
        http.requests.clear()
        root = git_pod.prepare(script, **me(http)).root
        assert (root / "libs/lib/lib.py").is_file()
        assert (root / "libs/lib/inner/app.py").is_file()
        assert support.git(root, "status", "--porcelain") == ""
    assert all("private/closed.git" in one for one in http.requests), "the private one asks whether we still may"
    with pytest.raises(RepositoryError, match="submodule 'inner'"):
        git_pod.prepare(script)


@pytest.mark.parametrize("way", ["commit of the submodule", "changes in it", "both kinds, merged"])
def test_uncommitted_changes_of_a_submodule(git_pod, http, served, nested, way, tmp_path) -> None:
    work = tmp_path / "author"
    support.git(tmp_path, *FILE, "clone", "-q", "--recursive", "-b", "nested", str(served / "open.git"), str(work))
    lib = work / "libs/lib"
    if way == "commit of the submodule":
        support.git(lib, "checkout", "-q", "HEAD~1")
        diff = support.git(work, "diff", "HEAD")
        assert "Subproject commit" in diff
    else:
        (lib / "lib.py").write_text("x = 2\n")
        (work / "app.py").write_text("print('changed')\n")
        diff = support.git(work, "diff", "--submodule=diff", "HEAD")
        assert diff.startswith(("diff", "Submodule"))
    script = Script(repository=http.url("open.git"), commit=nested, diff=diff)
    if way == "both kinds, merged":
        (work / "app.py").write_text("# a comment\n\n\nprint('one')\n")
        support.git(work, "commit", "-qm", "moved", "app.py")
        support.git(work, "push", "-q", "origin", "HEAD:refs/heads/moved")
        (work / "app.py").write_text("print('changed')\n")
        diff = diff.replace("@@ -1 +1 @@\n-print('one')", "@@ -9 +9 @@\n-print('one')")
        script = Script(repository=http.url("open.git"), branch="moved", diff=diff)
    root = git_pod.prepare(script, **me(http)).root
    if way == "commit of the submodule":
        assert not (root / "libs/lib/.gitmodules").exists()
    else:
        assert (root / "libs/lib/lib.py").read_text() == "x = 2\n"
        assert "print('changed')" in (root / "app.py").read_text()


def test_a_submodule_may_not_be_a_folder_of_the_pod(git_pod, http, served, tmp_path) -> None:
    work = tmp_path / "evil"
    support.git(tmp_path, "clone", "-q", str(served / "open.git"), str(work))
    commit = support.git(work, "rev-parse", "HEAD")
    (work / ".gitmodules").write_text(f'[submodule "a"]\n\tpath = lib\n\turl = file://{served}/private/closed.git\n')
    support.git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
    support.git(work, "add", ".gitmodules")
    support.git(work, "commit", "-qm", "evil")
    support.git(work, "push", "-q", "origin", "HEAD:refs/heads/evil")
    with pytest.raises(RepositoryError, match="may not come from"):
        git_pod.prepare(Script(repository=http.url("open.git"), branch="evil"))
