"""The one web application: API, files server and page on one port.

A path of the form `service.action`, with or without `/v2.NN/` before it, is the API; `/` and `/page/…` are the page;
everything else is a file. Each API request is one transaction, run on a worker thread.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import sqlite3
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from standalone import (
    console,
    events,
    metrics,
    models,
    people,
    plots,
    projects,
    queues,
    task_fields,
    task_life,
    tasks,
)
from standalone.auth import COOKIE, LIFE_SECONDS, Keys
from standalone.files import Files
from standalone.store import Store
from standalone.web import page_routes
from standalone.wire import API_VERSION, ENDPOINTS, Call, Refusal, envelope, invalid, run, unknown

_LOADED = (console, events, metrics, models, people, plots, projects, queues, task_fields, task_life, tasks)
_API = re.compile(r"/?(?:v(\d+(?:\.\d+)?)/)?([a-z_]+\.[a-z_0-9]+)/?")
_SERVICES = frozenset(name.partition(".")[0] for name in ENDPOINTS) | {"auth", "reports", "pipelines", "datasets"}
_PAGE_TOKEN_SECONDS = 12 * 3600
_MOST_BYTES = 256 << 20
log = logging.getLogger("podstrap.standalone")


def application(store: Store, keys: Keys, files: Files, *, bound_host: str) -> Starlette:
    """The application; everything that it needs is given."""
    api = _Api(store, keys)
    page = page_routes(lambda: keys.issue(_PAGE_TOKEN_SECONDS), bound_host=bound_host)

    async def any_path(request: Request) -> Response:
        found = _API.fullmatch(request.url.path)
        form = request.headers.get("content-type", "").startswith("multipart/")
        if found and (found[2].partition(".")[0] in _SERVICES or (request.method == "POST" and not form)):
            return await api.answer(request, found[2], found[1] or API_VERSION)
        request.path_params["path"] = request.url.path.lstrip("/")
        if request.method in ("GET", "HEAD"):
            return await files.read(request)
        if request.method == "DELETE":
            return await files.delete(request)
        return await files.upload(request)

    upload = Route("/", files.upload, methods=["POST", "PUT"])
    rest = Route("/{path:path}", any_path, methods=["GET", "HEAD", "POST", "PUT", "DELETE"])
    return Starlette(routes=[upload, *page, rest])


class _Api:
    """From a request to an envelope."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def answer(self, request: Request, name: str, version: str) -> Response:
        """Run the endpoint and wrap what it says."""
        headers: dict[str, str] = {}
        try:
            self._admit(request, name)
            body = await _body(request)
            data = await run_in_threadpool(self._run, request, name, body)
            refusal = None
            if name == "auth.login":
                headers["Set-Cookie"] = (
                    f"{COOKIE}={data['token']}; Max-Age={LIFE_SECONDS}; Path=/; HttpOnly; SameSite=Lax"
                )
        except Refusal as error:
            data, refusal = None, error
        except ClientDisconnect:
            return Response(status_code=499)
        except sqlite3.Error as error:
            log.exception("request-failed endpoint=%s", name)
            data, refusal = None, Refusal(500, 100, f"General data error ({error})")
        if data is not None and console.TEXT in data:
            return PlainTextResponse(data[console.TEXT])
        answer = envelope(name, data, refusal, version)
        text = json.dumps(answer, separators=(",", ":"))
        code = refusal.code if refusal else 200
        return Response(text, status_code=code, media_type="application/json", headers=headers)

    def _admit(self, request: Request, name: str) -> None:
        """Who asks, before anything of the body is read. Raises Refusal."""
        authorization = request.headers.get("authorization", "")
        if name == "auth.login":
            self._keys.login(authorization)
        elif name not in ("debug.ping", "login.supported_modes"):
            # Never by cookie: a page of another port of this host would bring it along. Only file reads take it.
            self._keys.check(authorization)

    def _run(self, request: Request, name: str, body: bytes) -> dict[str, Any]:
        if name == "auth.login":
            return {"token": self._keys.issue()}
        if name not in ENDPOINTS:
            raise unknown(name)
        data = _payload(request, name, body)
        with self._store.transaction():
            return run(name, Call(self._store, data, {"access_key": self._keys.access}))


async def _body(request: Request) -> bytes:
    """The whole body, bounded. Raises Refusal 413."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BYTES:
            raise Refusal(413, 0, "Request is too large")
        parts.append(part)
    return b"".join(parts)


def _payload(request: Request, name: str, body: bytes) -> dict[str, Any]:
    """JSON of the body (or of its lines, for batches), over the query's parameters."""
    if request.headers.get("content-encoding", "").lower() == "gzip":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError):
            raise invalid("the body is no gzip") from None
    if name in ("events.add_batch", "tasks.update_batch"):
        return {"lines": list(events.lines(body))}
    found: dict[str, Any] = {}
    for key, values in parse_qs(request.url.query).items():
        found[key] = values[0] if len(values) == 1 else values
    if body.strip():
        try:
            parsed = json.loads(body)
        except ValueError:
            raise invalid("the body is no JSON") from None
        if not isinstance(parsed, dict):
            raise invalid("the body is no JSON object")
        found.update(parsed)
    return found
