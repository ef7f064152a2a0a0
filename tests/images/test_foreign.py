"""Whole tasks in images of every kind, podstrap's folder mounted read-only, as a user that nobody knows, on a
read-only root: the same task everywhere, and the same in podstrap's own image.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clearml_api import queues, tasks
from clearml_api.session import Session
from protocol import environment as names
from tests import support
from tests.bootstrap.environments import wheel
from tests.images.conftest import LARGE, Origin, given
from tests.images.container import PATH, STRANGER, Container, injected

PODSTRAP = ("/opt/podstrap/bin/podstrap", "bootstrap")
OWN_PYTHON = "/opt/podstrap/python"
KINDS = ("nothing", "musl", "bare", "baked")

Run = Callable[..., str]


@pytest.fixture
def run(
    roots: dict[str, Path], folder: Path, server_environ: dict[str, str], api: Session, origin: Origin, tmp_path: Path
) -> Run:
    """`run(kind, task)`: a pod's whole life in an image; its output."""
    volumes = {
        "/podstrap/work": given(tmp_path / "work", STRANGER),
        "/podstrap/cache": given(tmp_path / "cache", STRANGER),
    }
    wheel(given(tmp_path / "cache" / "wheels", STRANGER), "alpha")
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_bytes(origin.ssh.key.read_bytes())
    (home / ".ssh" / "known_hosts").write_text(origin.ssh.known_hosts)

    def begin(
        kind: str, *, script: dict[str, Any], container: dict[str, str] | None = None, code: int = 0, **more: str
    ) -> str:
        queue = queues.create(api, f"images-{uuid.uuid4().hex[:8]}")
        task = support.create_task(api, f"in {kind}", container=container, **script)
        tasks.enqueue(api, task, queue)
        one = Container(roots[kind], volumes, {"/mnt": home}) if kind == "baked" else injected(
            roots[kind], folder, volumes, **{"/mnt": home}
        )  # fmt: skip
        environ = {
            **server_environ,
            "PATH": PATH,
            "HOME": "/mnt",
            names.TASK_ID: task,
            names.QUEUE_ID: queue,
            names.JOB_UID: f"job-{task}",
            names.POD_NAME: f"pod-{task[:8]}",
            names.CACHE_DIR: "/podstrap/cache",
            names.TERMINATION_LOG: "/podstrap/work/termination",
            names.POLL_SECONDS: "0.3",
            "UV_OFFLINE": "1",
            **more,
        }
        done = subprocess.run(
            one.argv(*PODSTRAP), env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        assert support.task(api, task).status == ("completed" if code == 0 else "failed"), done.stdout
        return done.stdout

    return begin


def seen(output: str) -> dict[str, Any]:
    line = next(line for line in output.splitlines() if "SEEN " in line)
    found: dict[str, Any] = json.loads(line.partition("SEEN ")[2])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["http", "ssh"])
def test_a_task_from_a_private_repository_runs(kind: str, by: str, run: Run, origin: Origin) -> None:
    script = {"repository": origin.url(by), "version_num": origin.commit, "branch": "main"}
    who = {"CLEARML_AGENT_GIT_USER": origin.http.user, "CLEARML_AGENT_GIT_PASS": origin.http.password}
    output = run(
        kind,
        **(who if by == "http" else {"GIT_LFS_SKIP_SMUDGE": "1"}),  # that server has no LFS over ssh
        script={**script, "requirements": {"pip": "alpha==1.0"}},
        container={"setup_shell_script": "echo setting up\nexport ADDED=1"},
    )
    found = seen(output)
    assert found["alpha"] == "1.0"
    assert found["added"] == "1"
    assert found["uid"] == STRANGER
    assert found["name"] == "podstrap"
    assert found["home"] == [".cache", ".ssh"], "a home that it can write, with what was mounted into the former"
    assert found["pip"] == 0
    assert "setting up" in output
    if by == "http":
        assert found["large"] == len(LARGE)
    assert (found["base"] == OWN_PYTHON) == (kind != "baked")
    assert (found["git"] is None) == (kind != "baked"), "a task sees its image as it is"
    assert ("podstrap's own (busybox)" in output) == (kind == "nothing")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_ours_is_in_the_environment_of_a_task(kind: str, run: Run) -> None:
    code = "import os\nprint('OURS', sorted(k for k, v in os.environ.items() if '/opt/podstrap' in v))"
    output = run(kind, script={"diff": code}, container={"setup_shell_script": "export PATH=/extra:$PATH"})
    allowed = [] if kind in ("baked",) else ["SSL_CERT_FILE"]
    assert f"OURS {allowed}" in output
    assert "/extra" in run(kind, script={"diff": "import os\nprint(os.environ['PATH'])"}, container={
        "setup_shell_script": "export PATH=/extra:$PATH"})  # fmt: skip


def test_a_task_gets_what_its_image_preloads(run: Run) -> None:
    code = "import os\nprint('PRELOADED', os.environ['LD_PRELOAD'])"
    assert "PRELOADED /mnt/absent.so" in run("bare", script={"diff": code}, LD_PRELOAD="/mnt/absent.so")


def test_a_version_that_only_we_have_needs_no_download(run: Run) -> None:
    output = run("bare", script={"diff": "import sys\nprint(sys.version_info[:2])", "binary": "python3.11"})
    assert "(3, 11)" in output


def test_a_version_that_nobody_has_where_no_other_python_could_run(run: Run) -> None:
    output = run("nothing", script={"diff": "import sys\nprint(sys.version_info[:2])", "binary": "python3.12"})
    assert "no C library by which one that uv brings could run" in output
    assert f"{OWN_PYTHON}/bin/python3.11 is used" in output


def test_an_entry_point_that_is_a_shell_script_runs_without_a_shell(run: Run) -> None:
    output = run("nothing", script={"diff": "echo from $0", "binary": "sh", "entry_point": "go.sh"})
    assert "from go.sh" in output
