"""The controller's few pages over HTTP: /healthz and /readyz (health.py) and /metrics (telemetry.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from controller.health import Health
from protocol.errors import ConfigError

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Page:
    """An answer."""

    status: int
    body: bytes
    content_type: str = _TEXT


Pages = Mapping[str, Callable[[str], Page]]
"""Path -> the page, made for a request's Accept header."""


def of_health(health: Health) -> Pages:
    """/healthz and /readyz."""

    def page(path: str, _accept: str) -> Page:
        status, text = health.answers(path)
        return Page(status, f"{text}\n".encode())

    return {path: partial(page, path) for path in ("/healthz", "/readyz")}


def of_metrics(text: Callable[[str], tuple[bytes, str]]) -> Pages:
    """/metrics; `text` gives the body and its content type for an Accept header."""
    return {"/metrics": lambda accept: Page(200, *text(accept))}


def serve(pages: Pages, address: str) -> ThreadingHTTPServer:
    """Answer on `HOST:PORT` (`:8080`: all addresses) in a thread. Raises ConfigError when that cannot be had."""
    what = ", ".join(pages)
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit():
        raise ConfigError(f"{address!r} is no address for {what}", hint="HOST:PORT, such as 127.0.0.1:8080 or :8080")

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            make = pages.get(self.path.partition("?")[0])
            page = make(self.headers.get("Accept", "")) if make else Page(404, f"there are {what}\n".encode())
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            """Probes are no news."""

    try:
        server = ThreadingHTTPServer((host.strip("[]") or "0.0.0.0", int(port)), Handler)  # noqa: S104
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{what} cannot be served on {address}: {error}") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server
