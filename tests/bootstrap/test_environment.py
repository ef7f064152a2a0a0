"""Environments: built once, shared by all, private to each; with real interpreters and real installers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from bootstrap.commands import Programs
from bootstrap.environment import build, requirements
from bootstrap.environment.store import SEAL, Store, mark_of
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Checkout, TaskEnvironment
from clearml_api.configuration import Configuration
from clearml_api.models import Script
from tests.support import REPOSITORY_ROOT


def wheel(folder: Path, name: str, version: str = "1.0") -> Path:
    """A real wheel with a module, a console script and data, made on the spot: no index is asked."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        f"{name}.py": f"VERSION = {version!r}\ndef main():\n    import sys\n    print('{name}', sys.prefix)\n",
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-{version}.dist-info/entry_points.txt": f"[console_scripts]\n{name}-tool = {name}:main\n",
    }
    record = "".join(f"{file},,\n" for file in files) + f"{name}-{version}.dist-info/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{name}-{version}.dist-info/RECORD": record}.items():
            archive.writestr(file, text)
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "alpha")
    wheel(folder, "alpha", "2.0")
    wheel(folder, "beta")
    return folder


def prepare(text: object, tmp_path: Path, wheels: Path, *, manager: str = "uv", told: list[str] | None = None, **more):
    work = tmp_path / f"work-{time.monotonic_ns()}"
    work.mkdir(parents=True)
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "UV_OFFLINE": "1", "UV_FIND_LINKS": str(wheels),
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), **more.pop("environ", {}),
    }  # fmt: skip
    return build.prepare(
        Script(requirements={"pip": text}, **more.pop("script", {})),
        checkout=more.pop("checkout", lambda: Checkout(tmp_path)),
        work=work,
        cache=more.pop("cache", tmp_path / "cache"),
        configuration=Configuration(),
        environ=environ,
        package_manager=manager,
        programs=Programs(),
        tell=(told if told is not None else []).append,
    )


def python(environment: TaskEnvironment, code: str) -> str:
    done = subprocess.run(
        [environment.python, "-c", code], env={**os.environ, **environment.environ}, cwd="/",
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


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
        subprocess.run(["umount", cache], check=True)


def test_index_settings_and_manager_are_part_of_the_key(tmp_path, wheels) -> None:
    one = prepare("alpha==1.0", tmp_path, wheels)
    two = prepare("alpha==1.0", tmp_path, wheels, environ={"UV_INDEX": "https://example.org/simple"})
    assert one.key != two.key


def test_nothing_is_installed_when_the_operator_says_so(tmp_path, wheels) -> None:
    skip = {"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1"}
    assert prepare("nowhere==1", tmp_path, wheels, environ=skip).installed == ""
    given = {"CLEARML_AGENT_SKIP_PIP_VENV_INSTALL": sys.executable}
    assert prepare("nowhere==1", tmp_path, wheels, environ=given).python == Path(sys.executable)


HAMMER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from tests.bootstrap.test_environment import prepare, python
text = sys.argv[3]
environment = prepare(text, Path(sys.argv[1]), Path(sys.argv[2]), cache=Path(sys.argv[5]))
assert python(environment, "import alpha, beta; print(alpha.VERSION)"), text
"""


@pytest.mark.slow
def test_many_builders_some_killed_leave_a_clean_store(tmp_path, wheels) -> None:
    chance = random.Random(5)
    keys = ["alpha==1.0\nbeta", "alpha==2.0\nbeta", "beta\nalpha==1.0"]
    cache = tmp_path / "shared"
    processes = []
    for number in range(18):
        words = [sys.executable, "-c", HAMMER, tmp_path / str(number), wheels, keys[number % 3], REPOSITORY_ROOT, cache]
        processes.append((number % 2, subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)))
    for doomed, process in processes:
        if doomed:
            time.sleep(chance.uniform(0, 0.15))
            process.kill()
    for doomed, process in processes:
        _, errors = process.communicate(timeout=120)
        assert doomed or process.returncode == 0, errors.decode()
    store = Store(cache / "environments")
    entries = [path.name for path in (cache / "environments").iterdir() if not path.name.startswith(".")]
    assert len(entries) == 3
    for name in entries:
        entry = store.find(name)
        assert entry is not None and entry.mark == mark_of(entry.packages)


@pytest.mark.parametrize(
    ("value", "files", "expected", "source"),
    [
        ("six==1.16.0\n# Python 3.11\n\n", {}, "six==1.16.0", "task"),
        (["a", "b"], {}, "a\nb", "task"),
        ("", {"requirements.txt": "x"}, "", "task"),
        (None, {"requirements.txt": "x\n"}, "x", "requirements.txt"),
        (None, {"sub/requirements.txt": "y\n", "requirements.txt": "x\n"}, "y", "sub/requirements.txt"),
        (None, {}, "", "none"),
        ("a @ file:///home/someone/a.whl\nb", {}, "b", "task"),
    ],
)
def test_requirements_come_in_clearmls_order(tmp_path, value, files, expected, source) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    told: list[str] = []
    own = {} if value is None else {"pip": value}
    folder = "sub" if "sub/requirements.txt" in files else ""
    script = Script(repository="r", requirements=own, working_dir=folder)
    found = requirements.collect(script, lambda: Checkout(tmp_path.resolve(), "c"), told.append)
    assert (found.text, found.source) == (expected, source)
    assert bool(told) == ("file:///" in str(value))


def test_only_lines_that_need_the_checkout_wait_for_it(tmp_path) -> None:
    def never() -> Checkout:
        raise AssertionError("waited for the repository")

    tell = [].append
    requirements.collect(Script(requirements={"pip": "six\n-e git+https://example.org/x.git#egg=x"}), never, tell)
    found = requirements.collect(Script(requirements={"pip": "-e ."}), lambda: Checkout(tmp_path, "abc"), tell)
    assert (found.folder, found.commit) == (tmp_path, "abc")
