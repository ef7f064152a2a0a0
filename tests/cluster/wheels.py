"""The clearml SDK and what it needs, as wheels for the Python of our images: downloaded once a machine."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from tests.cluster import tools

PYTHON = "3.11"
"""Debian 12's, which our task image and our folder have."""


def clearml() -> Path:
    """A folder of wheels."""
    wanted = f"clearml=={version('clearml')}"

    def build(folder: Path) -> None:
        words: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder]
        platform = ["--python-version", PYTHON, "--only-binary=:all:"]
        kinds = [f"--platform=manylinux{one}_x86_64" for one in ("2014", "_2_17", "_2_28")]
        tools.run([*words, *platform, *kinds, wanted])

    return tools.once(f"wheels-{tools.key(wanted, PYTHON)}", build)
