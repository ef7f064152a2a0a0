"""Lock files: as the tools that wrote them would install them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from bootstrap.commands import Programs
from bootstrap.environment import installed, locks
from bootstrap.environment.tools import find_uv
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Checkout
from tests.bootstrap.environments import prepare, project, python

LOCKS = Path(__file__).parent / "locks"


@pytest.mark.parametrize("version", ["3.9.18", "3.10.13", "3.11.7", "3.12.1", "3.13.0"])
def test_poetry_lock_is_read_as_poetrys_own_export_says(version) -> None:
    """locks/poetry-export.txt is what `poetry export --with dev` wrote for locks/poetry.lock."""
    short = ".".join(version.split(".")[:2])
    environment = {**default_environment(), "python_version": short, "python_full_version": version}
    wanted = set()
    for line in (LOCKS / "poetry-export.txt").read_text().splitlines():
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate(environment):
            wanted.add(f"{one.name}{one.specifier}")
    text = locks.read_poetry((LOCKS / "poetry.lock").read_text(), (LOCKS / "pyproject.toml").read_text(), version)
    lines = text.splitlines()
    assert {line.split(" --hash")[0] for line in lines} == wanted
    assert all("--hash=sha256:" in line for line in lines)


OLD = """
[[package]]
name = "a"
version = "1.0"
optional = false
python-versions = ">=3.8"
files = []
[package.dependencies]
b = {version = "*", markers = "sys_platform == 'linux'"}
c = {version = "*", markers = "sys_platform == 'win32'"}
[[package]]
name = "b"
version = "2.0"
optional = false
python-versions = "*"
files = []
[package.source]
type = "git"
url = "https://example.org/b.git"
reference = "main"
resolved_reference = "0123456789012345678901234567890123456789"
[[package]]
name = "c"
version = "3.0"
optional = false
python-versions = "*"
files = []
[[package]]
name = "d"
version = "4.0"
optional = false
python-versions = "*"
files = []
[package.source]
type = "directory"
url = "libs/d"
"""


def test_an_older_lock_has_its_markers_walked() -> None:
    project = "[tool.poetry.dependencies]\npython='^3.8'\na='*'\nd={path='libs/d'}\n[tool.poetry.dev-dependencies]\n"
    assert locks.read_poetry(OLD, project, "3.11.7").splitlines() == [
        "a==1.0",
        "b @ git+https://example.org/b.git@0123456789012345678901234567890123456789",
        "./libs/d",
    ]


def test_a_damaged_lock_is_named() -> None:
    with pytest.raises(EnvironmentBuildError, match=r"poetry\.lock cannot be read"):
        locks.read_poetry("<<<<<<< HEAD", "", "3.11.7")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[project]\nname='x'\nversion='1'\ndependencies=['a>=1','b ; python_version<\"3\"']",
            'a>=1\nb ; python_version<"3"',
        ),
        ("[project]\nname='x'\ndynamic=['dependencies']\n[build-system]\nrequires=[]", "."),
        ("[tool.black]\n", ""),
    ],
)
def test_a_pyproject_without_a_lock(text, expected) -> None:
    assert locks.read_pyproject(text) == expected


def locked_project(folder: Path, wheels: Path) -> None:
    project(folder, "mine", '"beta", "alpha<2"')
    command = [find_uv(), "lock", "--quiet", "--offline", "--no-index", "--find-links", wheels]
    subprocess.run(command, cwd=folder, check=True)


@pytest.mark.parametrize("manager", ["uv", "pip"])
def test_uv_lock_gives_its_versions_and_the_project_itself(tmp_path, wheels, manager) -> None:
    repository = tmp_path / "repository"
    locked_project(repository, wheels)
    told: list[str] = []
    checkout = {"checkout": lambda: Checkout(repository, "c" * 40), "script": {"repository": "r"}}
    first = prepare({}, tmp_path, wheels, manager=manager, told=told, **checkout)
    assert any("uv.lock" in line for line in told), told
    assert "alpha==1.0" in first.installed and "-e ." in first.installed
    assert python(first, "import mine, beta; print(mine.HERE)") == str(repository / "mine.py")
    assert prepare({}, tmp_path, wheels, manager=manager, **checkout).from_cache
    (repository / "uv.lock").write_text((repository / "uv.lock").read_text() + "\n# changed\n")
    assert not prepare({}, tmp_path, wheels, manager=manager, **checkout).from_cache


def test_a_lock_that_does_not_fit_its_project_is_told(tmp_path, wheels) -> None:
    locked_project(tmp_path / "repository", wheels)
    (tmp_path / "repository" / "uv.lock").write_text("version = 1\nnonsense")
    with pytest.raises(EnvironmentBuildError, match=r"uv\.lock could not be read"):
        locks.export_uv(tmp_path / "repository", (), {}, Programs())


def test_what_is_read_from_the_folder_is_what_pip_freeze_says(tmp_path, wheels) -> None:
    project(tmp_path / "code")
    found = prepare("beta\n./code", tmp_path, wheels, manager="pip", checkout=lambda: Checkout(tmp_path))
    packages = next(found.python.parent.parent.glob("lib/*/site-packages"))
    entry = next((tmp_path / "cache" / "environments" / found.key).glob("venv/lib/*/site-packages"))
    for folder in (packages, entry):
        words = [found.python, "-m", "pip", "freeze", "--path", folder]
        pips = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
        assert sorted(installed.freeze(folder).splitlines()) == sorted(line for line in pips if line)
