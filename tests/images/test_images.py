"""Each image as its Dockerfile makes it: who runs in it, what starts, and that it needs no more than it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import image_sizes
from protocol import exit_codes
from tests.cluster import built
from tests.images.conftest import root_of
from tests.images.container import STRANGER, Container

NAMES = ("bootstrap", "controller", "task")
OWN_USER = 10001


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_labelled_and_starts_without_a_shell_as_nobody_special(name: str) -> None:
    config = built.image(name).config
    assert config["User"] == f"{OWN_USER}:0"
    assert config["Entrypoint"] == ["/opt/podstrap/bin/podstrap"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.0.test"
    for one in ("title", "description", "licenses", "revision"):
        assert labels[f"org.opencontainers.image.{one}"]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_as_small_as_its_readme_promises(name: str) -> None:
    sizes = image_sizes.measured(name)
    for (image, what), limit in image_sizes.LIMITS.items():
        assert image != name or sizes[what] < limit, what


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("user", [OWN_USER, STRANGER])
def test_an_image_runs_as_any_user_on_a_read_only_root(name: str, user: int) -> None:
    one = Container(root_of(built.image(name)), user=user)
    assert "COMMAND" in one.run("/opt/podstrap/bin/podstrap", "--help")


def test_the_controller_has_what_it_needs_and_nothing_more() -> None:
    root = root_of(built.image("controller"))
    one = Container(root)
    assert "--drain" in one.run("/opt/podstrap/bin/podstrap", "controller", "--help")
    assert "resources:" in one.run("/opt/podstrap/bin/podstrap", "role")
    assert one.run("/opt/podstrap/bin/python", "-c", "import kubernetes, msgspec, pydantic; print('all')") == "all\n"
    assert not (root / "bin").exists()
    assert not (root / "opt/podstrap/tools").exists()


@pytest.mark.parametrize("name", ["bootstrap", "task"])
def test_a_pods_image_has_no_controller_and_says_so(name: str) -> None:
    root = root_of(built.image(name))
    assert not (root / "opt/podstrap/lib/python3.11/site-packages/controller").exists()
    done = Container(root).end("/opt/podstrap/bin/podstrap", "role")
    assert done.returncode == exit_codes.FAILED
    assert "podstrap role: yaml is not in this installation" in done.stdout
    assert "try: the image podstrap/controller" in done.stdout


def test_a_task_finds_git_and_its_own_python_in_the_task_image() -> None:
    one = Container(root_of(built.image("task")))
    assert one.run("podstrap", "--version").startswith("podstrap ")
    for words in (["git", "--version"], ["git", "lfs", "version"], ["ssh", "-V"], ["uv", "--version"]):
        one.run(*words) if words[0] != "ssh" else one.end(*words)
    assert one.run("python3", "-c", "import sys; print(sys.prefix)") == "/usr\n"


def test_who_is_of_group_root_may_write_where_the_image_says() -> None:
    root = root_of(built.image("task"))
    for place in ("home/podstrap", "podstrap/work", "podstrap/cache"):
        known = (root / place).stat()
        assert (known.st_gid, known.st_mode & 0o070) == (0, 0o070), place


def test_an_image_of_a_users_own_is_ours_and_two_lines(tmp_path: Path) -> None:
    image = built.own_image()
    one = Container(root_of(image))
    assert image.config["User"] == f"{OWN_USER}:0"
    assert one.run("/opt/podstrap/bin/podstrap", "--version").startswith("podstrap ")
    environ = dict(line.split("=", 1) for line in image.config["Env"])
    python = environ["PATH"].split(":")[0] + "/python"
    assert one.run(python, "-c", "import tomlkit; print(tomlkit.__version__)").strip()
    assert environ["CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL"] == "1"
    lines = (built.OWN_IMAGE / "Dockerfile").read_text().splitlines()
    assert len([line for line in lines if line.startswith(("RUN", "ENV", "COPY", "USER"))]) == 2
