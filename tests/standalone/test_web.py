"""`/page/session` where a real connection cannot be made: the server bound elsewhere, another user's connection."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from starlette.applications import Starlette

from standalone import web


def test_server_bound_beyond_loopback_hands_out_no_session() -> None:
    assert session_status("0.0.0.0") == 403
    assert session_status("192.0.2.7") == 403


@pytest.mark.parametrize(("uid", "status"), [(None, 403), (4321, 403), (1000, 200)])
def test_session_is_for_the_servers_own_user(monkeypatch: pytest.MonkeyPatch, uid: int | None, status: int) -> None:
    monkeypatch.setattr(web, "owner", lambda client, server: uid)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert session_status("127.0.0.1") == status


def test_client_from_elsewhere_gets_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "owner", lambda client, server: 1000)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert session_status("127.0.0.1", client="192.0.2.1") == 403


def session_status(bound_host: str, client: str = "127.0.0.1") -> int:
    """The status of `GET /page/session`."""
    app = Starlette(routes=web.page_routes(lambda: "token", bound_host=bound_host))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/page/session",
        "raw_path": b"/page/session", "root_path": "", "scheme": "http", "query_string": b"",
        "headers": [(b"host", b"localhost:8008")], "client": (client, 40000), "server": ("127.0.0.1", 8008),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])
