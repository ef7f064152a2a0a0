"""One kind of object in one namespace, listed once and then watched: a thread that keeps a store up to date.

List in pages, then watch from the list's resourceVersion with bookmarks; a broken watch goes on from the last
version it saw; a version that the server has forgotten (410 Gone) is listed anew. In between the store is a moment
old, never wrong in itself (https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Generic, Protocol, TypeVar

import msgspec

from controller.cluster.interface import ClusterError
from controller.cluster.kube_objects import Event, Meta, Named, Page
from controller.cluster.kubernetes import Api, ApiError

log = logging.getLogger("podstrap.controller")


class _Object(Protocol):
    metadata: Meta


T = TypeVar("T", bound=_Object)

PAGE = 500
WATCH_SECONDS = 300
"""The server ends a watch after this long; the next goes on where it stopped. It sends a bookmark every minute."""
SILENCE_SECONDS = 100.0
"""Longer than between two bookmarks: nothing at all for so long means that the connection is dead."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_LIST_READ_SECONDS = 60.0
_GONE = 410


class Store(Protocol[T]):
    """Where a watch puts what it sees. Called by the watch's thread."""

    def replace(self, found: dict[str, T], began: float) -> None:
        """A whole list, by uid, whose first request was sent at `began` (monotonic seconds)."""
        ...

    def put(self, one: T) -> None:
        """Added or changed."""
        ...

    def drop(self, one: T) -> None:
        """Deleted; `one` is its last state."""
        ...


class Watch(Generic[T]):
    """`start` it, read `trouble`, `stop` it."""

    def __init__(self, api: Api, path: str, selector: str, kind: type[T], store: Store[T]) -> None:
        self._api = api
        self._path = path
        self._selector = selector
        self._store = store
        self._event = msgspec.json.Decoder(Event)
        self._object: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._page: msgspec.json.Decoder[Page[T]] = msgspec.json.Decoder(Page[kind])  # type: ignore[valid-type]
        self._version = ""
        self._stopped = threading.Event()
        self._listed = threading.Event()
        self._failing: tuple[float, str] | None = None
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """No more calls of the store after the present one; the thread ends with its request."""
        self._stopped.set()

    def synced(self, seconds: float) -> bool:
        """Whether the store is filled, waiting up to `seconds` for it; also over as soon as the server refuses."""
        end = time.monotonic() + seconds
        while not self._listed.wait(max(0.0, min(0.05, end - time.monotonic()))):
            if self._failing or time.monotonic() >= end:
                return False
        return True

    def trouble(self, patience_seconds: float) -> str:
        """Why the store cannot be relied on; empty while it can: it is filled, and failing no longer than that."""
        failing = self._failing
        if not self._listed.is_set():
            return failing[1] if failing else f"{self._path} is not listed yet"
        return failing[1] if failing and time.monotonic() - failing[0] > patience_seconds else ""

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
            except ApiError as error:
                if error.status == _GONE:
                    self._version = ""
                    continue
                self._failed(str(error), error.retry_after)
            except (ClusterError, msgspec.MsgspecError) as error:
                self._failed(str(error), None)
            except Exception as error:  # a thread that dies silently would freeze the store for ever
                log.exception("watch-bug path=%s", self._path)
                self._version = ""
                self._failed(f"{type(error).__name__}: {error}", None)

    def _list(self) -> None:
        began = time.monotonic()
        found: dict[str, T] = {}
        query = {"labelSelector": self._selector, "limit": PAGE}
        while True:
            raw = self._api.request("GET", self._path, query, read_seconds=_LIST_READ_SECONDS)
            page = self._page.decode(raw)
            found |= {one.metadata.uid: one for one in page.items}
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        if self._stopped.is_set():
            return
        self._store.replace(found, began)
        self._version = page.metadata.resourceVersion
        self._listed.set()
        self._well()

    def _watch(self) -> None:
        """Until the server ends it. Raises what `stream` raises; ApiError 410 when the version is forgotten."""
        query = {
            "watch": "1",
            "labelSelector": self._selector,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": random.randint(WATCH_SECONDS, WATCH_SECONDS * 3 // 2),  # noqa: S311
        }
        began, seen = time.monotonic(), False
        for line in self._api.stream(self._path, query, SILENCE_SECONDS):
            if self._stopped.is_set():
                return
            self._take(self._event.decode(line))
            seen = True
            self._well()
        if not seen and time.monotonic() - began < 1.0:  # a server that ends each watch at once is not to be hammered
            self._failed("the watch ended at once", None)
        else:
            self._well()

    def _take(self, event: Event) -> None:
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object)
            raise ApiError(
                int(status.get("code") or 500), str(status.get("reason", "")), str(status.get("message", ""))
            )
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=Named).metadata.resourceVersion
            return
        one = self._object.decode(event.object)
        self._store.drop(one) if event.type == "DELETED" else self._store.put(one)
        self._version = one.metadata.resourceVersion

    def _well(self) -> None:
        if self._failing:
            log.info("watch-resumed path=%s failures=%d", self._path, self._failures)
        self._failing, self._failures = None, 0

    def _failed(self, why: str, retry_after: float | None) -> None:
        self._failures += 1
        if self._failing is None:
            log.warning("watch-failed path=%s error=%r", self._path, why)
        self._failing = (self._failing[0] if self._failing else time.monotonic(), why)
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10))
        self._stopped.wait(max(pause * random.uniform(0.8, 1.2), retry_after or 0.0))  # noqa: S311
