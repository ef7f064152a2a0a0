"""A server, a queue, and a whole `podstrap bootstrap` process as a Job's pod would run it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from clearml_api import queues, tasks
from clearml_api.session import Session
from protocol import environment as names
from protocol.termination import TerminationMessage
from tests import support
from tests.bootstrap.environments import wheel
from tests.bootstrap.git_servers import GitPod, HttpGit


@pytest.fixture(scope="session")
def queue(api: Session) -> str:
    return queues.create(api, f"bootstrap-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """alpha 1.0 and 2.0, and beta, which needs it."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        wheel(folder, "alpha", version)
    wheel(folder, "beta", needs="alpha")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Pod:
    """One bootstrap process."""

    def __init__(
        self, folder: Path, environ: dict[str, str], prefix: Sequence[str | Path] = (), name: str = ""
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = name
        self._environ = environ
        self._output = (folder / "output").open("wb")
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "cli.main", "bootstrap"],
            env=environ,
            cwd=support.REPOSITORY_ROOT,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def wait(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def end(self) -> None:
        """Kill it with whatever it started: it may be in the middle of a run when a test fails."""
        tree: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        self._output.close()

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def message(self) -> TerminationMessage:
        found = TerminationMessage.from_text((self.folder / "termination").read_text())
        assert found is not None
        return found


Start = Callable[..., Pod]


@pytest.fixture
def start(server_environ: dict[str, str], queue: str, cache: Path, tmp_path: Path) -> Iterator[Start]:
    """`start(task, job="…", **variables)`: a pod for a task; killed at the end of the test."""
    pods: list[Pod] = []

    def begin(
        task: str, *, job: str = "", api_host: str = "", prefix: Sequence[str | Path] = (), **variables: str
    ) -> Pod:
        folder = tmp_path / f"pod-{len(pods)}"
        environ = {
            **support.base_environ(),
            **server_environ,
            "HOME": str(tmp_path),
            names.TASK_ID: task,
            names.QUEUE_ID: queue,
            names.JOB_UID: job or f"job-{len(pods)}",
            names.POD_NAME: f"pod-{len(pods)}-{uuid.uuid4().hex[:6]}",
            names.NODE_NAME: f"node-{len(pods)}",
            names.WORK_DIR: str(folder / "work"),
            names.CACHE_DIR: str(cache),
            names.TERMINATION_LOG: str(folder / "termination"),
            names.POLL_SECONDS: "0.3",
            names.GRACE_SECONDS: "6",
            **variables,
        }
        if api_host:
            environ["CLEARML_API_HOST"] = api_host
        pods.append(Pod(folder, environ, prefix))
        return pods[-1]

    yield begin
    for pod in pods:
        pod.end()


@pytest.fixture
def queued(api: Session, queue: str) -> Callable[..., str]:
    """`queued(code, **script)`: a new task in the queue."""

    def make(code: str = "", **script: object) -> str:
        task = support.create_task(api, "bootstrap test", code, **script)
        tasks.enqueue(api, task, queue)
        return task

    return make


@pytest.fixture
def git_pod(tmp_path: Path) -> GitPod:
    return GitPod(tmp_path / "pod")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bare repositories: open.git and private/closed.git."""
    folder = tmp_path_factory.mktemp("served")
    support.repository(folder / "source", {"app.py": "print('one')\n"})
    for name in ("open.git", "private/closed.git"):
        support.git(folder, "clone", "-q", "--bare", str(folder / "source"), str(folder / name))
        support.git(folder / name, "config", "http.receivepack", "true")
    return folder


@pytest.fixture(scope="module")
def head(served: Path) -> str:
    return support.git(served / "open.git", "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def http_server(served: Path) -> Iterator[HttpGit]:
    server = HttpGit(served)
    yield server
    server.stop()


@pytest.fixture
def http(http_server: HttpGit) -> HttpGit:
    http_server.refuse_bare, http_server.failures, http_server.lfs_gets = False, 0, 0
    http_server.requests.clear()
    return http_server
