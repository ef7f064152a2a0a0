"""`podstrap standalone`: open the data folder, listen, say what clients must export, serve until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from protocol.errors import ConfigError
from standalone.app import application
from standalone.auth import Keys
from standalone.auth import keys as kept_keys
from standalone.files import Files
from standalone.queues import default
from standalone.store import Store
from standalone.task_life import watchdog
from standalone.web import is_own_user
from standalone.wire import Call

_WATCHDOG_SECONDS = 60.0
log = logging.getLogger("podstrap.standalone")


@dataclass(frozen=True)
class ServeSettings:
    """Where the data lies and where to listen. Keys that are not given are made once and kept in the folder."""

    data: Path
    host: str = "127.0.0.1"
    api_port: int = 8008
    access_key: str = ""
    secret_key: str = ""


def serve(settings: ServeSettings) -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean stop.

    Raises ConfigError when the folder or the address cannot be used.
    """
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The data folder {settings.data} cannot be made: {error.strerror}") from error
    store = Store(settings.data / "podstrap.sqlite")
    keys = kept_keys(settings.data, settings.access_key, settings.secret_key)
    with contextlib.closing(store), _listening(settings) as listener:
        with store.transaction():
            default(Call(store, {}))
        asyncio.run(_until_stopped(settings, store, keys, listener))
    return 0


async def _until_stopped(settings: ServeSettings, store: Store, keys: Keys, listener: socket.socket) -> None:
    files = Files(settings.data / "files", keys, is_own_user)
    app = application(store, keys, files, bound_host=settings.host)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=3, server_header=False
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    async with _watched(store):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            sys.stdout.write(exports(settings.host, listener.getsockname()[1], keys))
            sys.stdout.flush()
        await serving


@contextlib.asynccontextmanager
async def _watched(store: Store) -> AsyncIterator[None]:
    """The real server's watchdog: once a minute, running tasks that are silent for two hours are stopped."""

    async def forever() -> None:
        while True:
            await asyncio.sleep(_WATCHDOG_SECONDS)
            await asyncio.to_thread(_watch, store)

    watching = asyncio.create_task(forever())
    try:
        yield
    finally:
        watching.cancel()


def _watch(store: Store) -> None:
    with store.transaction():
        if silent := watchdog(Call(store, {})):
            log.warning("stopped-silent-tasks count=%d", silent)


def exports(host: str, port: int, keys: Keys) -> str:
    """One line for a shell: API, files and web are the same address here."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 (compared, not bound)
    address = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    pairs = {
        "CLEARML_API_HOST": address,
        "CLEARML_FILES_HOST": address,
        "CLEARML_WEB_HOST": address,
        "CLEARML_API_ACCESS_KEY": keys.access,
        "CLEARML_API_SECRET_KEY": keys.secret,
    }
    return "export " + " ".join(f"{name}={value}" for name, value in pairs.items()) + "\n"


def _listening(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With its protocol named, asyncio sets TCP_NODELAY on what it accepts; without, each answer waits 40 ms for an
    # acknowledgement (Nagle's algorithm against delayed ACK).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.api_port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {settings.host}, port {settings.api_port}: {error.strerror}",
            hint="another server may have it: choose another --api-port, or 0 for any",
        ) from error
    with contextlib.suppress(ValueError):
        if not ipaddress.ip_address(settings.host).is_loopback:
            log.warning("listening on %s: others can reach this server; it has one pair of keys", settings.host)
    return listener
