"""A network namespace that reaches one address only.

lonely.py --outside SOCKET PORT        relays from a unix socket (which namespaces share) to 127.0.0.1:PORT
lonely.py --inside SOCKET PORT COMMAND...   in a new namespace: 127.0.0.1:PORT leads to the socket; runs the command
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading

_CLONE_NEWNET = 0x40000000


def relay(server: socket.socket, family: int, target: object) -> None:
    while True:
        here, _ = server.accept()
        there = socket.socket(family)
        there.connect(target)  # type: ignore[arg-type]
        for source, sink in ((here, there), (there, here)):
            threading.Thread(target=pump, args=(source, sink), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING


def main() -> int:
    path, port = sys.argv[2], int(sys.argv[3])
    if sys.argv[1] == "--outside":
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen(64)
        relay(server, socket.AF_INET, ("127.0.0.1", port))
    import ctypes

    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    loopback_up()
    inside = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=relay, args=(inside, socket.AF_UNIX, path), daemon=True).start()
    return subprocess.run(sys.argv[4:]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
