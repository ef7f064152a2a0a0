"""A port on another address that leads to one on loopback: how pods reach the servers of the tests."""

from __future__ import annotations

import contextlib
import socket
import threading


class Forward:
    """Listens on `address` until `close`; `port` is its own (a free one for 0), `target` the port on loopback."""

    def __init__(self, address: str, target: int, port: int = 0) -> None:
        self._target = target
        self._listener = socket.create_server((address, port), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                try:
                    other = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    one.close()
                    continue
                other.settimeout(None)
                for source, sink in ((one, other), (other, one)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
