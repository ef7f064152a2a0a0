"""Environments: built once, shared by all, private to each; with real interpreters and real installers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap.environment.seal import SEAL
from bootstrap.errors import EnvironmentBuildError
from tests.bootstrap.environments import prepare, python, wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "alpha")
    wheel(folder, "alpha", "2.0")
    wheel(folder, "beta")
    return folder


@pytest.mark.parametrize("manager", ["uv", "pip"])
def test_built_once_then_found_and_never_podstraps_own(tmp_path, wheels, manager) -> None:
    first = prepare("alpha==1.0\n", tmp_path, wheels, manager=manager)
    second = prepare("alpha==1.0\n", tmp_path, wheels, manager=manager)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert first.key == second.key
    assert "alpha==1.0" in second.installed
    assert python(second, "import alpha; print(alpha.VERSION)") == "1.0"
    assert python(second, "import sys; print(sys.prefix)") == str(second.python.parent.parent)
    assert (
        python(second, "import importlib.util as u; print(u.find_spec('urllib3'), u.find_spec('bootstrap'))")
        == "None None"
    )


def test_console_scripts_and_metadata_behave_as_in_a_plain_venv(tmp_path, wheels) -> None:
    environment = prepare("alpha==1.0\nbeta", tmp_path, wheels)
    tool = environment.python.parent / "alpha-tool"
    done = subprocess.run([tool], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"alpha {environment.python.parent.parent}"
    code = "import importlib.metadata as m; print(sorted({d.name for d in m.distributions()} & {'alpha', 'beta'}))"
    assert python(environment, code) == "['alpha', 'beta']"
    spawn = (
        "import multiprocessing as m\nif __name__ == '__main__':\n"
        "    print(m.get_context('spawn').Pool(1).map(len, ['abc']))"
    )
    script = tmp_path / "spawn.py"
    script.write_text(spawn)
    assert subprocess.run([environment.python, script], capture_output=True, text=True).stdout.strip() == "[3]"


def test_a_tasks_own_install_stays_private(tmp_path, wheels) -> None:
    mine = prepare("alpha==1.0", tmp_path, wheels)
    command = [mine.python, "-m", "pip", "install", "-q", "--no-index", "--find-links", wheels, "alpha==2.0"]
    subprocess.run(command, env={**os.environ, **mine.environ}, check=True, capture_output=True)
    assert python(mine, "import alpha; print(alpha.VERSION)") == "2.0"
    other = prepare("alpha==1.0", tmp_path, wheels)
    assert other.from_cache
    assert python(other, "import alpha; print(alpha.VERSION)") == "1.0"


@pytest.mark.parametrize("manager", ["uv", "pip"])
def test_a_packages_data_is_below_the_prefix_and_what_the_task_adds_there_is_its_own(tmp_path, wheels, manager) -> None:
    files = {f"data-1.0.data/data/{name}/jupyter/templates/{name}.txt": "theirs" for name in ("share", "etc")}
    wheel(tmp_path / "wheels", "data", files=files)
    code = (
        "import pathlib, sys; folder = pathlib.Path(sys.prefix, {name!r}, 'jupyter', 'templates'); "
        "print(sorted(p.name for p in folder.iterdir()), (folder / '{name}.txt').read_text()); "
        "(folder / 'mine').write_text('x')"
    )
    for attempt in ("built", "found"):
        made = prepare("data==1.0", tmp_path, tmp_path / "wheels", manager=manager)
        for name in ("share", "etc"):
            assert python(made, code.format(name=name)) == f"['{name}.txt'] theirs", attempt


def test_nothing_to_install_is_an_environment_too(tmp_path, wheels) -> None:
    environment = prepare("", tmp_path, wheels)
    assert environment.installed == ""
    assert python(environment, "import sys; print(sys.prefix != sys.base_prefix)") == "True"
    assert "pip" in python(environment, "import pip; print(pip.__name__)")


@pytest.mark.parametrize("manager", ["uv", "pip"])
def test_a_requirement_that_does_not_exist_is_named(tmp_path, wheels, manager) -> None:
    with pytest.raises(EnvironmentBuildError, match="nowhere-to-be-found") as caught:
        prepare("alpha==1.0\nnowhere-to-be-found==9", tmp_path, wheels, manager=manager)
    assert caught.value.last_lines
    assert not list((tmp_path / "cache" / "environments").glob("[0-9a-f]*")), "nothing half-built is published"


def test_a_damaged_entry_is_built_again(tmp_path, wheels) -> None:
    first = prepare("alpha==1.0", tmp_path, wheels)
    entry = tmp_path / "cache" / "environments" / first.key
    (next(entry.glob("venv/lib/*/site-packages")) / "alpha.py").unlink()
    second = prepare("alpha==1.0", tmp_path, wheels)
    assert not second.from_cache
    assert python(second, "import alpha; print(alpha.VERSION)") == "1.0"
    (entry / SEAL).unlink()
    assert not prepare("alpha==1.0", tmp_path, wheels).from_cache


@pytest.mark.skipif(os.getuid() != 0, reason="a read-only mount needs root")
def test_a_read_only_cache_serves_and_what_it_lacks_is_built_beside(tmp_path, wheels) -> None:
    cache = tmp_path / "cache"
    prepare("alpha==1.0", tmp_path, wheels)
    subprocess.run(["mount", "--bind", cache, cache], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", cache], check=True)
        assert prepare("alpha==1.0", tmp_path, wheels).from_cache
        told: list[str] = []
        environment = prepare("beta", tmp_path, wheels, told=told)
        assert python(environment, "import beta; print(beta.VERSION)") == "1.0"
        assert any("cannot be written" in line for line in told)
    finally:
        subprocess.run(["umount", "--lazy", cache], check=True)


def test_index_settings_and_manager_are_part_of_the_key(tmp_path, wheels) -> None:
    one = prepare("alpha==1.0", tmp_path, wheels)
    two = prepare("alpha==1.0", tmp_path, wheels, environ={"UV_INDEX": "https://example.org/simple"})
    assert one.key != two.key


def test_nothing_is_installed_when_the_operator_says_so(tmp_path, wheels) -> None:
    skip = {"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1"}
    assert prepare("nowhere==1", tmp_path, wheels, environ=skip).installed == ""
    given = {"CLEARML_AGENT_SKIP_PIP_VENV_INSTALL": sys.executable}
    assert prepare("nowhere==1", tmp_path, wheels, environ=given).python == Path(sys.executable)
