"""One run of one task, three ways: by podstrap's bootstrap, by clearml-agent, by hand; seconds to its first line.

*First line* is the difference between the harness's clock before the exec and the time that the task's script prints
(and leaves in a file, so that no way of running it has to be trusted with its console).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from clearml_api import queues, tasks  # noqa: E402
from clearml_api.session import Session  # noqa: E402
from protocol import environment as names  # noqa: E402
from tests import support  # noqa: E402

BIN = Path(sys.executable).parent
PYTHON = getattr(sys, "_base_executable", sys.executable)
STAMP = "BENCH_STAMP"
MAIN = f"""import os, time
now = time.time()
print('first line at %.6f' % now, flush=True)
with open(os.environ['{STAMP}'], 'w') as file:
    file.write('%.6f' % now)
import six
print('six', six.__version__)
"""
HAND = """set -e
git clone -q "$1" "$2/code"
{uv} venv -q --python {python} "$2/venv"
{uv} pip install -q {offline} --python "$2/venv/bin/python" -r "$2/code/requirements.txt"
cd "$2/code" && exec "$2/venv/bin/python" main.py
"""
MODES = ("pip", "uv")
"""The peer's ways. Its uv_replace_pip is left out: seen with 3.0.3, it installs a task's packages into the environment
that clearml-agent itself runs in, and the next task fails."""
AGENT_CONF = """agent {{
  package_manager {{ type: {manager} }}
  {cached}
}}
"""
VENVS_CACHE = "venvs_cache {{ max_entries: 10, free_space_threshold_gb: 0.1, path: {home}/.clearml/venvs-cache }}"
"""Of its pip mode. In uv mode a task that is served from this cache fails (seen with 3.0.3), so that mode is given the
next best thing: the caches of uv and git."""


class Failed(Exception):
    """A run that did not print its first line, with the end of what it said."""


@dataclass(frozen=True)
class Bench:
    """One server, one queue, one repository."""

    folder: Path
    repository: Path
    commit: str
    session: Session
    queue: str
    environ: Mapping[str, str]

    @property
    def agent(self) -> Path:
        """An environment of the peer's own, made once: what it does to it is nobody else's."""
        folder = self.folder / "agent"
        if not folder.is_dir():
            subprocess.run([BIN / "uv", "venv", "-q", "--seed", "--python", PYTHON, folder], check=True)
            words = ["pip", "install", "-q", "--python", folder / "bin" / "python", "clearml-agent>=3.0", "uv"]
            subprocess.run([BIN / "uv", *words], check=True)
        return folder

    def by_hand(self, work: Path, cache: Path, *, offline: bool) -> float:
        """git clone, uv venv, uv pip install, python, as a shell script."""
        work.mkdir(parents=True)
        script = HAND.format(uv=BIN / "uv", python=PYTHON, offline="--offline" if offline else "")
        words = ["sh", "-c", script, "sh", str(self.repository), str(work)]
        return _first_line(words, {**self.environ, "UV_CACHE_DIR": str(cache)}, work)

    def by_podstrap(self, work: Path, cache: Path, requirements: str, **more: str) -> float:
        """The exec of `podstrap bootstrap` as a Job's pod runs it, its ClearML requests included."""
        task = self._task(requirements)
        work.mkdir(parents=True)
        mine = {
            names.TASK_ID: task,
            names.QUEUE_ID: self.queue,
            names.QUEUE_NAME: "bench",
            names.JOB_NAME: f"bench-{task}",
            names.JOB_UID: task,
            names.POD_NAME: f"bench-{task}",
            names.POD_UID: task,
            names.ATTEMPT: "1",
            names.CACHE_DIR: str(cache),
            names.WORK_DIR: str(work),
            names.TERMINATION_LOG: str(work / "termination"),
            "PYTHONPATH": str(ROOT),  # this tree, whatever the environment has installed
            **more,
        }
        seconds = _first_line([str(BIN / "podstrap"), "bootstrap"], {**self.environ, **mine}, work)
        self._must_be_completed(task)
        return seconds

    def by_agent(self, home: Path, mode: str, requirements: str) -> float:
        """`clearml-agent execute --full-monitoring --require-queue`, its caches under `home`."""
        task = self._task(requirements)
        home.mkdir(parents=True, exist_ok=True)
        conf = home / "clearml.conf"
        cached = VENVS_CACHE.format(home=home) if mode == "pip" else ""
        conf.write_text(AGENT_CONF.format(manager=mode, cached=cached))
        words = [self.agent / "bin" / "clearml-agent", "execute", "--full-monitoring", "--require-queue", "--id", task]
        own = {"HOME": str(home), "CLEARML_CONFIG_FILE": str(conf), "CLEARML_WORKER_ID": f"peer:{task}"}
        own["PIP_CACHE_DIR"] = str(home / "pip")
        own["UV_VENV_SEED"] = "1" if mode == "uv" else "0"  # this mode runs pip in the venv that uv makes
        own["PATH"] = f"{self.agent / 'bin'}:{self.environ['PATH']}"
        seconds = _first_line([str(word) for word in words], {**self.environ, **own}, home)
        self._must_be_completed(task)
        return seconds

    def _task(self, requirements: str) -> str:
        script = {"repository": str(self.repository), "version_num": self.commit, "branch": "main"}
        task = support.create_task(self.session, "first line", **script, requirements={"pip": requirements})
        tasks.enqueue(self.session, task, self.queue)
        return task

    def _must_be_completed(self, task: str) -> None:
        status = support.task(self.session, task).status
        if status != "completed":
            raise Failed(f"task {task} ended {status}:\n{support.console(self.session, task)[-3000:]}")


def make(folder: Path, server: support.Server, requirements: str) -> Bench:
    """A repository and a queue on a running server."""
    commit = support.repository(folder / "repo", {"main.py": MAIN, "requirements.txt": requirements + "\n"})
    session = support.session_of(server.environ)
    environ = {**support.base_environ(), **server.environ, "HOME": str(folder)}
    return Bench(folder, folder / "repo", commit, session, queues.create(session, "bench"), environ)


def _first_line(command: list[str], environ: Mapping[str, str], work: Path) -> float:
    stamp = work / f"stamp-{time.monotonic_ns()}"
    begun = time.time()
    done = subprocess.run(command, env={**environ, STAMP: str(stamp)}, capture_output=True, text=True)
    if done.returncode or not stamp.exists():
        raise Failed(f"{command[:3]} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return float(stamp.read_text()) - begun


class Counting(ThreadingHTTPServer):
    """Passes requests on to the server and remembers when each began, so that those before the first line count."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.seen: list[tuple[float, str]] = []
        super().__init__(("127.0.0.1", 0), _Pass)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Pass(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Counting

    def do_POST(self) -> None:
        self.server.seen.append((time.time(), self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = urllib.request.Request(self.server.upstream + self.path, body, dict(self.headers))
        try:
            with urllib.request.urlopen(request) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Nothing."""


def save(name: str, samples: object) -> None:
    """Raw samples, beside the code, not committed."""
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(samples, indent=1))


def disk_bytes(folder: Path) -> int:
    """Bytes on disk, each file counted once however many names it has."""
    seen: dict[tuple[int, int], int] = {}
    for where, folders, files in os.walk(folder):
        for name in (*files, *folders):
            stat = Path(where, name).lstat()
            seen[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values())
