"""A bridge of the host, to which a test node's pods are plugged. The host's address on it is where pods reach tests.

It has no way out: no forwarding, no address translation, no firewall rule, so nothing of the host's own network is
changed. Pods reach the servers that listen on the bridge's address, and each other.
"""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

from tests.cluster import tools

_MAX_NAME = 15
"""Linux: IFNAMSIZ less the final zero."""


class Bridge:
    """`name`: at most 15 letters, ours alone. `subnet`: such as 10.88.7.0/24; the host gets its first address."""

    def __init__(self, name: str, subnet: str) -> None:
        assert len(name) <= _MAX_NAME, f"{name}: an interface's name has at most {_MAX_NAME} letters"
        self.name = name
        self.subnet = ipaddress.ip_network(subnet)
        self.address = str(next(self.subnet.hosts()))

    def up(self) -> None:
        """There, with its address; no change when it is there already. Servers can listen on `address` from here on."""
        if not self.exists():
            _ip("link", "add", self.name, "type", "bridge")
        _ip("address", "replace", f"{self.address}/{self.subnet.prefixlen}", "dev", self.name)
        _ip("link", "set", self.name, "up")

    def unplug(self) -> None:
        """Every pod's cable gone."""
        for port in self.ports():
            subprocess.run(["ip", "link", "delete", port], capture_output=True)  # it may go with its pod just now

    def down(self) -> None:
        """Gone, with what was plugged to it."""
        self.unplug()
        if self.exists():
            _ip("link", "delete", self.name)

    def exists(self) -> bool:
        return self._folder.exists()

    def ports(self) -> list[str]:
        """The host's ends of the pods' cables."""
        return sorted(path.name for path in (self._folder / "brif").glob("*"))

    @property
    def _folder(self) -> Path:
        return Path("/sys/class/net") / self.name


def _ip(*words: str) -> None:
    tools.run(["ip", *words])
