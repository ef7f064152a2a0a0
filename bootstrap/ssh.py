"""How git uses ssh in a pod: the keys that are mounted, the known_hosts that is mounted, never a question.

Kubernetes mounts a Secret's files world-readable and owned by root, and ssh refuses such a key; a key that was pasted
into a Secret often lacks its last newline, and ssh cannot read it. So a key that ssh would refuse is copied into the
pod's work folder, as it should be. Keys are looked for in `~/.ssh` under any name (`ssh-privatekey` is the name in a
Secret of type kubernetes.io/ssh-auth). Where a known_hosts is mounted, only its hosts are trusted; where none is, a
host is trusted when it is first met. ssh itself looks only at the account's own home, so both are named to it.
GIT_SSH_COMMAND and GIT_SSH, where the pod has them, are left as they are.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from bootstrap import lent

_LARGEST_KEY = 1 << 16
_NO_KEYS = ("known_hosts", "known_hosts.old", "authorized_keys", "config", "environment")


def environment(environ: Mapping[str, str], work: Path) -> dict[str, str]:
    """The variables by which git finds its ssh. Raises OSError when a key cannot be copied."""
    if environ.get("GIT_SSH_COMMAND") or environ.get("GIT_SSH"):
        return {}
    folder = Path(environ.get("HOME") or Path.home()) / ".ssh"
    own = work / "ssh"
    words = [*lent.ssh(work, environ.get("HOME", "")), "-oBatchMode=yes"]
    configured = _text(folder / "config")
    if configured and not _is_home(folder):
        words.append(f"-F{folder / 'config'}")
    hosts = folder / "known_hosts"
    mounted = bool(_text(hosts).strip())
    if "stricthostkeychecking" not in configured.lower():
        words.append(f"-oStrictHostKeyChecking={'yes' if mounted else 'accept-new'}")
    if "userknownhostsfile" not in configured.lower():
        words.append(f"-oUserKnownHostsFile={_quoted(hosts if mounted else own / 'known_hosts')}")
    for key in _keys(folder, own):
        words.append(f"-oIdentityFile={_quoted(key)}")
    if not mounted:
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


def _keys(folder: Path, own: Path) -> list[Path]:
    try:
        files = sorted(file for file in folder.iterdir() if file.name not in _NO_KEYS and file.suffix != ".pub")
    except OSError:
        return []
    found = []
    for file in files:
        text = _text(file)
        if text.lstrip().startswith("-----BEGIN") and "PRIVATE KEY-----" in text:
            found.append(file if _usable(file, text) else _copied(file, text, own))
    return found


def _usable(file: Path, text: str) -> bool:
    """Whether ssh would take the key: nobody else may read it when it is ours, and it ends with a newline."""
    stat = file.stat()
    return text.endswith("\n") and "\r" not in text and (stat.st_uid != os.geteuid() or not stat.st_mode & 0o077)


def _copied(file: Path, text: str, own: Path) -> Path:
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = own / file.name
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", newline="\n") as opened:
        opened.write(text.replace("\r\n", "\n").rstrip("\n") + "\n")
    return copy


def _text(file: Path) -> str:
    """A small text file; empty when there is none (or a folder, or none of ours to read)."""
    try:
        if not file.is_file() or (file.stat().st_size > _LARGEST_KEY and file.name != "known_hosts"):
            return ""
        return file.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _is_home(folder: Path) -> bool:
    """Whether it is where ssh looks by itself: the account's home, whatever HOME says."""
    import pwd

    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir, ".ssh") == folder
    except KeyError:
        return False


def _quoted(file: Path) -> str:
    """As ssh's configuration wants a path: quotes around it, and no percent sign that means something."""
    return '"' + str(file).replace("%", "%%") + '"'
