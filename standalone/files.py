"""The files server: artifacts, models and images on disk, under the paths that the SDK gives them.

`POST /` is a multipart form, each part a file whose name is its path; `GET` and `DELETE` name the path. All want a
token, by header or cookie. A path that leads out of the folder does not exist. A file appears whole or not at all:
it is written beside and renamed.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from standalone.auth import COOKIE, Keys
from standalone.wire import Refusal, new_id

_CHUNK = 1 << 20


class Files:
    """The files below one folder."""

    def __init__(self, folder: Path, keys: Keys, own_user: Callable[[Request], bool] | None = None) -> None:
        """`own_user` tells the page's own reads on this machine, which carry no token (see web.py)."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        self._keys = keys
        self._own_user = own_user

    async def upload(self, request: Request) -> Response:
        """Store every file of a form; their URLs."""
        if refused := self._refused(request):
            return refused
        stored = []
        async with request.form(max_files=1000) as form:
            for name, part in form.multi_items():
                if not isinstance(part, UploadFile):
                    continue
                target = self._path(unquote(part.filename or name))
                if target is None:
                    return PlainTextResponse("no valid path", status_code=400)
                await self._write(target, part)
                stored.append(f"{request.base_url}{target.relative_to(self._folder)}")
        if not stored:
            return PlainTextResponse("no files in the form", status_code=400)
        return PlainTextResponse(stored[0] if len(stored) == 1 else "\n".join(stored))

    async def read(self, request: Request) -> Response:
        """A file, or 404. Byte ranges are served."""
        if refused := self._refused(request, reading=True):
            return refused
        target = self._path(request.path_params["path"])
        if target is None or not target.is_file():
            return PlainTextResponse("not found", status_code=404)
        kind = mimetypes.guess_type(target.name)[0] or "application/octet-stream"
        # What tasks upload is hostile to this page's origin: it is shown as an image or text, never run.
        headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}
        return FileResponse(target, media_type=kind, headers=headers)

    async def delete(self, request: Request) -> Response:
        """Remove a file."""
        if refused := self._refused(request):
            return refused
        target = self._path(request.path_params["path"])
        if target is None or not target.is_file():
            return PlainTextResponse("not found", status_code=404)
        target.unlink()
        return PlainTextResponse("OK")

    def _refused(self, request: Request, *, reading: bool = False) -> Response | None:
        token = request.headers.get("authorization") or f"Bearer {request.cookies.get(COOKIE, '')}"
        try:
            self._keys.check(token)
        except Refusal as refusal:
            if reading and self._own_user and self._own_user(request):
                return None
            return PlainTextResponse(refusal.message, status_code=401)
        return None

    def _path(self, text: str) -> Path | None:
        if "\x00" in text:
            return None
        target = Path(os.path.normpath(self._folder / text.lstrip("/")))
        return target if self._folder in target.parents else None

    async def _write(self, target: Path, part: UploadFile) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{new_id()}.part")
        try:
            with beside.open("wb") as file:
                while chunk := await part.read(_CHUNK):
                    file.write(chunk)
            beside.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
