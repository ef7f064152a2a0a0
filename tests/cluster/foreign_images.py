"""Images of other people, with nothing of ours in them: a Debian without git or Python, and one with an older Python.

Each takes half a minute to make and is kept in the cache. (The third, a static busybox alone, is in image_set.)
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster import tools
from tests.cluster.images import Image, Layer

BARE_IMAGE = "foreign.test/debian-slim:1"
OLD_PYTHON_IMAGE = "foreign.test/python:3.9"
_UNREAD = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def bare() -> Image:
    """Debian 12 as `debian:bookworm-slim`: no git, no Python, no certificates."""
    return Image(BARE_IMAGE, (_debian("bookworm"),), {"Cmd": ["bash"]})


def old_python() -> Image:
    """Debian 11 with its own Python 3.9, which podstrap itself could not run on; no git."""
    return Image(OLD_PYTHON_IMAGE, (_debian("bullseye", "python3-minimal", "python3-distutils"),), {"Cmd": ["bash"]})


def _debian(suite: str, *packages: str) -> Layer:
    def build(folder: Path) -> None:
        tools.packages("mmdebstrap")
        words: list[str | Path] = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=tar"]
        words += [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNREAD]
        words += [f"--include={','.join(packages)}"] if packages else []
        tools.run([*words, suite, folder / "layer.tar"])
        Layer(folder / "layer.tar").remember()

    return Layer(tools.once(f"debian-{suite}-{tools.key(suite, *packages, *_UNREAD)}", build) / "layer.tar")
