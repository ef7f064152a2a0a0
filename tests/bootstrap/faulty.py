"""A small HTTP proxy in front of a real server that misbehaves as a test tells it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = tuple[int, bytes]
Forward = Callable[[bytes], Answer]
Fault = Callable[[str, bytes, Forward], Answer | None]
"""Given the endpoint, the body and a way to ask the server itself; None: pass the request on as it is.
An answer with status 0 cuts the connection instead."""


class Faulty:
    """The proxy: `fault` decides on every request."""

    def __init__(self, target: str) -> None:
        self.fault: Fault = lambda *_: None
        proxy, parts = self, urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                headers = {key: value for key, value in self.headers.items() if key.lower() != "content-length"}

                def forward(changed: bytes) -> Answer:
                    server = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
                    server.request("POST", self.path, changed, headers)
                    answer = server.getresponse()
                    return answer.status, answer.read()

                endpoint = self.path.strip("/")
                status, answer = proxy.fault(endpoint, body, forward) or forward(body)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Who asked has gone meanwhile."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def batch_answer(added: int, errors: int, why: str) -> Answer:
    """What events.add_batch answers when it refused some of a batch."""
    meta = {"result_code": 200, "result_subcode": 0, "result_msg": "OK"}
    return 200, json.dumps(
        {"meta": meta, "data": {"added": added, "errors": errors, "errors_info": {why: errors}}}
    ).encode()
