"""Who is at the other end of a loopback connection: the kernel's word for the user that made it.

Any user of a machine can connect to a loopback port, and so can a proxy that brings strangers in. Linux lists every
TCP socket with its owner's uid in /proc/net/tcp and tcp6 (proc_pid_net(5): columns local_address, rem_address, uid),
so a server can tell its own user's connections from everybody else's.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

Address = IPv4Address | IPv6Address
End = tuple[Address, int]
"""Address and port."""

ESTABLISHED = "01"
"""The only state believed: a socket that its process closed is listed with uid 0."""
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def is_loopback(host: str) -> bool:
    """Whether an address (no name but `localhost`) is this machine's own: 127.0.0.0/8, ::1, ::ffff:127.0.0.0/104."""
    if host == "localhost":
        return True
    try:
        return _plain(ip_address(host)).is_loopback
    except ValueError:
        return False


def owner(client: tuple[str, int], server: tuple[str, int], tables: tuple[Path, ...] = TABLES) -> int | None:
    """The uid of the process that connected from `client` to `server`; None where the kernel does not say."""
    try:
        wanted = (_end(client), _end(server))
    except ValueError:
        return None
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == ESTABLISHED and (_row_end(words[1]), _row_end(words[2])) == wanted:
                return int(words[7])
    return None


def _end(pair: tuple[str, int]) -> End:
    return _plain(ip_address(pair[0])), pair[1]


def _row_end(text: str) -> End:
    """`0100007F:1F90`: 32-bit words in the machine's byte order, each as hexadecimal digits; the port likewise."""
    digits, port = text.split(":")
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return _plain(ip_address(socket.inet_ntop(family, raw))), int(port, 16)


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
