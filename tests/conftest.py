"""The server under test, for every folder: the one of the environment (CLEARML_API_HOST and keys) when given, so that
the same tests pass on a real ClearML server; else the embedded one, as a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from clearml_api.session import Session
from tests import support


@pytest.fixture(scope="session")
def server_environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables by which a client finds the server."""
    if os.environ.get("CLEARML_API_HOST"):
        yield {name: value for name, value in os.environ.items() if name.startswith("CLEARML_")}
        return
    server = support.Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server.environ
    server.stop()


@pytest.fixture(scope="session")
def api(server_environ: dict[str, str]) -> Session:
    """A session on it."""
    return support.session_of(server_environ)
