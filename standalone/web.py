"""The page: static files under `/` and `/page/`, and `/page/session`, which saves a newcomer from typing keys.

The page is a client of the API like any other; all it needs is a token. `GET /page/session` hands one out only where
the asker could read the keys on this machine anyway. Every condition closes a way in:

- the server is bound to loopback and the connection comes from loopback;
- the user that made the connection is the server's own (`peer.py`): neither another user of a shared machine nor a
  proxy under another uid gets in, and where the kernel does not say, nobody does;
- the Host header is a loopback name: a page of a stranger's domain that was rebound to 127.0.0.1 keeps its own Host;
- no header of a proxy, and no `Sec-Fetch-Site` of another site.

Everybody else gets 403, and the page asks for access and secret key (`auth.login`). The page shows hostile text (task
names, consoles), so its Content-Security-Policy lets nothing run but its own files, and no string become HTML.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from standalone.peer import is_loopback, owner

PAGE = Path(__file__).resolve().parent / "page"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def page_routes(issue_token: Callable[[], str], *, bound_host: str) -> list[BaseRoute]:
    """The routes of the page.

    `issue_token` makes a short-lived API token, as auth.login would; `bound_host` is the address the server
    listens on: anything but loopback, and the page asks for the keys.
    """

    async def index(_: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers=SECURITY_HEADERS)

    async def session(request: Request) -> Response:
        headers = {**SECURITY_HEADERS, "Cache-Control": "no-store"}
        if not (is_loopback(bound_host) and is_own_user(request)):
            return JSONResponse({"reason": "log in with access and secret key"}, status_code=403, headers=headers)
        return JSONResponse({"token": issue_token()}, headers=headers)

    return [
        Route("/", index, methods=["GET"]),
        Route("/page/session", session, methods=["GET"]),
        Mount("/page", app=_PageFiles(directory=PAGE)),
    ]


def is_own_user(request: Request) -> bool:
    """Whether a request comes straight from a program of this server's own user on this machine, for itself."""
    client, server = request.client, request.scope.get("server")
    if client is None or server is None or not is_loopback(client.host):
        return False
    if not is_loopback(_host_name(request.headers.get("host", ""))):
        return False
    if any(name in request.headers for name in _PROXY_HEADERS):
        return False
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return owner((client.host, client.port), (server[0], server[1])) == os.getuid()


def _host_name(header: str) -> str:
    """`localhost:8008` → `localhost`, `[::1]:8008` → `::1`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


class _PageFiles(StaticFiles):
    """StaticFiles whose every answer, a 404 too, carries SECURITY_HEADERS."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        try:
            await super().__call__(scope, receive, guarded)
        except HTTPException as error:
            await PlainTextResponse(error.detail, error.status_code)(scope, receive, guarded)
