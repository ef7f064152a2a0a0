"""What a session does when the other side misbehaves: a real socket that answers what the case says."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clearml_api.configuration import Configuration
from clearml_api.errors import ApiError, ApiUnreachable, LoginRefused, NotAnApi
from clearml_api.session import ONCE, Bounds, Session
from protocol.errors import ConfigError

SECRET = "s3cr3t-value-of-the-key"


def envelope(data: dict | None = None, code: int = 200, subcode: int = 0, message: str = "OK") -> bytes:
    meta = {"result_code": code, "result_subcode": subcode, "result_msg": message}
    return json.dumps({"meta": meta, "data": data or {}}).encode()


def token(seconds: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + seconds}).encode()).decode().rstrip("=")
    return f"head.{claims}.{time.monotonic_ns()}"


class Script:
    """Answers each endpoint from a list of (status, headers, body); the last answer repeats."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.answers: dict[str, list[tuple[int, dict[str, str], bytes]]] = {}
        self.login_seconds = 3600.0

    def answer(self, endpoint: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        self.seen.append((endpoint, authorization))
        if endpoint in self.answers:
            queue = self.answers[endpoint]
            return queue.pop(0) if len(queue) > 1 else queue[0]
        if endpoint == "auth.login":
            return 200, {}, envelope({"token": token(self.login_seconds)})
        return 200, {}, envelope({"endpoint": endpoint})

    def count(self, endpoint: str) -> int:
        return sum(seen == endpoint for seen, _ in self.seen)


@pytest.fixture
def server() -> Iterator[tuple[Script, Callable[..., Session]]]:
    script = Script()

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = script.answer(self.path.strip("/"), self.headers.get("Authorization", ""))
            if status == 0:  # cut the connection
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", headers.get("Content-Length", str(len(body))))
            self.end_headers()
            self.wfile.write(body)
            if "Content-Length" in headers:
                self.close_connection = True

        def log_message(self, *args: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()

    def session(sleep: Callable[[float], None] = lambda seconds: None, **kwargs: object) -> Session:
        configuration = Configuration(
            api_host=f"http://127.0.0.1:{httpd.server_port}", access_key="the-key", secret_key=SECRET
        )
        return Session(configuration, sleep=sleep, **kwargs)  # type: ignore[arg-type]

    yield script, session
    httpd.shutdown()
    httpd.server_close()


def test_one_login_serves_many_calls(server) -> None:
    script, session = server
    one = session()
    assert one.call("tasks.ping", {"task": "x"}) == {"endpoint": "tasks.ping"}
    one.call("tasks.ping", {"task": "x"})
    assert [endpoint for endpoint, _ in script.seen] == ["auth.login", "tasks.ping", "tasks.ping"]
    assert one.requests == 3


def test_expired_token_is_renewed_before_it_is_used(server) -> None:
    script, session = server
    now = 0.0
    one = session(clock=lambda: now)
    one.call("a.b")
    now = 3000.0
    one.call("a.b")
    assert script.count("auth.login") == 1
    now = 3590.0
    one.call("a.b")
    assert script.count("auth.login") == 2


def test_token_that_the_server_calls_bad_is_renewed_once(server) -> None:
    script, session = server
    script.answers["a.b"] = [(401, {}, envelope({}, 401, 30, "bad token")), (200, {}, envelope({"fine": 1}))]
    assert session().call("a.b") == {"fine": 1}
    assert script.count("auth.login") == 2
    script.answers["a.b"] = [(401, {}, envelope({}, 401, 30, "bad token"))]
    with pytest.raises(ApiError, match="bad token"):
        session().call("a.b")


def test_wrong_key_says_so_without_the_secret(server) -> None:
    script, session = server
    script.answers["auth.login"] = [(401, {}, envelope({}, 401, 22, "failed to locate provided credentials"))]
    with pytest.raises(LoginRefused, match="refuses the access key the-") as caught:
        session().call("a.b")
    assert SECRET not in str(caught.value)
    assert "the-key" not in str(caught.value)
    assert script.count("auth.login") == 1, "credentials do not get better by asking again"


@pytest.mark.parametrize("status", [200, 404, 403])
def test_a_web_page_instead_of_an_api_is_told_apart(server, status) -> None:
    script, session = server
    script.answers["auth.login"] = [(status, {"Content-Type": "text/html"}, b"<!DOCTYPE html><html>ClearML</html>")]
    with pytest.raises(NotAnApi, match=r"(?s)is no ClearML API server.*DOCTYPE.*8008"):
        session().call("a.b")


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"Retry-After": "0"}, b"slow down"),
        (502, {}, b"<html>bad gateway</html>"),
        (503, {}, envelope({}, 503, 0, "maintenance")),
        (0, {}, b""),
        (200, {"Content-Length": "500"}, envelope({"a": 1})[:20]),
        (200, {}, envelope({"a": 1})[:20]),
    ],
    ids=["429", "502", "503", "reset", "half an answer", "half a JSON"],
)
def test_passing_trouble_is_tried_again(server, trouble) -> None:
    script, session = server
    script.answers["a.b"] = [trouble, trouble, (200, {}, envelope({"fine": 1}))]
    assert session().call("a.b", bounds=Bounds(total_seconds=30)) == {"fine": 1}
    assert script.count("a.b") == 3


def test_bounds_are_kept_and_the_error_counts_the_tries(server) -> None:
    script, session = server
    script.answers["a.b"] = [(503, {}, b"")]
    now = [0.0]
    one = session(sleep=lambda seconds: now.__setitem__(0, now[0] + seconds), clock=lambda: now[0])
    with pytest.raises(ApiUnreachable, match=r"HTTP 503 \(\d+ tries in \d+ s\)"):
        one.call("a.b", bounds=Bounds(total_seconds=20))
    assert 3 <= script.count("a.b") <= 40
    assert now[0] <= 20
    with pytest.raises(ApiUnreachable, match="1 try"):
        one.call("a.b", bounds=ONCE)


def test_retry_after_is_obeyed(server) -> None:
    script, session = server
    script.answers["a.b"] = [(429, {"Retry-After": "7"}, b""), (200, {}, envelope())]
    pauses: list[float] = []
    session(sleep=pauses.append).call("a.b")
    assert pauses == [7.0]


def test_a_refusal_is_not_tried_again_and_keeps_its_code(server) -> None:
    script, session = server
    script.answers["tasks.started"] = [(400, {}, envelope({}, 400, 110, "Invalid task status"))]
    with pytest.raises(ApiError, match=r"ClearML refused tasks\.started: Invalid task status") as caught:
        session().call("tasks.started", {"task": "x"})
    assert (caught.value.code, caught.value.subcode) == (400, 110)
    assert script.count("tasks.started") == 1


def test_nobody_listening_is_named_with_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = Session(Configuration(api_host=f"http://127.0.0.1:{port}", access_key="k", secret_key=SECRET))
    with pytest.raises(ApiUnreachable, match=rf"127\.0\.0\.1:{port} did not answer auth\.login.*refused") as caught:
        one.call("a.b", bounds=ONCE)
    assert SECRET not in str(caught.value)


def test_silence_ends_at_the_read_timeout(server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configuration = Configuration(
            api_host=f"http://127.0.0.1:{silent.getsockname()[1]}", access_key="k", secret_key="s"
        )
        with pytest.raises(ApiUnreachable, match="timed out"):
            Session(configuration).call("a.b", bounds=Bounds(read_seconds=0.2, total_seconds=0))


def test_an_address_that_is_no_url_is_a_configuration_error() -> None:
    for address in ("http://", "http://[::1", "ftp://example", "localhost:8008", "http://host:port"):
        with pytest.raises(ConfigError, match="is no http:// or https:// URL"):
            Session(Configuration(api_host=address, access_key="k", secret_key="s"))


def test_nothing_is_printed(server, capfd) -> None:
    script, session = server
    script.answers["a.b"] = [(503, {}, b""), (200, {}, envelope())]
    session().call("a.b")
    assert capfd.readouterr() == ("", "")


def test_a_handshake_that_is_cut_is_tried_again_and_no_matter_of_certificates() -> None:
    """A mesh's sidecar takes the connection before it is ready, and drops it."""
    taken: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drop() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                taken.append(1)
                connection.recv(4096)
                connection.close()

        threading.Thread(target=drop, daemon=True).start()
        config = Configuration(f"https://127.0.0.1:{listening.getsockname()[1]}", access_key="k", secret_key="s")
        bounds = Bounds(total_seconds=1.0, first_pause_seconds=0.05, longest_pause_seconds=0.1)
        with pytest.raises(ApiUnreachable, match="did not answer"):
            Session(config, bounds=bounds).login()
    assert len(taken) > 2
