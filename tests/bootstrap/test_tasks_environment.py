"""What a task may ask of its environment besides packages: its own code, a Python, the image's packages, conda."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap.environment import interpreter, pythons
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Checkout
from clearml_api.configuration import Configuration
from protocol import environment as names
from tests.bootstrap.environments import configured, prepare, project, python, wheel

BOTH = pytest.mark.parametrize("manager", ["uv", "pip"])
VERSIONS = {
    version: path
    for version in ("3.9", "3.10", "3.12", "3.13")
    for path in sorted(Path("/").glob(f"root/.pyenv/versions/{version}.*/bin/python{version}"))
}
"""Real interpreters of other versions, where this machine has them."""


@BOTH
def test_the_tasks_own_package_is_private_and_what_it_needs_is_shared(tmp_path, wheels, manager) -> None:
    for pod in ("one", "two"):
        project(tmp_path / pod / "code")
    told: list[str] = []

    def run(pod: str, text: str = "-e ./code\nbeta"):
        return prepare(text, tmp_path, wheels, manager=manager, told=told, checkout=lambda: Checkout(tmp_path / pod))

    one, two = run("one"), run("two")
    assert (one.from_cache, two.from_cache) == (False, True)
    for pod, environment in (("one", one), ("two", two)):
        assert python(environment, "import mine, alpha, beta; print(mine.HERE)") == str(
            tmp_path / pod / "code" / "mine.py"
        )
    assert one.installed == "alpha==1.0\nbeta==1.0\n-e ./code"
    entry = tmp_path / "cache" / "environments" / one.key
    assert not list(entry.rglob("*mine*")), "nothing of one pod's code is in the shared entry"


def test_a_package_of_the_repository_with_extras_and_an_archive_beside_it(tmp_path, wheels) -> None:
    project(tmp_path / "code")
    archive = wheel(tmp_path / "vendored", "gamma")
    found = prepare(f"./code[x]\n./vendored/{archive.name}", tmp_path, wheels, checkout=lambda: Checkout(tmp_path))
    assert python(found, "import mine, gamma; print(gamma.VERSION)") == "1.0"
    assert found.installed == f"alpha==1.0\n./vendored/{archive.name}\n./code[x]"
    wheel(tmp_path / "vendored", "gamma", files={"more.py": "X = 1"})
    again = prepare(f"./code[x]\n./vendored/{archive.name}", tmp_path, wheels, checkout=lambda: Checkout(tmp_path))
    assert not again.from_cache, "another archive under the same name is another environment"


@pytest.mark.skipif(len(VERSIONS) < 2, reason="one interpreter only")
@BOTH
def test_the_python_that_the_task_names_runs_it(tmp_path, wheels, manager) -> None:
    version, path = next(iter(VERSIONS.items()))
    environ = {"PATH": f"{path.parent}:/usr/bin:/bin"}
    found = prepare(
        "alpha==1.0", tmp_path, wheels, manager=manager, environ=environ, script={"binary": f"python{version}"}
    )
    assert python(found, "import sys, alpha; print('%d.%d' % sys.version_info[:2])") == version


@pytest.mark.skipif(not VERSIONS, reason="one interpreter only")
def test_a_missing_python_is_the_nearest_or_a_failure_as_configured(tmp_path, wheels) -> None:
    version, path = next(reversed(VERSIONS.items()))
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / f"python{version}").symlink_to(path)
    told: list[str] = []
    script = {"binary": "python3.99"}
    environ = {"PATH": str(binaries), names.MISSING_PYTHON: "nearest"}
    found = prepare("alpha==1.0", tmp_path, wheels, environ=environ, script=script, told=told)
    assert python(found, "import sys; print('%d.%d' % sys.version_info[:2])") == version
    assert any("python3.99, which this image does not have" in line for line in told)
    environ[names.MISSING_PYTHON] = "fail"
    with pytest.raises(EnvironmentBuildError, match=r"python3\.99"):
        prepare("alpha==1.0", tmp_path, wheels, environ=environ, script=script)


def test_uv_brings_a_missing_python_by_its_mirror_once_and_a_failure_is_remembered(tmp_path, wheels) -> None:
    """The mirror is a folder with nothing in it: what is asked of it stands in uv's words."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    told: list[str] = []
    environ = {"PATH": "/usr/bin:/bin", "UV_PYTHON_INSTALL_MIRROR": mirror.as_uri(), "UV_OFFLINE": ""}
    script = {"binary": "python3.9"}
    prepare("alpha==1.0", tmp_path, wheels, environ=environ, script=script, told=told)
    assert any("uv installs it" in line for line in told)
    assert any("uv could not bring python3.9" in line and "mirror" in line for line in told), told
    told.clear()
    assert prepare("alpha==1.0", tmp_path, wheels, environ=environ, script=script, told=told).from_cache
    assert not any("uv" in line for line in told)


@pytest.mark.skipif("3.9" not in VERSIONS, reason="no other interpreter")
def test_a_python_that_uv_brought_before_is_found_in_the_cache(tmp_path, wheels) -> None:
    brought = pythons.folder_of(tmp_path / "cache") / "cpython-3.9.25-linux-x86_64-gnu" / "bin"
    brought.mkdir(parents=True)
    (brought / "python3.9").symlink_to(VERSIONS["3.9"])
    found = prepare("", tmp_path, wheels, environ={"PATH": "/usr/bin:/bin"}, script={"binary": "python3.9"})
    assert python(found, "import sys; print('%d.%d' % sys.version_info[:2])") == "3.9"


@pytest.mark.parametrize(
    ("binary", "configuration", "environ", "expected"),
    [
        ("python3", {}, {}, "python3"),
        ("bash", {}, {}, "python3"),
        ("python3.9", {"ignore_requested_python_version": True}, {}, "python3"),
        ("", {"default_python": "3.9"}, {}, "python3.9"),
        ("", {"python_binary": "python3.9"}, {}, "python3.9"),
        ("", {"default_python": "3.8"}, {"CLEARML_PYTHON_VER": "3.9"}, "python3.9"),
    ],
)
def test_which_python_counts(tmp_path, binary, configuration, environ, expected) -> None:
    from bootstrap.commands import Programs
    from clearml_api.models import Script

    for name in ("python3", "python3.9"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    found = interpreter.choose(
        Script(binary=binary), Configuration(tree={"agent": configuration}), {"PATH": str(tmp_path), **environ},
        cache=tmp_path, programs=Programs(), tell=[].append,
    )  # fmt: skip
    assert found.path == tmp_path / expected


@BOTH
def test_an_images_own_packages_count_with_system_site_packages(tmp_path, wheels, manager) -> None:
    """The image's Python is a virtual environment with alpha in it, as images that bring torch often are."""
    image = tmp_path / "image"
    subprocess.run([sys.executable, "-m", "virtualenv", "-q", "--no-download", image], check=True)
    words = [image / "bin" / "pip", "install", "-q", "--no-index", "--find-links", wheels, "alpha==1.0"]
    subprocess.run(words, check=True)
    told: list[str] = []
    more = {
        "environ": {"PATH": f"{image / 'bin'}:/usr/bin:/bin"},
        "configuration": configured(system_site_packages=True),
    }
    found = prepare("beta", tmp_path, wheels, manager=manager, told=told, **more)
    assert found.installed == "beta==1.0", "alpha is the image's"
    assert python(found, "import alpha, beta; print(alpha.__file__)").startswith(str(image))
    entry = tmp_path / "cache" / "environments" / found.key
    assert not list(entry.rglob("alpha.py"))


def test_packages_that_look_around_themselves(tmp_path, wheels) -> None:
    """sys.prefix, the scripts folder and sysconfig are those of the task's own environment, as in a plain venv."""
    found = prepare("alpha==1.0", tmp_path, wheels)
    code = (
        "import json, sys, sysconfig, shutil, alpha; print(json.dumps([sys.prefix, sysconfig.get_path('purelib'),"
        " shutil.which('alpha-tool'), sysconfig.get_path('include')]))"
    )
    prefix, purelib, tool, include = json.loads(python(found, code))
    folder = str(found.python.parent.parent)
    assert prefix == folder and purelib.startswith(folder) and tool == f"{folder}/bin/alpha-tool"
    plain = subprocess.run(
        [Path(python(found, "import sys; print(sys._base_executable)")), "-c",
         "import sysconfig; print(sysconfig.get_path('include'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert include == plain, "an extension that is compiled finds Python's headers"
    listed = subprocess.run([found.python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "alpha" in listed


ENVIRONMENT_YML = "name: x\nchannels: [conda-forge]\ndependencies: [python=3.11, numpy]\n"


def test_conda_without_conda_names_the_way_out(tmp_path, wheels) -> None:
    (tmp_path / "environment.yml").write_text(ENVIRONMENT_YML)
    for requirements in ({}, {"conda": "numpy=1.26"}):
        with pytest.raises(EnvironmentBuildError, match=r"(?s)needs conda.*engine: clearml-agent"):
            prepare(requirements, tmp_path, wheels, script={"repository": "r"})


def test_conda_of_the_image_makes_the_environment(tmp_path, wheels) -> None:
    """A stand-in for micromamba that makes a plain venv: channels cannot be reached here."""
    (tmp_path / "environment.yml").write_text(ENVIRONMENT_YML)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "micromamba"
    program.write_text(
        f'#!/bin/sh\necho "$@" >{tmp_path}/asked\nwhile [ "$1" != --prefix ]; do shift; done\n'
        f'exec {sys.executable} -m venv --without-pip "$2"\n'
    )
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    found = prepare({}, tmp_path, wheels, environ=environ, script={"repository": "r"})
    assert python(found, "import sys; print(sys.prefix)") == found.environ["CONDA_PREFIX"]
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("create --yes --quiet --prefix") and "environment.yml" in asked
