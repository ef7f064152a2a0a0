"""What the end-to-end tests share: a server, a controller as a process of its own, tasks, git repositories.

The server is the one of the environment (CLEARML_API_HOST and keys) when given, so that the same tests pass on a
real ClearML server; else the embedded one as a subprocess on a free port.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clearml_api import queues, tasks
from clearml_api.configuration import load
from clearml_api.models import Task
from clearml_api.session import Session

PODSTRAP = [sys.executable, "-m", "cli.main"]
REPOSITORY_ROOT = Path(__file__).resolve().parent.parent
SEED_VALUES = """
agentk8sglue:
  queues:
    example_queue_1:
      templateOverrides:
        nodeSelector:
          nvidia.com/gpu.product: A100-SXM4-40GB-MIG-1g.5gb
        resources:
          limits:
            nvidia.com/gpu: 1
    example_queue_2:
      templateOverrides:
        nodeSelector:
          nvidia.com/gpu.product: A100-SXM4-40GB
        resources:
          limits:
            nvidia.com/gpu: 2
"""
"""The snippet of ClearML's Kubernetes documentation, as it stands there."""
ENDED = ("completed", "failed", "stopped")
_GIT = {
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip


def until(what: Callable[[], Any], seconds: float = 60.0, describe: Callable[[], str] = lambda: "") -> Any:
    """The first truthy answer of `what`, asked every 50 ms; AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := what():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds:g} s: {describe()}")


class Process:
    """A podstrap command as a process, its output in a file, killed with whatever it started at the end."""

    def __init__(self, words: list[str], environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._words = words
        self._environ = {**environ, "PYTHONPATH": str(REPOSITORY_ROOT)}
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [*PODSTRAP, *self._words], env=self._environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill9(self) -> None:
        if self.popen and self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()

    def stop(self, seconds: float = 15) -> int:
        if self.popen is None:
            return 0
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"did not stop within {seconds} s: {self.text()[-2000:]}") from None

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Server(Process):
    """The embedded server; `kill9` and `start` again keep port, keys and data."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.environ = {
            "CLEARML_API_HOST": f"http://127.0.0.1:{self.port}",
            "CLEARML_WEB_HOST": f"http://127.0.0.1:{self.port}",
            "CLEARML_API_ACCESS_KEY": "TESTKEY0123456789",
            "CLEARML_API_SECRET_KEY": "test-secret-abcdefghijklmnop",
        }
        words = ["standalone", "--data", str(folder / "server"), "--api-port", str(self.port)]
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(words, {**base_environ(), **self.environ}, folder / "server.log")

    def start(self) -> None:
        before = self.text().count("export CLEARML_API_HOST")
        super().start()
        until(
            lambda: (
                self.text().count("export CLEARML_API_HOST") > before or (self.popen and self.popen.poll() is not None)
            ),
            20,
            self.text,
        )
        assert self.popen and self.popen.poll() is None, self.text()
        exported = re.findall(r"CLEARML_FILES_HOST=(\S+)", self.text())
        self.environ["CLEARML_FILES_HOST"] = exported[-1] if exported else self.environ["CLEARML_API_HOST"]


def base_environ() -> dict[str, str]:
    """A small environment for our processes: no configuration of the person who runs the tests."""
    keep = ("PATH", "LANG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "PIP_INDEX_URL", "UV_INDEX_URL")
    home = os.environ.get("PODSTRAP_TEST_HOME", "/nonexistent")
    return {**{name: os.environ[name] for name in keep if name in os.environ}, "HOME": home}


def session_of(environ: Mapping[str, str]) -> Session:
    return Session(load({**environ, "HOME": "/nonexistent"}))


def controller(environ: Mapping[str, str], settings: str, folder: Path, *words: str) -> Process:
    """A controller with the local cluster; its state lies in `folder`/cluster, its cache in `folder`/cache."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "settings.yaml"
    file.write_text(settings)
    command = ["controller", "--cluster", "local", "--config", str(file), "--state", str(folder / "cluster"), *words]
    return Process(command, {**base_environ(), **environ}, folder / "controller.log")


def create_task(session: Session, name: str, code: str = "", **script: Any) -> str:
    """A task: with `code` a script stored in the task itself; else `script`'s own fields. Needs no packages."""
    fields = {"entry_point": "main.py", "working_dir": ".", "binary": "python3", "requirements": {"pip": ""}}
    if code:
        fields["diff"] = code
    container = script.pop("container", None)
    payload: dict[str, Any] = {"name": name, "type": "training", "script": {**fields, **script}}
    if container:
        payload["container"] = container
    return str(session.call("tasks.create", payload)["id"])


def queue_id(session: Session, name: str) -> str:
    return next((queue.id for queue in queues.get_all(session) if queue.name == name), "") or queues.create(
        session, name
    )


def task(session: Session, task_id: str) -> Task:
    found = tasks.get(session, task_id)
    assert found is not None, f"task {task_id} is gone"
    return found


def ended(session: Session, task_id: str, seconds: float = 60.0, log: Process | None = None) -> Task:
    """The task once it has ended."""
    until(
        lambda: task(session, task_id).status in ENDED,
        seconds,
        lambda: f"{task(session, task_id)}\n{console(session, task_id)}\n{log.text()[-3000:] if log else ''}",
    )
    return task(session, task_id)


def console(session: Session, task_id: str) -> str:
    """The task's console, oldest first."""
    answer = session.call("events.get_task_log", {"task": task_id, "batch_size": 5000, "navigate_earlier": False})
    found = answer.get("events") or []
    if answer.get("total", 0) > len(found):
        raise AssertionError("longer than one page: read it by pages")
    return "\n".join(event["msg"] for event in sorted(found, key=lambda event: event["timestamp"]))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env={**os.environ, **_GIT}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(folder: Path, files: Mapping[str, str]) -> str:
    """A real git repository with one commit on `main`; the commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


class InBackground(threading.Thread):
    """Runs a function and keeps what it raised for `check`."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # kept, and raised again by check()
            self.error = error

    def check(self) -> None:
        self.join(60)
        if self.error:
            raise self.error
