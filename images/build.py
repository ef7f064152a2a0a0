"""Build podstrap's images with docker, podman or buildah: `make images`.

    python images/build.py                                all of them, for this machine
    python images/build.py task --base ubuntu:24.04       one, on another base
    python images/build.py --prefix registry.example/ml/podstrap --push --platform linux/amd64,linux/arm64

What an image is made of stands in images/Dockerfile; here is which target and base each name means, and how each
program spells what is asked of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("docker", "podman", "buildah")


@dataclass(frozen=True)
class Recipe:
    """A target of images/Dockerfile, the argument that names its base, and that base."""

    target: str
    argument: str = ""
    base: str = ""


RECIPES = {
    "bootstrap": Recipe("bootstrap"),
    "controller": Recipe("controller", "CONTROLLER_BASE", "scratch"),
    "task": Recipe("task", "TASK_BASE", "debian:bookworm-slim"),
    "task-cuda": Recipe("task", "TASK_BASE", "nvidia/cuda:12.8.1-runtime-ubuntu24.04"),
}


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    engine: str
    prefix: str = "podstrap"
    tag: str = "latest"
    version: str = "0"
    revision: str = "unknown"
    platforms: tuple[str, ...] = ()
    base: str = ""
    build_base: str = ""
    certificates: str = ""
    """A file of certificates for the build's own downloads, where a proxy opens TLS."""
    push: bool = False
    options: tuple[str, ...] = ()
    """Handed to the engine's `build` as they are."""

    def reference(self, name: str) -> str:
        return f"{self.prefix}/{name}:{self.tag}"


def commands(name: str, wish: Wish) -> list[list[str]]:
    """What makes, and pushes, one image."""
    recipe, reference = RECIPES[name], wish.reference(name)
    several = len(wish.platforms) > 1
    arguments = {"VERSION": wish.version, "REVISION": wish.revision, "BUILD_BASE": wish.build_base}
    if recipe.argument:
        arguments[recipe.argument] = wish.base or recipe.base
    build = [wish.engine, *(["buildx"] if wish.engine == "docker" and several else []), "build"]
    build += ["--file", "images/Dockerfile", "--target", recipe.target]
    for argument, value in arguments.items():
        build += ["--build-arg", f"{argument}={value}"] if value else []
    build += ["--secret", f"id=certificates,src={wish.certificates}"] if wish.certificates else []
    build += ["--platform", ",".join(wish.platforms)] if wish.platforms else []
    if wish.engine == "buildah":
        build += ["--layers"]
    build += list(wish.options)
    if not several:
        push = [[wish.engine, "push", reference]] if wish.push else []
        return [[*build, "--tag", reference, "."], *push]
    if wish.engine == "docker":  # an image for several platforms is a thing of registries
        return [[*build, "--tag", reference, *(["--push"] if wish.push else []), "."]]
    push = [[wish.engine, "manifest", "push", "--all", reference, f"docker://{reference}"]] if wish.push else []
    return [[*build, "--manifest", reference, "."], *push]


def find_engine(wanted: str = "") -> str:
    """The one that is asked for, else the first that works here. Exits with what to install."""
    for name in [wanted] if wanted else ENGINES:
        if shutil.which(name) and (wanted or _works(name)):
            return name
    what = f"{wanted} was not found" if wanted else "none of docker, podman and buildah is here and works"
    raise SystemExit(f"images: {what}. Install one (Debian: apt-get install buildah), or start docker's daemon")


def _works(engine: str) -> bool:
    """docker is nothing without its daemon."""
    return subprocess.run([engine, "info"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def version() -> str:
    """podstrap's, as pyproject.toml says it."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    if found is None:
        raise SystemExit(f"images: {ROOT / 'pyproject.toml'} names no version")
    return found[1]


def revision() -> str:
    """The commit, when this is a git checkout."""
    asked = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "unknown"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build podstrap's images with docker, podman or buildah.")
    parser.add_argument("names", nargs="*", metavar="IMAGE", help=f"of {', '.join(RECIPES)}; all when none is named")
    parser.add_argument("--engine", default=os.environ.get("ENGINE", ""), choices=("", *ENGINES))
    parser.add_argument("--prefix", default="podstrap", help="before /IMAGE:TAG, with the registry's host (podstrap)")
    parser.add_argument("--tag", default=version(), help="podstrap's version when not given")
    parser.add_argument("--platform", default="", help="linux/amd64, linux/arm64 or both with a comma; this machine's")
    parser.add_argument("--base", default="", help="base of the named image instead of its own")
    parser.add_argument("--build-base", default="", help="Debian 12 in which everything is made (debian:bookworm-slim)")
    parser.add_argument("--certificates", default="", help="bundle for downloads through a proxy that opens TLS")
    parser.add_argument("--push", action="store_true", help="push what was built")
    parser.add_argument("--options", default="", help="more words for the engine's build, e.g. '--isolation chroot'")
    given = parser.parse_args(words)
    if unknown := [name for name in given.names if name not in RECIPES]:
        parser.error(f"no image is called {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    if given.base and len(given.names) != 1:
        parser.error("--base is for one image: name it")
    wish = Wish(
        engine=find_engine(given.engine), prefix=given.prefix, tag=given.tag, version=version(), revision=revision(),
        platforms=tuple(filter(None, given.platform.split(","))), base=given.base, build_base=given.build_base,
        certificates=given.certificates, push=given.push, options=tuple(shlex.split(given.options)),
    )  # fmt: skip
    for name in given.names or RECIPES:
        for command in commands(name, wish):
            print(f"images: {shlex.join(command)}", file=sys.stderr, flush=True)
            if code := subprocess.run(command, cwd=ROOT).returncode:
                print(f"images: {name} was not built: exit code {code}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
