"""A container without a runtime: an image's root file system, read-only, with podstrap's folder mounted into it.

Namespaces for mounts and processes, a bind mount for each volume, any user: what a kubelet does, in a fraction of a
second and without a cluster. The network is this machine's, so a pod reaches the servers of the tests on loopback.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protocol.folder import HOME
from tests.cluster import tools

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOUNT_POINTS = ("proc", "dev", "tmp", "podstrap/work", "podstrap/cache", "opt/podstrap", "etc", "mnt")
STRANGER = 12345
"""A uid that no image knows."""


@dataclass(frozen=True)
class Container:
    """One container to be started. `volumes`: place in it -> folder of this machine, which it may write."""

    root: Path
    volumes: Mapping[str, Path] = field(default_factory=dict)
    read: Mapping[str, Path] = field(default_factory=dict)
    """The same, read-only; files too."""
    user: int = STRANGER

    def argv(self, *words: str | Path) -> list[str]:
        """What runs these words in it, in this process's environment."""
        root, lines = shlex.quote(str(self.root)), ["set -e", "mount --make-rprivate /"]
        lines += [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        lines += [f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp"]
        for mounts, option in ((self.volumes, ""), (self.read, "ro,")):
            for place, source in mounts.items():
                target = f"{root}{shlex.quote(place)}"
                lines.append(f"mount --bind {shlex.quote(str(source))} {target}")
                lines += [f"mount -o remount,{option}bind {target}"] if option else []
        lines.append(f"mount -o remount,ro,bind {root}")
        lines.append(f'exec chroot --userspec={self.user}:0 --groups= {root} "$@"')
        return ["unshare", "--mount", "--pid", "--fork", "sh", "-c", "\n".join(lines), "sh", *map(str, words)]

    def run(self, *words: str | Path, **environ: str) -> str:
        """Both streams of a program that must end well."""
        done = self.end(*words, **environ)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def end(self, *words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """A program that may end as it likes, with both streams in stdout; its environment is PATH and `environ`."""
        return subprocess.run(
            self.argv(*words),
            env={"PATH": PATH, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )


def injected(root: Path, folder: Path, volumes: Mapping[str, Path] | None = None, **more: Path) -> Container:
    """An image that podstrap's folder is mounted into."""
    return Container(root, volumes or {}, {str(HOME): folder, **more})


def mount_points(root: Path) -> Path:
    """Make the folders that a runtime makes in an image; `root`."""
    for place in MOUNT_POINTS:
        (root / place).mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)  # pytest's folders are for one user alone
    (root / "tmp").chmod(0o1777)
    return root


def unpacked(name: str, layers: Sequence[Path]) -> Path:
    """The root file system of these layers, kept in the cache under `name`."""

    def build(folder: Path) -> None:
        (folder / "root").mkdir()
        for layer in layers:
            tools.run(["tar", "--extract", "--file", layer, "--directory", folder / "root", "--numeric-owner", "-p"])
        mount_points(folder / "root")

    return tools.once(name, build) / "root"
