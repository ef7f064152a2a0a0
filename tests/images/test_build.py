"""`make images`: what each program is told, and what the images' requirements are held to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from images import build
from images.build import RECIPES, Wish, commands
from tests.support import REPOSITORY_ROOT

REQUIREMENTS = REPOSITORY_ROOT / "images" / "requirements"


def test_one_platform_is_built_and_tagged_and_pushed() -> None:
    wish = Wish("podman", prefix="example.org/ml", tag="1.2", push=True, platforms=("linux/arm64",))
    built, pushed = commands("controller", wish)
    assert built[:2] == ["podman", "build"]
    assert built[-3:] == ["--tag", "example.org/ml/controller:1.2", "."]
    assert built[built.index("--platform") + 1] == "linux/arm64"
    assert pushed == ["podman", "push", "example.org/ml/controller:1.2"]


@pytest.mark.parametrize("engine", build.ENGINES)
def test_two_platforms_are_one_name(engine: str) -> None:
    wish = Wish(engine, push=True, platforms=("linux/amd64", "linux/arm64"))
    built, *pushed = commands("task", wish)
    assert built[built.index("--platform") + 1] == "linux/amd64,linux/arm64"
    if engine == "docker":
        assert built[1:3] == ["buildx", "build"]
        assert "--push" in built
        assert not pushed
    else:
        assert built[built.index("--manifest") + 1] == "podstrap/task:latest"
        assert pushed == [
            [engine, "manifest", "push", "--all", "podstrap/task:latest", "docker://podstrap/task:latest"]
        ]


def test_the_cuda_image_is_the_task_image_on_another_base() -> None:
    plain, cuda = (commands(name, Wish("docker"))[0] for name in ("task", "task-cuda"))
    differing = [(one, two) for one, two in zip(plain, cuda, strict=True) if one != two]
    assert differing[0] == (
        "TASK_BASE=debian:bookworm-slim",
        "TASK_BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04",
    )
    assert len(differing) == 2, "the base and the tag"


def test_a_base_of_ones_own_and_a_bundle_of_certificates() -> None:
    [words] = commands("task", Wish("buildah", base="ubuntu:24.04", certificates="/ca.pem", options=("--no-cache",)))
    assert "TASK_BASE=ubuntu:24.04" in words
    assert "id=certificates,src=/ca.pem" in words
    assert "--no-cache" in words


def test_every_target_and_argument_stands_in_the_dockerfile() -> None:
    text = (REPOSITORY_ROOT / "images" / "Dockerfile").read_text()
    for recipe in RECIPES.values():
        assert f" AS {recipe.target}\n" in text
        assert not recipe.argument or f"ARG {recipe.argument}=" in text


def test_without_any_program_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"none of docker, podman and buildah is here and works.*apt-get install"):
        build.find_engine()
    with pytest.raises(SystemExit, match="podman was not found"):
        build.find_engine("podman")


def test_a_docker_without_its_daemon_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, code in (("docker", 1), ("buildah", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nonexistent")
    assert build.find_engine() == "buildah"


def test_an_unknown_image_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build.main(["agent"])
    assert "no image is called agent; there are bootstrap, controller, task, task-cuda" in capsys.readouterr().err


def pinned(name: str) -> dict[str, str]:
    """Package -> version of a requirements file, in which everything is pinned and hashed."""
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if entry.strip() and not entry.startswith("#")]
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==\S+ (; .+ )?\\\n", entry), entry
        assert "--hash=sha256:" in entry, entry
    return {entry.split("==")[0]: entry.split("==")[1].split()[0] for entry in entries}


@pytest.mark.parametrize(("name", "extra"), [("bootstrap", "pod"), ("controller", "controller")])
def test_pinned_requirements_are_what_pyproject_asks_for(name: str, extra: str) -> None:
    have = pinned(name)
    for wanted in of_pyproject(extra):
        if wanted.marker is None or wanted.marker.evaluate({"python_version": "3.11"}):
            version = have.get(wanted.name.lower().replace("_", "-"))
            assert version, f"{wanted} is not in images/requirements/{name}.txt: make image-requirements"
            assert wanted.specifier.contains(version), f"{wanted}: {version} is pinned; make image-requirements"


def of_pyproject(extra: str) -> list[Requirement]:
    """podstrap's own requirements and those of an extra, as they stand in the file now."""
    text = (REPOSITORY_ROOT / "pyproject.toml").read_text()
    found = []
    for key in ("dependencies", extra):
        lines = re.search(rf"^{key} = \[(.*?)\](?:  #.*)?$", text, re.M | re.S)
        assert lines, key
        found += [Requirement(one) for one in re.findall(r'"([^"]+)"', lines[1])]
    assert found
    return found


def test_what_the_build_itself_uses_is_pinned_too() -> None:
    have = pinned("builder")
    for line in (REQUIREMENTS / "builder.in").read_text().splitlines():
        assert line.startswith("#") or line in have
