"""Resident memory of idle standalone and controller together: two processes, two queues, nothing to do.

Measured after 20 seconds of idling (SECONDS changes that). Proportional set size (shared pages counted once) beside
the plain resident size. The last line of the output is the result as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import support  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        server = support.Server(folder)
        server.start()
        session = support.session_of(server.environ)
        for name in ("one", "two"):
            support.queue_id(session, name)
        address = f"127.0.0.1:{support.free_port()}"
        controller = support.controller(server.environ, "queues: {one: {}, two: {}}\n", folder, "--metrics", address)
        controller.start()
        try:
            time.sleep(float(os.environ.get("SECONDS", "20")))
            line = {}
            for name, process in (("standalone", server), ("controller", controller)):
                if process.popen is None or process.popen.poll() is not None:
                    raise SystemExit(f"{name} is not running:\n{process.text()}")
                memory = psutil.Process(process.popen.pid).memory_full_info()
                line[f"{name}_rss_mb"] = round(memory.rss / 2**20, 1)
                line[f"{name}_pss_mb"] = round(memory.pss / 2**20, 1)
            line["together_rss_mb"] = round(line["standalone_rss_mb"] + line["controller_rss_mb"], 1)
        finally:
            controller.stop()
            server.stop()
    print(json.dumps(line))


if __name__ == "__main__":
    main()
