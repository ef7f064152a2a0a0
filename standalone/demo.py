"""The main job end to end, on one machine, with real parts: what `make run` shows a newcomer.

A server (`podstrap standalone`), a git repository made from examples/iris, two tasks enqueued by ClearML's own
`clearml-task` command on two queues with different templates, and a controller that drains both queues, running
the very Jobs that a cluster would get as processes. The tasks' consoles are followed while they run; at the end
stand the start-up timeline, the page's address and one line per task:

    task ID QUEUE STATUS seconds-to-first-line

Everything lies in one folder and is kept: a second run finds its environment in the cache.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearml_api import queues, tasks
from clearml_api.configuration import load
from clearml_api.models import Task
from clearml_api.session import Session
from protocol.errors import PodstrapError

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "iris"
DRAIN_SECONDS = 600
RUNS = {"demo-small": ("iris, 12 hidden units", 12), "demo-large": ("iris, 48 hidden units", 48)}
"""Queue name -> the task's name and its number of hidden units."""
SETTINGS = """\
# Two queues, two templates: the same file works for a cluster.
pollSeconds: 0.5
queues:
  demo-small:
    queueSettings: {maxPods: 1}
    templateOverrides:
      resources:
        requests: {cpu: 500m, memory: 512Mi}
        limits: {memory: 1Gi}
  demo-large:
    templateOverrides:
      labels: {size: large}
      env:
        - {name: OMP_NUM_THREADS, value: "2"}
      resources:
        requests: {cpu: 2, memory: 1Gi}
        limits: {memory: 4Gi}
"""


def run(folder: Path, *, keep: bool = False) -> int:
    """Run the demo in `folder`; 0 only if both tasks ended completed."""
    begun = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGINT):  # either ends the demo through KeyboardInterrupt, which cleans up
        signal.signal(number, signal.default_int_handler)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        environ = stack.enter_context(_server(folder))
        session = Session(load(environ, home=folder))
        page = environ["CLEARML_API_HOST"]
        _say(f"server: {page} (the page opens there)")
        repository, commit = _repository(folder)
        _say(f"repository: {repository} at {commit[:12]}")
        with ThreadPoolExecutor() as pool:  # each waits for a command that takes seconds
            made = pool.map(lambda queue: _enqueue(session, environ, folder, repository, queue), RUNS)
            ids = dict(zip(RUNS, made, strict=True))
        (folder / "settings.yaml").write_text(SETTINGS)
        controller = stack.enter_context(_controller(folder, environ))
        _follow(session, ids, controller)
        ended = {queue: _task(session, task) for queue, task in ids.items()}
        for queue, task in ended.items():
            _print_timeline(queue, task)
        _say(f"{time.monotonic() - begun:.1f} s in all; look at {page} (make run KEEP=1 keeps it open)")
        for queue, task in ended.items():
            print(f"task {task.id} {queue} {task.status} {_first_line_seconds(task)}", flush=True)
        if keep:
            _wait_for_interrupt(page)
    return 0 if all(task.status == "completed" for task in ended.values()) else 1


@contextmanager
def _server(folder: Path) -> Iterator[dict[str, str]]:
    """The embedded server as a process of its own; the variables of its clients, all else of ours left out."""
    log = folder / "server.log"
    words = ["standalone", "--data", str(folder / "server"), "--api-port", "0"]
    with _podstrap(words, _environ(folder), log) as process:
        exports: dict[str, str] = {}
        end = time.monotonic() + 30
        while "CLEARML_API_SECRET_KEY" not in exports:
            if process.poll() is not None or time.monotonic() > end:
                raise PodstrapError(
                    f"the server did not start:\n{_tail(log)}", hint=f"read {log}; remove {folder} to begin afresh"
                )
            time.sleep(0.05)
            exports = dict(re.findall(r"\b(CLEARML_\w+)=(\S+)", log.read_text()))
        yield {**_environ(folder), **exports}


@contextmanager
def _controller(folder: Path, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    words = [
        "controller",
        "--cluster",
        "local",
        "--config",
        str(folder / "settings.yaml"),
        "--state",
        str(folder / "cluster"),
    ]
    words += ["--drain", "--timeout", str(DRAIN_SECONDS)]
    with _podstrap(words, environ, folder / "controller.log") as process:
        yield process


@contextmanager
def _podstrap(words: list[str], environ: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words],
            env=dict(environ),
            cwd=EXAMPLE.parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environ(folder: Path) -> dict[str, str]:
    """Ours without any ClearML or podstrap variable, with a home of its own: nothing of the user's is touched."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("CLEARML_", "TRAINS_", "PODSTRAP_"))
    }
    return {**kept, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"}


def _repository(folder: Path) -> tuple[Path, str]:
    """A real git repository of examples/iris. Author and time are fixed, so that equal files give equal commits."""
    repository = folder / "iris"
    repository.mkdir(exist_ok=True)
    for file in sorted(EXAMPLE.iterdir()):
        if file.is_file():
            (repository / file.name).write_bytes(file.read_bytes())
    who = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
    names = ["-c", "user.name=podstrap", "-c", "user.email=demo@localhost", "-c", "init.defaultBranch=main"]

    def git(*words: str, allowed: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            ["git", *names, "-C", str(repository), *words],
            env={**os.environ, **who},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in allowed:
            raise PodstrapError(f"`git {' '.join(words)}` failed: {done.stderr.strip()}", hint="is git installed?")
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    if git("status", "--porcelain"):
        git("commit", "--quiet", "--message", "iris")
    return repository, git("rev-parse", "HEAD")


def _enqueue(session: Session, environ: Mapping[str, str], folder: Path, repository: Path, queue: str) -> str:
    """Enqueue one training by the real `clearml-task` command; the new task's id."""
    if queue not in {known.name for known in queues.get_all(session)}:
        queues.create(session, queue)
    name, hidden = RUNS[queue]
    command = [str(Path(sys.executable).with_name("clearml-task")), "--project", "podstrap demo", "--name", name]
    command += ["--repo", f"file://{repository}", "--branch", "main", "--script", "train.py"]
    command += ["--args", f"hidden={hidden}", "--queue", queue]
    done = subprocess.run(command, env=dict(environ), cwd=folder, capture_output=True, text=True, check=False)
    found = re.search(r"created id=(\w+)", done.stdout)
    if done.returncode != 0 or found is None:
        raise PodstrapError(f"clearml-task failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    _say(f"clearml-task: {name!r} is task {found[1]} on queue {queue}")
    return found[1]


@dataclass
class _Tail:
    """How far a task's console has been printed."""

    queue: str
    task: str
    seen: set[str] = field(default_factory=set)

    def show(self, session: Session) -> None:
        """Print what is new, each line behind its queue's name."""
        payload = {"task": self.task, "batch_size": 1000, "navigate_earlier": True}
        found = session.call("events.get_task_log", payload).get("events") or []
        for event in sorted(found, key=lambda one: one.get("timestamp") or 0):
            mark = str(event.get("_id") or event.get("id") or json.dumps(event, sort_keys=True))
            if mark in self.seen:
                continue
            self.seen.add(mark)
            for line in str(event.get("msg", "")).splitlines():
                print(f"{self.queue:>10} | {line}", flush=True)


def _follow(session: Session, ids: Mapping[str, str], controller: subprocess.Popen[bytes]) -> None:
    tails = [_Tail(queue, task) for queue, task in ids.items()]
    running = True
    while running:
        running = controller.poll() is None
        for tail in tails:
            tail.show(session)
        time.sleep(0.2 if running else 0)


def _task(session: Session, task: str) -> Task:
    found = tasks.get(session, task)
    if found is None:
        raise PodstrapError(f"task {task} is gone from the server")
    return found


def _properties(task: Task) -> dict[str, Any]:
    section = task.hyperparams.get("properties")
    found = section if isinstance(section, Mapping) else {}
    return {name: item.get("value") for name, item in found.items() if isinstance(item, Mapping)}


def _phases(task: Task) -> dict[str, float]:
    try:
        raw = json.loads(str(_properties(task).get("podstrap_timeline") or "{}"))
        return {str(name): float(seconds) for name, seconds in raw.items()}
    except (ValueError, AttributeError):
        return {}


def _print_timeline(queue: str, task: Task) -> None:
    phases = _phases(task)
    shown = "  ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items())
    _say(f"{queue}: {task.name}: {task.status}; seconds: {shown or 'no timeline'}")
    if task.status != "completed":
        _say(f"{queue}: {task.status_reason} {task.status_message}")


def _first_line_seconds(task: Task) -> str:
    seconds = _properties(task).get("podstrap_first_line_seconds")
    return str(seconds) if seconds is not None else "-"


def _wait_for_interrupt(page: str) -> None:
    _say(f"the page stays open at {page}; Ctrl-C ends it")
    try:
        signal.pause()
    except KeyboardInterrupt:
        print(flush=True)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _say(line: str) -> None:
    print(f"  podstrap | {line}", flush=True)
