"""Git as a program that is handed untrusted text: what it may do, and the environment in which it does it.

Only ordinary transports, no hooks, no prompts, no automatic gc; options end before operands (`--`), and a URL or
reference that begins with a dash or names a transport helper (`ext::`) is refused (`remote`). Who we are
(`credentials`, `ssh`) stands in the environment of the git process alone: never in a URL, an argument, a
configuration file or a message.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap import credentials, lent, ssh
from bootstrap.commands import Programs
from bootstrap.credentials import ASKED
from bootstrap.remote import Remote
from clearml_api.configuration import Configuration

_PROTOCOLS = "file:git:http:https:ssh"
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.directory": "*",
    "advice.detachedHead": "false",
    "protocol.ext.allow": "never",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
}
"""A transfer below 1000 bytes a second for a minute is over."""
_LFS = {
    "filter.lfs.clean": "git-lfs clean -- %f",
    "filter.lfs.smudge": "git-lfs smudge -- %f",
    "filter.lfs.process": "git-lfs filter-process",
    "filter.lfs.required": "true",
}
"""What `git lfs install` writes; an image may have the program without it."""
_NOT_OURS = ("GIT_DIR", "GIT_WORK", "GIT_INDEX", "GIT_OBJECT", "GIT_ALTERNATE", "GIT_NAMESPACE", "GIT_CEILING")
_SILENT = re.compile(
    r"url\..*\.insteadof=|credential\.(?:(?P<where>.*)\.)?helper=\S|http\.(?:.*\.)?(?:extraheader|cookiefile|sslcert)=",
    re.I,
)
"""Settings by which git gives credentials without asking us."""
_CERTIFICATES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
"""What else may name a bundle of certificates; git itself reads GIT_SSL_CAINFO alone."""


@dataclass(frozen=True)
class Access:
    """A remote and the whole environment of a git process that goes there."""

    remote: Remote
    environ: Mapping[str, str]
    unasked: bool = False
    """Credentials go along unasked (a key, a header): a success does not tell that none were needed."""

    def forget(self) -> None:
        """From now on `was_open` tells of what follows."""
        Path(self.environ[ASKED]).unlink(missing_ok=True)

    def was_open(self, programs: Programs) -> bool:
        """Whether what git did there went without any credentials, so that anybody could have done it."""
        if self.remote.local or self.remote.url.startswith("git:"):
            return True
        netrc = Path(self.environ.get("HOME", "/"), ".netrc")
        if self.unasked or netrc.exists() or Path(self.environ[ASKED]).exists():
            return False
        settings = programs.run(["git", "config", "--list"], environ=self.environ).output
        host = self.remote.url.split("/")[2].rpartition(":")[0] or self.remote.url.split("/")[2]
        found = [match for line in settings.splitlines() if (match := _SILENT.match(line))]
        return not any(not match["where"] or host in match["where"] for match in found)


def access(where: Remote, configuration: Configuration, environ: Mapping[str, str], work: Path) -> Access:
    """How git goes there. Raises OSError when the work folder cannot be written."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_NOT_OURS)}
    kept.update({"GIT_ALLOW_PROTOCOL": _PROTOCOLS, "LC_ALL": "C.UTF-8"})
    asked = work / f"asked-{hashlib.sha256(where.url.encode()).hexdigest()[:16]}"
    kept.update(credentials.environment(where.credentials, asked, work))
    kept.update(ssh.environment(environ, work))
    if bundle := next((environ[name] for name in _CERTIFICATES if environ.get(name)), ""):
        kept.setdefault("GIT_SSL_CAINFO", bundle)
    settings = dict(_SETTINGS)
    if has_lfs(environ):
        settings.update(_LFS)
    base = "/".join(where.url.split("/")[:3])
    header = ""
    if where.url.startswith(("http://", "https://")):
        header = credentials.header(where.url, where.credentials, configuration, environ)
        if header:
            settings[f"http.{base}/.extraHeader"] = header
        if where.credentials:
            settings[f"credential.{base}.helper"] = ""  # what git was told here is not to be stored anywhere
        if any(one.prefix for one in where.credentials):
            settings["credential.useHttpPath"] = "true"
    _configure(kept, settings)
    theirs = not where.credentials and environ.get("GIT_ASKPASS", "")
    if theirs:  # the operator has a way of their own
        kept["GIT_ASKPASS"] = theirs
    return Access(where, kept, unasked=where.over_ssh or bool(header or theirs))


def redirected(environ: Mapping[str, str], old: str, new: str) -> Mapping[str, str]:
    """The same environment, in which git goes to `new` for addresses that begin with `old`."""
    found = dict(environ)
    _configure(found, {f"url.{new}.insteadOf": old})
    return found


def has_lfs(environ: Mapping[str, str]) -> bool:
    """Whether there is a git-lfs, the image's or ours."""
    return shutil.which("git-lfs", path=lent.to_helpers(environ).get("PATH", os.defpath)) is not None


def _configure(environ: dict[str, str], settings: Mapping[str, str]) -> None:
    """Add settings to those that the environment may already have; ours come later and win."""
    count = environ.get("GIT_CONFIG_COUNT", "")
    begin = int(count) if count.isdigit() else 0
    for number, (name, value) in enumerate(settings.items(), begin):
        environ[f"GIT_CONFIG_KEY_{number}"] = name
        environ[f"GIT_CONFIG_VALUE_{number}"] = value
    environ["GIT_CONFIG_COUNT"] = str(begin + len(settings))
