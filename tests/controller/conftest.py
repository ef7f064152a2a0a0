"""The server of the environment when one is given, else the embedded one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
