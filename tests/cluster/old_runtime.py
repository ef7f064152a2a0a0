"""A node whose runtime does not know image volumes: Debian 12's containerd 1.6 under the same kubelet.

The package is unpacked, not installed: it would start a daemon of its own on this machine.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster import node_settings, tools
from tests.cluster.node import CNI_BINARIES, Node

VERSION = "1.6"
_PROGRAMS = ("containerd", "containerd-shim-runc-v2")


class OldNode(Node):
    """As Node, with `binaries()` of this module."""

    def _write_settings(self) -> None:
        super()._write_settings()
        text = containerd(self._etc, self._binaries / "runc")
        (self._etc / "containerd.toml").write_text(text)


def binaries() -> Path:
    """Folder with every program of a node, its containerd an old one."""
    new = tools.binaries()

    def build(folder: Path) -> None:
        tools.run(["apt-get", "update"])
        tools.run(["apt-get", "download", "containerd"], where=folder)
        (package,) = folder.glob("containerd_*.deb")
        tools.run(["dpkg-deb", "--extract", package, folder / "package"])
        package.unlink()
        for program in new.iterdir():
            if program.name not in _PROGRAMS:
                (folder / program.name).symlink_to(program)
        for name in _PROGRAMS:
            (folder / name).symlink_to(f"package/usr/bin/{name}")

    return tools.once(f"bin-containerd-{VERSION}-{tools.key(str(new))}", build)


def containerd(etc: Path, runc: Path) -> str:
    """Configuration version 2, of containerd 1.x."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{node_settings.SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[{cri}]
sandbox_image = "{node_settings.PAUSE_IMAGE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[{cri}.cni]
bin_dir = "{CNI_BINARIES}"
conf_dir = "{etc}/cni"
[{cri}.containerd]
snapshotter = "overlayfs"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""
