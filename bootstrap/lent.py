"""What podstrap lends to an image that lacks it: git, git-lfs, ssh, a shell, certificates, a name for the user.

Helper programs get it through their environment (`commands.Programs`): our tools come last on PATH, so the image's own
win. The task's process gets none of it: it sees its image as it is. The one exception is a user without a name or home
(a uid that /etc/passwd does not know, as OpenShift gives): see `home`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from clearml_api import certificates
from protocol.folder import HOME, TOOLS

_USERS_LIBRARY = HOME / "runtime" / "libnss_wrapper.so"
_CERTIFICATES = ("SSL_CERT_FILE", "GIT_SSL_CAINFO")


def to_helpers(environ: Mapping[str, str], tools: Path = TOOLS) -> dict[str, str]:
    """The environment of a helper program: `environ`, with ours where the image has none."""
    found = dict(environ)
    path = found.get("PATH") or os.defpath
    if tools.is_dir() and str(tools) not in path.split(os.pathsep):
        found["PATH"] = f"{path}{os.pathsep}{tools}"
    if bundle := certificates.bundle(environ):
        found.update(dict.fromkeys(_CERTIFICATES, str(bundle)))
    return found


def taken_back(changed: Mapping[str, str | None], tools: Path = TOOLS) -> dict[str, str | None]:
    """What a script changed of the environment that it was lent, without what was lent."""
    found = dict(changed)
    if path := found.get("PATH"):
        found["PATH"] = os.pathsep.join(one for one in path.split(os.pathsep) if one != str(tools))
    return found


def shell(environ: Mapping[str, str], *wanted: str, tools: Path = TOOLS) -> str:
    """The first of these shells that the image has, else its `bash` or `sh`, else ours; empty where there is none."""
    path = environ.get("PATH")
    for name in (*wanted, "bash", "sh"):
        if found := shutil.which(name, path=path):
            return found
    return str(tools / "sh") if os.access(tools / "sh", os.X_OK) else ""


def is_ours(program: str | Path, tools: Path = TOOLS) -> bool:
    """Whether a program is one that we brought."""
    return Path(program).parent == tools


def ssh(work: Path, home: str, tools: Path = TOOLS) -> list[str]:
    """How ssh begins. It refuses to run for a user without a name, whom ours is told by a preloaded library."""
    if is_known() or not os.access(tools / "ssh", os.X_OK) or not _USERS_LIBRARY.exists():
        return ["ssh"]
    users, groups = work / "ssh" / "passwd", work / "ssh" / "group"
    users.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    users.write_text(f"podstrap:x:{os.geteuid()}:{os.getegid()}:podstrap:{home or '/'}:{tools / 'sh'}\n")
    groups.write_text(f"podstrap:x:{os.getegid()}:\n")
    names = {"LD_PRELOAD": _USERS_LIBRARY, "NSS_WRAPPER_PASSWD": users, "NSS_WRAPPER_GROUP": groups}
    return [*(f"{name}={value}" for name, value in names.items()), str(tools / "ssh")]


def is_known() -> bool:
    """Whether this user has a name."""
    import pwd

    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True
