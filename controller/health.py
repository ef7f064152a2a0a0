"""/healthz and /readyz, for Kubernetes' probes and for a person with curl.

Healthy: the controller's main thread turns. Ready: it can do its work, or stands by to: the last round succeeded, or
another one leads. A restart cures a thread that hangs; it cures no server that is away, so outages are never
unhealthy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from protocol.errors import ConfigError

_STUCK_SECONDS = 120.0
"""Longest time between two turns: a round makes many requests, each with a bound of its own."""


@dataclass
class Health:
    """What the main thread says about itself."""

    monotonic: Callable[[], float] = time.monotonic
    _turned: float = field(default=0.0, init=False)
    _not_ready: str = field(default="no round yet", init=False)
    _note: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._turned = self.monotonic()

    def turn(self) -> None:
        """The main thread lives."""
        self._turned = self.monotonic()

    def ready(self, why_not: str = "") -> None:
        """Whether the last round succeeded."""
        self._not_ready = why_not

    def note(self, text: str) -> None:
        """What /readyz says beside its answer; empty for nothing."""
        self._note = text

    def answers(self, path: str) -> tuple[int, str]:
        """Status and text for a path."""
        if path == "/healthz":
            silent = self.monotonic() - self._turned
            if silent > _STUCK_SECONDS:
                return 500, f"the main thread has not turned for {silent:.0f} s"
            return 200, "ok"
        if path == "/readyz":
            status, text = (503, self._not_ready) if self._not_ready else (200, "ok")
            return status, "\n".join(filter(None, (text, self._note)))
        return 404, "there are /healthz and /readyz"


def serve(health: Health, address: str) -> ThreadingHTTPServer:
    """Answer on `HOST:PORT` (`:8080`: all addresses) in a thread. Raises ConfigError when that cannot be had."""
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit():
        raise ConfigError(f"{address!r} is no address for /healthz", hint="HOST:PORT, such as 127.0.0.1:8080 or :8080")

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            status, text = health.answers(self.path.partition("?")[0])
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes are no news."""

    try:
        server = ThreadingHTTPServer((host.strip("[]") or "0.0.0.0", int(port)), Handler)  # noqa: S104
    except (OSError, OverflowError) as error:
        raise ConfigError(f"/healthz cannot be served on {address}: {error}") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
