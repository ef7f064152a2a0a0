"""Seconds to a task's first line, everything cached: podstrap's bootstrap beside the same steps by hand.

One server, one repository, one requirement (six==1.16.0). Both alternate in one run:

- by hand: `git clone` of the repository, `uv venv`, `uv pip install --offline`, `python main.py`, as a shell script
- podstrap: the exec of `podstrap bootstrap` as a Job's pod would run it, its five ClearML requests included

*First line* is the difference between the clock before exec and the time that the task's script prints. Raw samples
are saved in bench/results/warm_start.json; the last line of the output is the result as JSON.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from clearml_api import queues, tasks  # noqa: E402
from protocol import environment as names  # noqa: E402
from tests import support  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "15"))
MAIN = "import time\nprint('first line at %.6f' % time.time(), flush=True)\nimport six\nprint('six', six.__version__)\n"
FIRST_LINE = re.compile(r"first line at ([\d.]+)")
REQUIREMENT = "six==1.16.0"
BIN = Path(sys.executable).parent
HAND = """set -e
git clone -q "$1" "$2/code"
{uv} venv -q --python {python} "$2/venv"
{uv} pip install -q --offline --python "$2/venv/bin/python" {requirement}
cd "$2/code" && exec "$2/venv/bin/python" main.py
"""


def by_hand(repository: Path, work: Path, environ: dict[str, str]) -> float:
    """Seconds from the exec of the shell to the script's first line."""
    base = getattr(sys, "_base_executable", sys.executable)
    script = HAND.format(uv=BIN / "uv", python=base, requirement=REQUIREMENT)
    return _first_line(["sh", "-c", script, "sh", str(repository), str(work)], environ)


def by_podstrap(session, queue: str, repository: Path, commit: str, folder: Path, environ: dict[str, str]) -> float:
    """Seconds from the exec of bootstrap to the script's first line."""
    script = {"repository": str(repository), "version_num": commit, "branch": "main"}
    task = support.create_task(session, "warm start", **script, requirements={"pip": REQUIREMENT})
    tasks.enqueue(session, task, queue)
    work = folder / task
    work.mkdir()
    mine = {
        names.TASK_ID: task,
        names.QUEUE_ID: queue,
        names.QUEUE_NAME: "bench",
        names.JOB_NAME: f"bench-{task}",
        names.JOB_UID: task,
        names.POD_NAME: f"bench-{task}",
        names.POD_UID: task,
        names.ATTEMPT: "1",
        names.CACHE_DIR: str(folder / "cache"),
        names.WORK_DIR: str(work),
        names.TERMINATION_LOG: str(work / "termination"),
    }
    seconds = _first_line([str(BIN / "podstrap"), "bootstrap"], {**environ, **mine})
    status = support.task(session, task).status
    if status != "completed":
        raise SystemExit(f"task {task} ended {status}, not completed:\n{support.console(session, task)}")
    return seconds


def _first_line(command: list[str], environ: dict[str, str]) -> float:
    begun = time.time()
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    found = FIRST_LINE.search(done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"{command[:2]} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return float(found[1]) - begun


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        commit = support.repository(folder / "repo", {"main.py": MAIN, "requirements.txt": REQUIREMENT + "\n"})
        server = support.Server(folder / "server")
        server.start()
        try:
            environ = {**support.base_environ(), **server.environ, "HOME": made}
            hand = {**environ, "UV_CACHE_DIR": str(folder / "hand-cache")}
            subprocess.run(  # fill the hand's cache
                [BIN / "uv", "pip", "install", "-q", "--target", folder / "x", REQUIREMENT], env=hand, check=True
            )
            session = support.session_of(server.environ)
            queue = queues.create(session, "bench")
            by_podstrap(session, queue, folder / "repo", commit, folder, environ)  # fills podstrap's cache
            ours, theirs = [], []
            for n in range(ROUNDS):
                work = folder / f"hand-{n}"
                work.mkdir()
                theirs.append(by_hand(folder / "repo", work, hand))
                ours.append(by_podstrap(session, queue, folder / "repo", commit, folder, environ))
        finally:
            server.stop()
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "warm_start.json").write_text(json.dumps({"podstrap": ours, "by_hand": theirs}, indent=1))
    line = {
        "warm_first_line_s": round(statistics.median(ours), 3),
        "warm_by_hand_s": round(statistics.median(theirs), 3),
        "ratio": round(statistics.median(o / t for o, t in zip(ours, theirs, strict=True)), 2),
        "rounds": ROUNDS,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
