"""An HTTP proxy that stands between a controller and a server, and misbehaves where the test says.

`hook(before: bool, method, path)` is called before each request goes on and after its answer came; what it raises
ends the connection there. Answers that do not end (watches) are passed on as they come.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

Hook = Callable[[bool, str, str], None]
Answer = tuple[int, dict[str, str], bytes]


class Cut(Exception):
    """Raised by a hook: the connection breaks here."""


class Instead(Exception):
    """Raised by a hook before a request: this answer, and nothing goes on."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status)
        self.answer: Answer = (status, headers, body)


class Boundary:
    """`url` is where the controller is sent; `target` the server behind."""

    def __init__(self, target: str, ca: Path | None = None, hook: Hook | None = None) -> None:
        self._target = urlsplit(target)
        self._context = ssl.create_default_context(cafile=str(ca)) if ca else None
        self.hook: Hook = hook or (lambda *_: None)
        self.seen: list[tuple[float, str, str]] = []
        """When (monotonic seconds), method and path of each request."""
        self.delay_seconds = 0.0
        self._streams: set[http.client.HTTPConnection] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.break_streams()
        self._server.shutdown()
        self._server.server_close()

    def break_streams(self) -> None:
        """Every watch that is open ends in the middle."""
        for one in list(self._streams):
            with contextlib.suppress(OSError):
                if one.sock:
                    one.sock.shutdown(2)

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[tuple[float, str, str]]]:
        """The requests of a time."""
        found: list[tuple[float, str, str]] = []
        start = len(self.seen)
        yield found
        found += self.seen[start:]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 120

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((time.monotonic(), self.command, self.path))
                if outer.delay_seconds:
                    time.sleep(outer.delay_seconds)
                try:
                    outer.hook(True, self.command, self.path)
                    self._forward(body)
                except Instead as found:
                    self._answer(*found.answer)
                except (Cut, OSError, http.client.HTTPException):
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(2)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

            def _forward(self, body: bytes) -> None:
                connection = outer._connect()
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                try:
                    connection.request(self.command, self.path, body or None, headers)
                    answer = connection.getresponse()
                    if "watch=1" in self.path and answer.status == 200:
                        self._stream(connection, answer)
                        return
                    data = answer.read()
                    outer.hook(False, self.command, self.path)
                    kept = {k: v for k, v in answer.getheaders() if k.lower() in ("content-type", "retry-after")}
                    if encoding := answer.getheader("Content-Encoding"):
                        kept["Content-Encoding"] = encoding
                    self._answer(answer.status, kept, data)
                finally:
                    connection.close()

            def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                outer._streams.add(connection)
                try:
                    while data := answer.read1(65536):
                        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                        self.wfile.flush()
                    self.wfile.write(b"0\r\n\r\n")
                finally:
                    outer._streams.discard(connection)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._target.hostname or "127.0.0.1", self._target.port
        if self._context:
            return http.client.HTTPSConnection(host, port, context=self._context, timeout=120)
        return http.client.HTTPConnection(host, port, timeout=120)


def made_a_job(method: str, path: str) -> bool:
    """Whether a request makes a Job; the dry runs by which the controller tries its templates do not."""
    return method == "POST" and path.partition("?")[0].endswith("/jobs") and "dryRun" not in path
