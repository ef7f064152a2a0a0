"""The server under test: the one of the environment (CLEARML_API_HOST and keys) when given, else the embedded one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearml_api.session import Session
from tests import support


@pytest.fixture(scope="session")
def server_environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if os.environ.get("CLEARML_API_HOST"):
        yield {name: value for name, value in os.environ.items() if name.startswith("CLEARML_")}
        return
    server = support.Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server.environ
    server.stop()


@pytest.fixture(scope="session")
def api(server_environ: dict[str, str]) -> Session:
    return support.session_of(server_environ)


@pytest.fixture
def client_environ(server_environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """What a real client's process gets: the server, an empty home, this environment's programs."""
    import sys

    home = tmp_path / "home"
    home.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**support.base_environ(), **server_environ, "HOME": str(home), "PATH": path}
