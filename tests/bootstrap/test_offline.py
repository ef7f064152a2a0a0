"""Whole pods: without a network, with the other engine, and what they write back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from protocol import environment as names
from tests import support
from tests.bootstrap.environments import wheel

LONELY = Path(__file__).parent / "lonely.py"


@pytest.mark.skipif(os.getuid() != 0, reason="a network namespace needs root")
def test_a_pod_that_reaches_only_the_api_lives_on_store_mirrors_and_wheels(
    start, queued, api, cache, tmp_path, server_environ
) -> None:
    main = "import alpha, os, socket\nprint('alpha', alpha.VERSION)\n"
    source = tmp_path / "served" / "repo"
    commit = support.repository(source, {"main.py": main})
    (source / ".git" / "git-daemon-export-ok").touch()
    port = support.free_port()
    words = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={source.parent}"]
    daemon = subprocess.Popen([*words, "--export-all"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        volume = tmp_path / "volume"
        wheel(volume / "wheels", "alpha")
        wheel(volume / "wheels", "beta", needs="alpha")
        code = {"repository": f"git://127.0.0.1:{port}/repo", "version_num": commit, "branch": "main"}
        script = {**code, "entry_point": "main.py", "requirements": {"pip": "alpha==1.0"}}
        time.sleep(0.3)
        first = queued(**script)
        assert start(first, **{names.CACHE_DIR: str(volume)}, UV_OFFLINE="1").wait() == 0, support.console(api, first)
    finally:
        daemon.terminate()
        daemon.wait()
    relay = tmp_path / "relay.sock"
    api_port = urlsplit(server_environ["CLEARML_API_HOST"]).port
    outside = subprocess.Popen([sys.executable, LONELY, "--outside", relay, str(api_port)])
    try:
        support.until(relay.exists, 10)
        tasks = [queued(**script), queued(**{**script, "requirements": {"pip": "beta"}})]
        for task in tasks:
            pod = start(task, prefix=[sys.executable, LONELY, "--inside", relay, str(api_port)], **{
                names.CACHE_DIR: str(volume), "UV_HTTP_RETRIES": "0", "UV_OFFLINE": "1",
            })  # fmt: skip
            assert pod.wait() == 0, pod.output() + support.console(api, task)
            assert "alpha 1.0" in support.console(api, task)
    finally:
        outside.kill()
        outside.wait()


def test_what_was_installed_stands_on_the_task_beside_what_was_asked(start, queued, api, tmp_path) -> None:
    wheel(tmp_path / "wheels", "alpha")
    wheel(tmp_path / "wheels", "beta", needs="alpha")
    task = queued("import beta", requirements={"pip": "# Python 3.11\nbeta>=1\n"})
    pod = start(task, UV_OFFLINE="1", UV_FIND_LINKS=str(tmp_path / "wheels"))
    assert pod.wait() == 0, support.console(api, task)
    found = support.task(api, task).script.requirements
    assert found["pip"].split() == ["alpha==1.0", "beta==1.0"]
    assert found["org_pip"].strip() == "# Python 3.11\nbeta>=1"
    assert "not pinned, resolved just now: beta==1.0" in support.console(api, task)


@pytest.mark.slow
def test_the_other_engine_runs_the_real_clearml_agent_under_our_pid_1(start, queued, api) -> None:
    code = "import os, sys\nprint('told', os.environ['CLEARML_TASK_ID'])\nprint('oops', file=sys.stderr)\nsys.exit(3)\n"
    task = queued(code)
    pod = start(task, **{names.ENGINE: "clearml-agent"})
    assert pod.wait(180) == 3, pod.output()
    text = support.console(api, task)
    assert text.count(f"told {task}") == 1, text
    ended = support.task(api, task)
    assert ended.status == "failed" and "3" in ended.status_reason
    assert "Executing task id" in text, "the agent's own words are in the console"
