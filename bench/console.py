"""A task that prints a million lines: what reached the server, and what it cost, beside clearml-agent.

One bootstrap as a Job's pod would run it, then clearml-agent on the same task, on the server of the environment
(CLEARML_API_HOST and keys) or on the embedded one. The task prints LINES_SENT numbered lines of 100 bytes at RATE lines
a second, each flushed. Then the console is read back page by page and every line is accounted for: lost, torn (not a
whole line of the task's), doubled, out of order. `cpu_share` is the runner's own CPU seconds (without its children's)
divided by the seconds from the task's first line until the runner ended; `rss_mb` its largest resident memory. The
peer gets an environment of its own, made for this run (PEER=0 leaves it out). The last line of the output is one JSON
object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import printing_task  # noqa: E402
from bench.measured import Cost, measured  # noqa: E402
from clearml_api import queues, tasks  # noqa: E402
from clearml_api.session import Session  # noqa: E402
from protocol import environment as names  # noqa: E402
from tests import support  # noqa: E402

LINES = int(os.environ.get("LINES_SENT", "1000000"))
RATE = int(os.environ.get("RATE", "50000"))
BURST = int(os.environ.get("BURST", "500"))
PEER = os.environ.get("PEER", "1") != "0"
PEER_SECONDS = 1800.0
AGENT_CONF = "agent { package_manager { type: pip } }\n"


@dataclass(frozen=True)
class Bench:
    """One server, one queue, one folder."""

    folder: Path
    session: Session
    queue: str
    environ: Mapping[str, str]

    def podstrap(self) -> dict[str, Any]:
        """One bootstrap's run; the figures."""
        task = self._task()
        mine = {
            names.TASK_ID: task,
            names.QUEUE_ID: self.queue,
            names.JOB_UID: "bench",
            names.POD_NAME: "bench",
            names.WORK_DIR: str(self.folder / "work"),
            names.CACHE_DIR: str(self.folder / "cache"),
            names.TERMINATION_LOG: str(self.folder / "termination"),
        }
        words = [sys.executable, "-m", "cli.main", "bootstrap"]
        cost = measured(words, {**self.environ, **mine}, self.folder / "output", cwd=ROOT)
        return self._figures(task, cost)

    def agent(self) -> dict[str, Any]:
        """`clearml-agent execute` as ClearML's own glue starts it in a pod; the figures."""
        task = self._task()
        home = self.folder / "peer"
        home.mkdir()
        conf = home / "clearml.conf"
        conf.write_text(AGENT_CONF)
        made = _environment(home / "environment")
        mine = {
            "HOME": str(home),
            "CLEARML_CONFIG_FILE": str(conf),
            "CLEARML_WORKER_ID": f"peer:{task}",
            "PIP_CACHE_DIR": str(home / "pip"),
            "PATH": f"{made / 'bin'}:{self.environ['PATH']}",
        }
        words = [str(made / "bin" / "clearml-agent"), "execute", "--full-monitoring", "--require-queue", "--id", task]
        output = self.folder / "peer-output"
        cost = measured(words, {**self.environ, **mine}, output, cwd=home, also="clearml-agent", seconds=PEER_SECONDS)
        if cost.exit_code or not cost.seconds:
            print(output.read_text(errors="replace")[-3000:], file=sys.stderr)
        return self._figures(task, cost)

    def _task(self) -> str:
        task = support.create_task(self.session, "console bench", printing_task.code(LINES, RATE, BURST))
        tasks.enqueue(self.session, task, self.queue)
        return task

    def _figures(self, task: str, cost: Cost) -> dict[str, Any]:
        found = printing_task.account(self.session, task)
        return {
            **found.figures(LINES),
            "cpu_share": round(cost.cpu_share, 3),
            "rss_mb": round(cost.rss_bytes / 2**20, 1),
            "exit_code": cost.exit_code,
            "status": support.task(self.session, task).status,
            "seconds": round(cost.seconds, 1),
            "events": found.events,
            "seconds_by_timestamps": round((found.last_millis - found.first_millis) / 1000, 1),
        }


def _environment(folder: Path) -> Path:
    """An environment of the peer's own: it installs into the one that it runs in."""
    uv = Path(sys.executable).parent / "uv"
    python = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([uv, "venv", "-q", "--seed", "--python", python, folder], check=True)
    subprocess.run(
        [uv, "pip", "install", "-q", "--python", folder / "bin" / "python", "clearml-agent>=3.0"], check=True
    )
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="podstrap-bench-") as name:
        folder = Path(name)
        server = None
        if os.environ.get("CLEARML_API_HOST"):
            mine = {key: value for key, value in os.environ.items() if key.startswith("CLEARML_")}
        else:
            server = support.Server(folder / "server")
            server.start()
            mine = server.environ
        try:
            session = support.session_of(mine)
            queue = queues.create(session, f"bench-console-{os.getpid()}")
            bench = Bench(folder, session, queue, {**support.base_environ(), **mine, "HOME": name})
            line = {"lines_sent": LINES, **bench.podstrap()}
            print(json.dumps(line), flush=True)
            if PEER:
                line.update({f"peer_{key}": value for key, value in bench.agent().items()})
            print(json.dumps(line), flush=True)
        finally:
            if server:
                server.stop()


if __name__ == "__main__":
    main()
