"""podstrap's images as images/Dockerfile makes them: built here by buildah, on Debian that mmdebstrap brings, because
no registry can be reached. What was built is kept by its inputs, so nothing happens until one of them changes.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from images.build import Wish, commands
from tests.cluster import tools
from tests.cluster.images import Image, Layer
from tests.support import REPOSITORY_ROOT

SUITE = "bookworm"
KEPT = 8
"""Builds of an image that stay in the cache: those of a few working trees."""
OWN_IMAGE = REPOSITORY_ROOT / "images" / "examples" / "own-image"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_HOST = "podstrap.test"


def image(name: str, reference: str = "") -> Image:
    """One of `images.build.RECIPES` with this working tree's podstrap."""
    return read(layout(name), reference or f"{_HOST}/{name}:1")


def layout(name: str) -> Path:
    """It in OCI's layout, its layers compressed as in a registry."""
    built = tools.once(f"image-{name}-{tools.key(*_inputs())}", lambda folder: _build(name, folder))
    forget_old(f"image-{name}-")
    return built / "oci"


def own_image() -> Image:
    """The example of images/examples/own-image, on this working tree's task image."""
    dockerfile = (OWN_IMAGE / "Dockerfile").read_bytes()

    def make(folder: Path) -> None:
        words: list[str | Path] = ["buildah", "build", "--isolation", "chroot", "--quiet", "--layers"]
        if _CERTIFICATES.exists():  # its downloads go through whatever this machine goes through
            (folder / "pip.conf").write_text(f"[global]\ncert = {_CERTIFICATES}\n")
            mounts = (f"{_CERTIFICATES}:{_CERTIFICATES}:ro", f"{folder / 'pip.conf'}:/etc/pip.conf:ro")
            words += [word for mount in mounts for word in ("--volume", mount)]
        base = build("task")
        reference = base.replace("/task:", "/own-image:")
        tools.run([*words, "--build-arg", f"BASE={base}", "--tag", reference, OWN_IMAGE])
        export(reference, folder / "oci")

    made = tools.once(f"image-own-{tools.key(dockerfile, *_inputs())}", make)
    forget_old("image-own-")
    return read(made / "oci", f"{_HOST}/own-image:1")


def read(layout: Path, reference: str) -> Image:
    """An image in a folder of OCI's layout."""
    manifest = _blob(layout, json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    described = json.loads(manifest.read_bytes())
    whole = json.loads(_blob(layout, described["config"]["digest"]).read_bytes())
    config: dict[str, Any] = whole["config"]
    blobs = [_blob(layout, one["digest"]) for one in described["layers"]]
    layers = tuple(_plain(blob, name) for blob, name in zip(blobs, whole["rootfs"]["diff_ids"], strict=True))
    labels = {**config.get("Labels", {}), "test.podstrap/reference": reference}
    return Image(reference, layers, {**config, "Labels": labels})


def debian() -> str:
    """A small Debian that buildah knows, as base of every image; its reference."""

    def build(folder: Path) -> None:
        tools.packages("mmdebstrap")
        chosen: list[str | Path] = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=tar"]
        tools.run([*chosen, SUITE, folder / "root.tar"])
        (folder / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")

    folder = tools.once(f"debian-{SUITE}", build)
    reference = f"{_HOST}/debian:{SUITE}"
    if not known(reference):
        tools.run(["buildah", "build", "--isolation", "chroot", "--tag", reference, folder])
    return reference


def known(reference: str) -> bool:
    """Whether buildah has it."""
    tools.packages("buildah")
    return subprocess.run(["buildah", "inspect", "--type", "image", reference], capture_output=True).returncode == 0


def build(name: str) -> str:
    """Let buildah make it; its reference there, which tells its inputs: other working trees use the same buildah."""
    base = debian()
    wish = Wish(
        engine="buildah", prefix=_HOST, tag=tools.key(*_inputs()), version="0.0.test", revision="test", build_base=base,
        base=base if name.startswith("task") else "",
        certificates=str(_CERTIFICATES) if _CERTIFICATES.exists() else "",
        options=("--isolation", "chroot", "--quiet"),
    )  # fmt: skip
    for command in commands(name, wish):
        tools.run(list(command), where=REPOSITORY_ROOT)
    return wish.reference(name)


def export(reference: str, layout: Path) -> None:
    """An image that buildah has, in OCI's layout."""
    tools.run(["buildah", "push", "--quiet", reference, f"oci:{layout}"])


def _build(name: str, folder: Path) -> None:
    export(build(name), folder / "oci")


def _inputs() -> Iterator[bytes]:
    """All that goes in, but for README.md and LICENSE, which are only told of it."""
    yield SUITE.encode()
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    words += [
        f"images/{name}" for name in ("Dockerfile", "selfcontained.py", "launcher.c", "compile-git", "requirements")
    ]
    words += ["pyproject.toml", "protocol", "clearml_api", "bootstrap", "controller", "standalone", "cli"]
    listed = subprocess.run(words, cwd=REPOSITORY_ROOT, check=True, capture_output=True, text=True).stdout
    for name in sorted(filter(None, listed.split("\0"))):
        file = REPOSITORY_ROOT / name
        if file.is_file():
            yield name.encode()
            yield file.read_bytes()


def _plain(blob: Path, name: str) -> Layer:
    """A layer as a tar file: buildah compresses what it writes in this layout, whatever it is told."""
    with blob.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if not compressed:
        return Layer(blob)
    plain = blob.parents[2] / "plain" / f"{name.removeprefix('sha256:')}.tar"
    if not plain.exists():
        plain.parent.mkdir(exist_ok=True)
        beside = plain.with_suffix(f".{os.getpid()}")
        with gzip.open(blob) as source, beside.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        beside.replace(plain)
        Layer(plain).remember()
    return Layer(plain)


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def forget_old(prefix: str) -> None:
    """Each change of our code is a build; only the newest stay."""
    found = sorted(tools.cache().glob(f"{prefix}[0-9a-f]*"), key=lambda one: one.stat().st_mtime)
    for one in found[:-KEPT]:
        shutil.rmtree(one, ignore_errors=True)


if __name__ == "__main__":  # to look at one by hand: python -m tests.cluster.built task
    for each in sys.argv[1:]:
        print(image(each).digest)
