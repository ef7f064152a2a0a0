"""`podstrap status` and `podstrap explain` against a real server and the local cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from clearml_api import queues, tasks
from clearml_api.session import Session
from tests import support

SETTINGS = """
pollSeconds: 0.2
queues:
  {name}: {{queueSettings: {{maxPods: 1}}}}
  {name}-paused: {{paused: true}}
  {name}-nowhere: {{}}
  {name}-pattern-*: {{queueSettings: {{maxPods: 7}}}}
"""


class World:
    """A queue, a paused one, one that the server does not have, and a controller that works them until told."""

    def __init__(self, session: Session, environ: dict[str, str], folder: Path, name: str) -> None:
        self.session, self.folder, self.name = session, folder, name
        self.environ = {**support.base_environ(), **environ}
        names = (name, f"{name}-paused", f"{name}-pattern-a")
        self.queues = {one: queues.create(session, one) for one in names}
        self.controller = support.controller(environ, SETTINGS.format(name=name), folder)

    def enqueue(self, code: str, queue: str = "", **script: object) -> str:
        task = support.create_task(self.session, "a task", code, **script)
        tasks.enqueue(self.session, task, self.queues[queue or self.name])
        return task

    def podstrap(self, *words: str) -> subprocess.CompletedProcess[str]:
        where = [
            "--config",
            str(self.folder / "settings.yaml"),
            "--cluster",
            "local",
            "--state",
            str(self.folder / "cluster"),
        ]
        environ = {**self.environ, "PYTHONPATH": str(support.REPOSITORY_ROOT)}
        return subprocess.run(
            [*support.PODSTRAP, *words, *where], env=environ, capture_output=True, text=True, timeout=60
        )


@pytest.fixture
def world(api: Session, server_environ: dict[str, str], tmp_path: Path):
    name = f"status-{tmp_path.name}"
    one = World(api, server_environ, tmp_path, name)
    yield one
    one.controller.stop()


def test_what_runs_what_waits_and_what_failed(world: World) -> None:
    failed = world.enqueue("raise SystemExit(3)")
    world.controller.start()
    support.ended(world.session, failed, log=world.controller)
    running = world.enqueue("import time\ntime.sleep(600)")
    support.until(lambda: support.task(world.session, running).status == "in_progress", 30, world.controller.text)
    waits = world.enqueue("print(1)")
    paused = world.enqueue("print(1)", f"{world.name}-paused")
    support.until(lambda: "maxPods" in support.task(world.session, waits).status_message, 20, world.controller.text)

    found = json.loads(world.podstrap("status", "-o", "json").stdout)
    rows = {row["queue"]: row for row in found["queues"]}
    assert (rows[world.name]["entries"], rows[world.name]["running"], rows[world.name]["limit"]) == (1, 1, 1)
    assert rows[f"{world.name}-paused"]["note"] == "paused"
    assert rows[f"{world.name}-nowhere"]["note"] == "not on the server"
    by_pattern = rows[f"{world.name}-pattern-a"]
    assert (by_pattern["limit"], by_pattern["note"]) == (7, f"as {world.name}-pattern-*")
    stages = {row["task"]: (row["stage"], row["reason"]) for row in found["jobs"]}
    assert stages[running][0] == "running" and stages[failed] == ("failed", "exit code 3")

    table = world.podstrap("status").stdout
    assert table.splitlines()[0].split() == ["QUEUE", "ENTRIES", "JOBS", "RUNNING", "LIMIT", "NOTE"]
    assert failed in table and "exit code 3" in table
    assert "NODE" in world.podstrap("status", "-o", "wide").stdout

    assert "> limits    queue: 1 of 1 pods (maxPods)" in world.podstrap("explain", waits).stdout
    said = world.podstrap("explain", paused).stdout
    assert f"place 1 of 1 in '{world.name}-paused'" in said and "> limits    queue" in said and "paused" in said
    said = world.podstrap("explain", failed).stdout
    assert "is failed" in said and "exit code 3" in said and "> run" in said and "TaskFailed" in said
    assert "holds it, attempt 1" in world.podstrap("explain", running).stdout
    world.session.call("tasks.stop", {"task": running})


def test_a_template_that_makes_no_job_and_a_task_that_is_not_there(world: World) -> None:
    refused = world.enqueue("print(1)", container={"image": "not an image!", "arguments": ""})
    said = world.podstrap("explain", refused)
    assert said.returncode == 0 and "> template" in said.stdout and "no image's name" in said.stdout
    gone = world.podstrap("explain", "0" * 32)
    assert gone.returncode == 1 and "does not know it" in gone.stdout
