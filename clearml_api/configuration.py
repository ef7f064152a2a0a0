"""clearml.conf and the CLEARML_* variables, read as clearml-agent reads them, without importing clearml-agent.

Importing anything of clearml_agent costs 190 ms, more than a warm start may take; so this module reads the same
files and variables itself, and tests/clearml_api hold both readings equal. In order, the later wins:

1. `~/trains.conf`, `~/clearml.conf` (or only the file that CLEARML_CONFIG_FILE names), HOCON, merged;
2. `CLEARML_AGENT__section__key=value` variables, each a configuration path;
3. the well-known variables: CLEARML_API_HOST, CLEARML_API_ACCESS_KEY, ... (their TRAINS_* names too).

pyhocon is imported only when there is something to parse.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from protocol.errors import ConfigError

_EXTRA_PREFIX = "CLEARML_AGENT__"
_TRUE = {"true", "yes", "y", "t", "1", "on"}
_FALSE = {"false", "no", "n", "f", "0", "off", ""}


@dataclass(frozen=True)
class Configuration:
    """Where the server is and who we are, plus the whole configuration tree for whoever needs more of it."""

    api_host: str = ""
    web_host: str = ""
    files_host: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    auth_token: str = field(default="", repr=False)
    verify_certificate: bool | str = True
    """False: do not verify; a text: the CA bundle's path; True: the system's certificates."""
    tree: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sources: tuple[str, ...] = ()
    """The files that were read, for error messages."""

    def get(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path of the configuration tree, e.g. `agent.package_manager.type`."""
        node: Any = self.tree
        for part in path.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return default
            node = node[part]
        return node

    def flag(self, path: str, default: bool = False) -> bool:
        """The value at a dotted path as a yes or no."""
        value = self.get(path)
        if isinstance(value, str):
            return value.strip().lower() in _TRUE
        return default if value is None else bool(value)

    def secrets(self) -> tuple[str, ...]:
        """Every value known to be secret, for masking in whatever is shipped or printed."""
        found = [self.secret_key, self.auth_token, *_secret_leaves(self.tree)]
        return tuple(sorted({value for value in found if len(value) >= 4}, key=len, reverse=True))

    def require_server(self) -> None:
        """Raise ConfigError, naming what is missing and where it may be set, unless a login can be tried."""
        looked = ", ".join(self.sources) or "no clearml.conf was found"
        if not self.api_host:
            raise ConfigError(
                f"No ClearML server is configured (looked at CLEARML_API_HOST; {looked})",
                hint="set CLEARML_API_HOST, or api.api_server in clearml.conf (CLEARML_CONFIG_FILE names the file)",
            )
        if not _is_http_url(self.api_host):
            raise ConfigError(
                f"The ClearML server's address {self.api_host!r} is no http:// or https:// URL ({looked})",
                hint="give scheme, host and port, e.g. https://api.example.org or http://localhost:8008",
            )
        if not self.auth_token and not (self.access_key and self.secret_key):
            missing = "access key" if not self.access_key else "secret key"
            raise ConfigError(
                f"No {missing} is configured for the ClearML server {self.api_host} ({looked})",
                hint="set CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY, or api.credentials in clearml.conf",
            )


def load(environ: Mapping[str, str] | None = None, home: Path | None = None) -> Configuration:
    """The configuration of this process.

    Raises ConfigError when a file that was named does not exist or a file cannot be parsed.
    """
    env = os.environ if environ is None else environ
    files = _files(env, home or Path(env.get("HOME") or Path.home()))
    tree: dict[str, Any] = {}
    for file in files:
        _merge(tree, _parse_file(file))
    for key in sorted(name for name in env if name.startswith(_EXTRA_PREFIX)):
        path = key[len(_EXTRA_PREFIX) :].replace("__", ".").lower()
        _merge(tree, _parse_text(f"{path}: {env[key]}", f"the variable {key}"))

    return _from_tree(tree, env, tuple(str(file) for file in files))


def _from_tree(tree: dict[str, Any], env: Mapping[str, str], sources: tuple[str, ...]) -> Configuration:
    seen = Configuration(tree=tree)

    def text(name: str, *paths: str) -> str:
        value = variable(env, name)
        for path in paths:
            value = value or str(seen.get(path) or "").strip()
        return value

    return Configuration(
        api_host=text("CLEARML_API_HOST", "api.api_server", "api.host").strip("/"),
        web_host=text("CLEARML_WEB_HOST", "api.web_server").strip("/"),
        files_host=text("CLEARML_FILES_HOST", "api.files_server").strip("/"),
        access_key=text("CLEARML_API_ACCESS_KEY", "api.credentials.access_key"),
        secret_key=text("CLEARML_API_SECRET_KEY", "api.credentials.secret_key"),
        auth_token=variable(env, "CLEARML_AUTH_TOKEN"),
        verify_certificate=_verify(env, seen.get("api.verify_certificate", True)),
        tree=tree,
        sources=sources,
    )


def variable(env: Mapping[str, str], name: str) -> str:
    """One of ClearML's variables, by its own name or the old one (TRAINS_...), as clearml-agent reads them."""
    return (env.get(name) or env.get(name.replace("CLEARML_", "TRAINS_", 1)) or "").strip()


def is_on(env: Mapping[str, str], name: str) -> bool:
    """One of ClearML's variables as a yes or no."""
    return variable(env, name).lower() in _TRUE


def _verify(env: Mapping[str, str], configured: Any) -> bool | str:
    value: Any = variable(env, "CLEARML_API_HOST_VERIFY_CERT") or configured
    if isinstance(value, str) and value.strip().lower() not in _TRUE | _FALSE:
        return value
    return value.strip().lower() in _TRUE if isinstance(value, str) else bool(value)


def _files(env: Mapping[str, str], home: Path) -> list[Path]:
    named = variable(env, "CLEARML_CONFIG_FILE")
    if not named:
        return [file for file in (home / "trains.conf", home / "clearml.conf") if file.is_file()]
    file = Path(named.replace("~", str(home), 1) if named.startswith("~") else named)
    if not file.is_file():
        raise ConfigError(
            f"The configuration file {file}, named by CLEARML_CONFIG_FILE, does not exist",
            hint="correct the path or unset the variable",
        )
    return [file]


def _parse_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error}") from error
    # Whole-line comments are most of a usual clearml.conf and most of pyhocon's time (295 -> 53 ms).
    # Blanking them keeps line numbers right; inside a """ text they are content, so such a file is left whole.
    if '"""' not in text:
        text = "\n".join("" if line.lstrip().startswith(("#", "//")) else line for line in text.split("\n"))
    return _parse_text(text, str(file))


def _parse_text(text: str, where: str) -> dict[str, Any]:
    from pyhocon import ConfigFactory
    from pyhocon.exceptions import ConfigException
    from pyparsing import ParseBaseException

    try:
        tree = ConfigFactory.parse_string(text)
    except ParseBaseException as error:
        line = text.split("\n")[error.lineno - 1].strip()[:60] if error.lineno else ""
        raise ConfigError(
            f"{where} is no valid HOCON: line {error.lineno}, column {error.column}: {line!r}",
            hint="look for an unclosed brace or quote at or before that line",
        ) from None
    except (ConfigException, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{where} cannot be read as HOCON: {error}") from None
    return dict(tree.as_plain_ordered_dict()) if hasattr(tree, "as_plain_ordered_dict") else {}


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        here = into.get(key)
        if isinstance(here, dict) and isinstance(value, Mapping):
            _merge(here, value)
        else:
            into[key] = value


def _is_http_url(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


_SECRET_WORDS = ("secret", "password", "git_pass", "token", "account_key", "credentials_json")


def _secret_leaves(node: Any, name: str = "") -> list[str]:
    if isinstance(node, Mapping):
        return [leaf for key, value in node.items() for leaf in _secret_leaves(value, str(key).lower())]
    if isinstance(node, list):
        return [leaf for value in node for leaf in _secret_leaves(value, name)]
    secret = name == "pass" or any(word in name for word in _SECRET_WORDS)
    return [node] if isinstance(node, str) and secret else []
