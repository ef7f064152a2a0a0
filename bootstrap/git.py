"""Git as a program that is handed untrusted text: what it may do, and how it gets credentials.

Only ordinary transports, no hooks, no prompts, no automatic gc; options end before operands (`--`), and a URL or
reference that begins with a dash or names a transport helper (`ext::`) is refused. Credentials come by GIT_ASKPASS
from the environment of the git process alone: never in a URL, an argument, a configuration file or a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from bootstrap.errors import RepositoryError
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
}
_ASKPASS = """#!/bin/sh
# Answers git's question from the environment of this git process; another host gets nothing.
case "$1" in *"${PODSTRAP_GIT_HOST:-}"*) ;; *) exit 1 ;; esac
case "$1" in
Username*) printf '%s\\n' "$PODSTRAP_GIT_USER" ;;
Password*) printf '%s\\n' "$PODSTRAP_GIT_PASS" ;;
*) exit 1 ;;
esac
"""
_SCP_LIKE = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!//)\S+")
_SCHEMES = ("file", "git", "http", "https", "ssh")


@dataclass(frozen=True)
class Remote:
    """Where a repository is, without its credentials, and who we are there."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    host: str = ""
    """The one host that gets user and password; empty: any."""


def remote(repository: str, configuration: Configuration, environ: Mapping[str, str]) -> Remote:
    """The remote of a task's repository. Raises RepositoryError for what is no repository's address."""
    url = repository.strip()
    if url.startswith("-") or "::" in url.split("/")[0] or any(ord(character) < 32 for character in url):
        raise RepositoryError(f"{url!r} is no repository's address", hint="https, ssh, git, file URLs and paths are")
    parts = urlsplit(url)
    if "://" in url and parts.scheme.lower() not in _SCHEMES:
        raise RepositoryError(f"{url!r}: git may not use {parts.scheme}://", hint=f"use one of {', '.join(_SCHEMES)}")
    user = environ.get("CLEARML_AGENT_GIT_USER") or str(configuration.get("agent.git_user") or "")
    password = environ.get("CLEARML_AGENT_GIT_PASS") or str(configuration.get("agent.git_pass") or "")
    host = environ.get("CLEARML_AGENT_GIT_HOST") or str(configuration.get("agent.git_host") or "")
    if parts.scheme.lower() in ("http", "https") and parts.password:
        clean = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return Remote(clean, unquote(parts.username or ""), unquote(parts.password), parts.hostname or "")
    return Remote(url, user, password, host)


def environment(where: Remote, environ: Mapping[str, str], work: Path) -> dict[str, str]:
    """The whole environment of a git process."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("GIT_DIR", "GIT_WORK", "GIT_INDEX"))}
    kept.update(
        {
            "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oStrictHostKeyChecking=accept-new"),
            "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
            "GIT_LFS_SKIP_SMUDGE": environ.get("GIT_LFS_SKIP_SMUDGE", "0"),
            "LC_ALL": "C.UTF-8",
        }
    )
    for number, (name, value) in enumerate(_SETTINGS.items()):
        kept[f"GIT_CONFIG_KEY_{number}"] = name
        kept[f"GIT_CONFIG_VALUE_{number}"] = value
    if where.password:
        kept["GIT_ASKPASS"] = str(_askpass(work))
        kept["PODSTRAP_GIT_USER"] = where.user
        kept["PODSTRAP_GIT_PASS"] = where.password
        kept["PODSTRAP_GIT_HOST"] = where.host
    else:
        kept.pop("GIT_ASKPASS", None)
        kept["GIT_ASKPASS"] = "/bin/false"
    return kept


def secrets(where: Remote) -> tuple[str, ...]:
    """What must be masked in everything that is shown of this remote."""
    return (where.password, quote(where.password, safe="")) if where.password else ()


def reference(text: str, what: str) -> str:
    """A branch, tag or commit as the task names it, safe as an operand. Raises RepositoryError."""
    if text.startswith("-") or any(ord(character) <= 32 for character in text) or ".." in text or ":" in text:
        raise RepositoryError(f"{text!r} is no valid {what}", hint="look at the task's Execution tab")
    return text


def _askpass(work: Path) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    script = work / "askpass"
    if not script.exists():
        descriptor = os.open(script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
        with os.fdopen(descriptor, "w") as file:
            file.write(_ASKPASS)
    return script
