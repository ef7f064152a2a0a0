"""Who we are at a git host: read as clearml-agent reads it, handed to git by GIT_ASKPASS and nothing else.

In order, the first that matches the host counts: what the repository's own address holds, the entries of
`agent.git.extra_credentials` (`user`, `pass`, `host`), then CLEARML_AGENT_GIT_USER/PASS/HOST or `agent.git_user`,
`git_pass`, `git_host` (without a host: any). With `agent.git_host_match_prefix` a host is a prefix of the whole URL.

The values stand in the environment of the git process alone. git asks with the URL in single quotes, git-lfs in double
ones. The askpass script compares the host that git asks for
and notes that it was asked, by which the mirror knows that the repository needs credentials.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearml_api.configuration import Configuration, is_on, variable
from protocol.folder import TOOLS

ASKED = "PODSTRAP_GIT_ASKED"
"""The file that the askpass script makes when git asks."""
_ASKPASS = """
# Answers git's question from the environment of this git process: the first entry for the host that is asked for.
[ -z "$PODSTRAP_GIT_ASKED" ] || : > "$PODSTRAP_GIT_ASKED"
url=${1#*[\\'\\"]}
url=${url%[\\'\\"]*}
rest=${url#*://}
authority=${rest%%/*}
path=${rest#"$authority"}
authority=${authority##*@}
case "$authority" in
*]) host=$authority ;;
*) host=${authority%:*} ;;
esac
whole="${url%%://*}://$authority$path"
n=0
while [ "$n" -lt "${PODSTRAP_GIT_COUNT:-0}" ]; do
  eval "wanted=\\${PODSTRAP_GIT_${n}_HOST} user=\\${PODSTRAP_GIT_${n}_USER} password=\\${PODSTRAP_GIT_${n}_PASS}"
  n=$((n + 1))
  if [ -z "$PODSTRAP_GIT_PREFIX" ]; then
    [ -z "$wanted" ] || [ "$wanted" = "$host" ] || [ "$wanted" = "$authority" ] || continue
  else
    case "$whole" in "$wanted"*) ;; *) continue ;; esac
  fi
  case "$1" in
  Username*) printf '%s\\n' "$user" ;;
  Password*) printf '%s\\n' "$password" ;;
  *) exit 1 ;;
  esac
  exit 0
done
exit 1
"""


@dataclass(frozen=True)
class Credentials:
    """A user and a password (or token) for a host."""

    host: str
    """Empty: any host."""
    user: str
    password: str = field(repr=False)
    prefix: bool = False
    """`host` is the beginning of the whole URL."""

    def matches(self, host: str, url: str) -> bool:
        """Whether they are for a host, and an address on it."""
        if not self.host:
            return True
        return url.startswith(self.host) if self.prefix else self.host == host.lower()


def host(configuration: Configuration, environ: Mapping[str, str]) -> str:
    """The one host that the ordinary user and password are for; empty: any."""
    return variable(environ, "CLEARML_AGENT_GIT_HOST") or str(configuration.get("agent.git_host") or "")


def known(configuration: Configuration, environ: Mapping[str, str]) -> tuple[Credentials, ...]:
    """Everything configured, in the order in which it counts."""
    prefix = configuration.flag("agent.git_host_match_prefix")
    user = variable(environ, "CLEARML_AGENT_GIT_USER") or str(configuration.get("agent.git_user") or "")
    password = variable(environ, "CLEARML_AGENT_GIT_PASS") or str(configuration.get("agent.git_pass") or "")
    extra = configuration.get("agent.git.extra_credentials") or ()
    found = [_entry(one, prefix) for one in extra if isinstance(one, Mapping)] if isinstance(extra, list) else []
    if password:  # a token alone is enough for the hosts that take any user's name
        found.append(Credentials(host(configuration, environ).lower(), user or "git", password, prefix))
    return tuple(one for one in found if one)


def environment(all_of_them: tuple[Credentials, ...], asked: Path, work: Path) -> dict[str, str]:
    """The variables by which git learns them. `asked` is made when git asks. Raises OSError."""
    found = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": str(_askpass(work)), ASKED: str(asked)}
    found["PODSTRAP_GIT_COUNT"] = str(len(all_of_them))
    found["PODSTRAP_GIT_PREFIX"] = "1" if any(one.prefix for one in all_of_them) else ""
    for number, one in enumerate(all_of_them):
        found[f"PODSTRAP_GIT_{number}_HOST"] = one.host
        found[f"PODSTRAP_GIT_{number}_USER"] = one.user
        found[f"PODSTRAP_GIT_{number}_PASS"] = one.password
    return found


def header(
    url: str, all_of_them: tuple[Credentials, ...], configuration: Configuration, environ: Mapping[str, str]
) -> str:
    """The Authorization header of Azure DevOps, where clearml.conf asks for one of its two ways; else empty."""
    entra = _on("git_use_ms_entra_token", configuration, environ)
    if not entra and not _on("git_use_azure_pat", configuration, environ):
        return ""
    name = url.partition("://")[2].partition("/")[0].rpartition(":")[0] or url.partition("://")[2].partition("/")[0]
    password = next((one.password for one in all_of_them if one.password and one.matches(name, url)), "")
    if not password:
        return ""
    if entra:
        return f"Authorization: Bearer {password}"
    return "Authorization: Basic " + base64.b64encode(f":{password}".encode()).decode()


def _on(name: str, configuration: Configuration, environ: Mapping[str, str]) -> bool:
    return is_on(environ, f"CLEARML_AGENT_{name.upper()}") or configuration.flag(f"agent.{name}")


def _entry(one: Mapping[str, Any], prefix: bool) -> Credentials | None:
    user, password = one.get("user") or one.get("username"), one.get("pass") or one.get("password")
    if not (user and password and one.get("host")):
        return None
    return Credentials(str(one["host"]).lower(), str(user), str(password), prefix)


def _askpass(work: Path) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    script = work / "askpass"
    if not script.exists():
        descriptor = os.open(script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"#!{_shell()}{_ASKPASS}")
    return script


def _shell() -> Path:
    """Every image that has a shell has this one."""
    usual = Path("/bin/sh")
    return usual if usual.exists() or not (TOOLS / "sh").exists() else TOOLS / "sh"
