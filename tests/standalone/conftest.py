"""The server under test: the one of the environment (CLEARML_API_HOST and keys) when given, else the embedded one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import support


@pytest.fixture
def client_environ(server_environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """What a real client's process gets: the server, an empty home, this environment's programs."""
    import sys

    home = tmp_path / "home"
    home.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**support.base_environ(), **server_environ, "HOME": str(home), "PATH": path}
