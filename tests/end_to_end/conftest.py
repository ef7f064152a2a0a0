"""One server and one running controller for all end-to-end tests of a worker process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clearml_api import tasks
from clearml_api.session import Session
from tests import support

SETTINGS = """
pollSeconds: 0.3
orphanGraceSeconds: 3
reconcileSeconds: 2
queues:
  {queue}: {{retryBackoffSeconds: 0}}
  {queue}-again: {{retryOwnFailures: 1, retryBackoffSeconds: 0.5}}
"""


@dataclass
class World:
    """The server, a session on it, and a controller that serves one queue."""

    environ: dict[str, str]
    session: Session
    queue: str
    folder: Path
    controller: support.Process
    again: str = ""

    def run(self, name: str, code: str = "", *, again: bool = False, **script: object) -> str:
        """Create a task and enqueue it, `again`: in the queue that tries failed tasks once more; its id."""
        task = support.create_task(self.session, name, code, **script)
        tasks.enqueue(self.session, task, self.again if again else self.queue)
        return task


@pytest.fixture(scope="session")
def world(server_environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("controller")
    session = support.session_of(server_environ)
    name = f"end-to-end-{os.getpid()}"
    queue, again = support.queue_id(session, name), support.queue_id(session, f"{name}-again")
    controller = support.controller(server_environ, SETTINGS.format(queue=name), folder)
    controller.start()
    yield World(server_environ, session, queue, folder, controller, again)
    assert controller.popen and controller.popen.poll() is None, f"the controller died:\n{controller.text()[-4000:]}"
    controller.stop()
