"""Where a repository is, and by which way we go there: the task's address, checked, without credentials, and
switched between https and ssh as clearml.conf asks.

The rules are clearml-agent 3.0.3's (`VCS._set_ssh_url`): `agent.force_git_ssh_protocol` turns https into ssh (with
`force_git_ssh_user` and `force_git_ssh_port`); without it, and unless `agent.translate_ssh` is false, an ssh or
scp-like address becomes https where user and password are known for its host. A path or `file://` stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit

from bootstrap import credentials
from bootstrap.credentials import Credentials
from bootstrap.errors import RepositoryError
from clearml_api.configuration import Configuration, variable

_SCHEMES = ("file", "git", "http", "https", "ssh")
_SCP_LIKE = re.compile(r"(?:(?P<user>[^/@:]+)@)?(?P<host>[^/@:\[\]]+|\[[^/@\]]+\]):(?P<path>(?!//).*)", re.S)
_SSH_USERS = ("", "git", "hg")
"""Users of ssh that mean nobody in particular: they do not go along to https."""


@dataclass(frozen=True)
class Remote:
    """Where a repository is, without its credentials, and who we are there."""

    url: str
    credentials: tuple[Credentials, ...] = field(default=(), repr=False)
    """Who we are, in the order in which they are asked."""
    over_ssh: bool = False
    local: bool = False
    """A folder of this machine."""
    told: str = ""
    """What was changed about the address, for the user."""


@dataclass(frozen=True)
class _Address:
    """A repository's address in its parts. `scheme` is empty for a path, `scp` for `user@host:path`."""

    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = ""

    @property
    def url(self) -> str:
        if self.scheme in ("", "file"):
            return self.path
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        if self.scheme == "scp":
            return f"{self.user}@{self.host}:{self.path}" if self.user else f"{self.host}:{self.path}"
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{user}{self.host}{port}/{self.path.lstrip('/')}"


def remote(repository: str, configuration: Configuration, environ: Mapping[str, str]) -> Remote:
    """The remote of a repository's address. Raises RepositoryError for what is no repository's address."""
    address = _parse(repository.strip())
    known = credentials.known(configuration, environ)
    told = ""
    if address.scheme in ("http", "https", "scp", "ssh"):
        changed = _switched(address, known, configuration, environ)
        if changed != address:
            told = f"using {changed.scheme} for {address.host} ({_why(changed)})"
            address = changed
    if address.scheme in ("http", "https"):
        if address.user or address.password:
            known = (*_of_the_address(address, known), *known)
        address = replace(address, user="", password="")
    return Remote(
        address.url,
        known,
        over_ssh=address.scheme in ("ssh", "scp"),
        local=address.scheme in ("", "file"),
        told=told,
    )


def relative(url: str, base: str) -> str:
    """A submodule's address; `./` and `../` count from its superproject's, as `git submodule` counts."""
    if not url.startswith(("./", "../")):
        return url
    base = base.rstrip("/")
    while True:
        if url.startswith("./"):
            url = url[2:]
        elif url.startswith("../"):
            url = url[3:]
            cut = base.rfind("/") if "/" in base else base.rfind(":")
            if cut < 0:
                raise RepositoryError(f"a submodule's address leads out of {base}")
            base, separator = base[:cut], base[cut]
            if separator == ":":
                return f"{base}:{url}"
        else:
            return f"{base}/{url}".rstrip("/")


def reference(text: str, what: str) -> str:
    """A branch, tag or commit as the task names it, safe as an operand. Raises RepositoryError."""
    if text.startswith("-") or any(ord(character) <= 32 for character in text) or ".." in text or ":" in text:
        raise RepositoryError(f"{text!r} is no valid {what}", hint="look at the task's Execution tab")
    return text


def _parse(url: str) -> _Address:
    hint = "https, ssh, git, file URLs, user@host:path and paths are"
    if not url or url.startswith("-") or "::" in url.split("/")[0] or any(ord(character) < 32 for character in url):
        raise RepositoryError(f"{url!r} is no repository's address", hint=hint)
    if "://" in url:
        return _parse_url(url, hint)
    if not url.startswith(("/", ".")) and (match := _SCP_LIKE.fullmatch(url)):
        return _Address("scp", match["host"], user=match["user"] or "", path=match["path"])
    return _Address("", path=url)


def _parse_url(url: str, hint: str) -> _Address:
    try:
        parts = urlsplit(url)
        scheme, port = parts.scheme.lower(), parts.port
    except ValueError as error:
        raise RepositoryError(f"{_shown(url)!r} is no repository's address: {error}", hint=hint) from None
    if scheme not in _SCHEMES:
        raise RepositoryError(f"git may not use {scheme}:// ({_shown(url)!r})", hint=f"use {', '.join(_SCHEMES)}")
    if scheme == "file":
        return _Address("file", path=url)
    host = parts.netloc.rpartition("@")[2]
    host = (host.rpartition(":")[0] if port is not None else host.rstrip(":")).lower()
    if not host or host.startswith("-"):
        raise RepositoryError(f"{_shown(url)!r} names no host", hint=hint)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return _Address(scheme, host, port, unquote(parts.username or ""), unquote(parts.password or ""), path)


def _shown(url: str) -> str:
    """An address that could not be taken apart, without whatever stands before its `@`."""
    return re.sub(r"//[^/]*@", "//", url)


def _switched(
    address: _Address, known: tuple[Credentials, ...], configuration: Configuration, environ: Mapping[str, str]
) -> _Address:
    if configuration.flag("agent.force_git_ssh_protocol"):
        only = credentials.host(configuration, environ)
        if only and only.lower() != address.host.lower():
            return address
        return _forced_to_ssh(address, configuration)
    if address.scheme not in ("ssh", "scp") or not configuration.flag("agent.translate_ssh", True):
        return address
    shown = f"{address.host}:{address.path}" if address.scheme == "scp" else address.url
    if not any(one.password and one.matches(address.host, shown) for one in known):
        return address
    scheme = (
        variable(environ, "CLEARML_AGENT_SSH_URL_REPLACEMENT_SCHEME")
        or str(configuration.get("agent.translate_ssl_replacement_scheme") or "")
        or "https"
    )
    if scheme not in ("http", "https"):
        raise RepositoryError(f"{scheme!r} cannot replace ssh for git", hint="agent.translate_ssl_replacement_scheme")
    user = "" if address.user.lower() in _SSH_USERS else address.user
    return replace(address, scheme=scheme, user=user, port=None)


def _forced_to_ssh(address: _Address, configuration: Configuration) -> _Address:
    user = str(configuration.get("agent.force_git_ssh_user") or "")
    asked = str(configuration.get("agent.force_git_ssh_port") or 0)
    if not asked.isdigit():
        raise RepositoryError(f"agent.force_git_ssh_port is {asked!r}, which is no port")
    port = int(asked) or None
    if address.scheme == "https":
        return replace(address, scheme="ssh", user=user or "git", password="", port=port)
    if address.scheme in ("ssh", "scp") and (user or port):
        port = port or address.port
        return replace(address, scheme="ssh", user=user or address.user or "git", password="", port=port)
    return address


def _why(changed: _Address) -> str:
    if changed.scheme == "ssh":
        return "agent.force_git_ssh_protocol"
    return "user and password are known for it"


def _of_the_address(address: _Address, known: tuple[Credentials, ...]) -> tuple[Credentials, ...]:
    """What the address itself holds. A user alone is a token, unless a password is known for the host."""
    if not address.password and any(one.password and one.matches(address.host, address.url) for one in known):
        return ()
    prefix = any(one.prefix for one in known)
    host = replace(address, user="", path="").url if prefix else address.host
    return (Credentials(host, address.user, address.password, prefix),)
