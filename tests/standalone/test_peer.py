"""Whose connection is it: asked of the real kernel, and of tables written here."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from standalone.peer import is_loopback, owner

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/tcp is Linux's")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_own_connection_is_ones_own(address: str) -> None:
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        with socket.create_connection(server.getsockname()[:2]) as client:
            ends = client.getsockname()[:2], server.getsockname()[:2]
            assert owner(*ends) == os.getuid()
        assert owner(*ends) is None, "a closed connection is nobody's"


@pytest.mark.parametrize(("state", "found"), [("01", 1000), ("04", None), ("06", None)])
def test_only_an_established_connection_is_believed(tmp_path: Path, state: str, found: int | None) -> None:
    table = tmp_path / "tcp"
    table.write_text(f"{HEADER}   0: {row('127.0.0.1', 40000)} {row('127.0.0.1', 8008)} {state} 0:0 0:0 0 1000 0 5\n")
    assert owner(("127.0.0.1", 40000), ("127.0.0.1", 8008), (table,)) == found


def test_the_servers_own_end_is_not_taken_for_the_clients(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(f"{HEADER}   0: {row('127.0.0.1', 8008)} {row('127.0.0.1', 40000)} 01 0:0 0:0 0 1000 0 5\n")
    assert owner(("127.0.0.1", 40000), ("127.0.0.1", 8008), (table,)) is None


def test_where_the_kernel_says_nothing_nobody_is_known(tmp_path: Path) -> None:
    assert owner(("127.0.0.1", 40000), ("127.0.0.1", 8008), (tmp_path / "missing",)) is None
    assert owner(("testclient", 40000), ("127.0.0.1", 8008)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.1", "127.0.0.1.example.org", "localhost.example.org"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def row(address: str, port: int) -> str:
    word = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    return f"{word:08X}:{port:04X}"
