"""A mesh's sidecar in the same pod: it is ready late, and is told when the pod is done."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from bootstrap import sidecar
from protocol import exit_codes
from tests import support
from tests.cluster.forward import Forward


class Mesh(ThreadingHTTPServer):
    """Notes each request; answers `status`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.status = 200
        mesh = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                mesh.seen.append(f"POST {self.path}")
                self.send_response(mesh.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answering)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/quitquitquit"


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh() as one:
        yield one
        one.shutdown()


@pytest.mark.parametrize(("code", "expected"), [("print(1)", 0), ("raise SystemExit(3)", 3)])
def test_the_sidecar_is_told_once_after_the_task_was_reported(api, queued, start, mesh, code, expected) -> None:
    task = queued(code)
    assert start(task, PODSTRAP_SIDECAR_QUIT_URL=mesh.url).wait(30) == expected
    assert mesh.seen == ["POST /quitquitquit"]
    assert support.task(api, task).status in support.ENDED


def test_it_is_told_too_by_a_pod_that_does_not_win(queued, start, mesh) -> None:
    task = queued("print(1)")
    assert start(task).wait(30) == 0
    assert start(task, PODSTRAP_SIDECAR_QUIT_URL=mesh.url).wait(30) == exit_codes.OK
    assert mesh.seen == ["POST /quitquitquit"]


def test_a_sidecar_that_does_not_quit_changes_nothing_but_says_so(queued, start, mesh) -> None:
    mesh.status = 500
    pod = start(queued("print(1)"), PODSTRAP_SIDECAR_QUIT_URL=mesh.url)
    assert pod.wait(30) == 0
    assert "does not quit: HTTP 500" in pod.output()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert "could not be told to quit" in sidecar.tell_to_quit(f"http://127.0.0.1:{unused.getsockname()[1]}/")


def test_the_first_connection_is_tried_until_the_sidecar_lets_it_through(api, server_environ, queued, start) -> None:
    port = support.free_port()
    task = queued("print(1)")
    pod = start(task, api_host=f"http://127.0.0.1:{port}")
    with pytest.raises(Exception, match="timed out"):
        pod.wait(2)
    api_server = urlsplit(server_environ["CLEARML_API_HOST"])
    forward = Forward("127.0.0.1", api_server.port or 80, port)
    assert pod.wait(30) == 0
    assert support.task(api, task).status == "completed"
    forward.close()


def test_a_server_that_is_not_there_within_the_bound_leaves_the_task_to_another_pod(api, queued, start) -> None:
    task = queued("print(1)")
    pod = start(task, api_host=f"http://127.0.0.1:{support.free_port()}", PODSTRAP_CONNECT_SECONDS="1")
    assert pod.wait(20) == exit_codes.DISRUPTED
    assert support.task(api, task).status == "queued"
