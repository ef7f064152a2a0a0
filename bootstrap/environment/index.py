"""How uv and pip reach their indexes: one meaning for both, by variables, since addresses may carry credentials.

What a site sets for one tool holds for the other: the index, extra indexes, the CA bundle, hosts that need no
certificate, time-outs. Proxies need nothing: both read HTTP_PROXY and its kin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bootstrap.environment.options import Options

KEYS = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CONSTRAINT", "PIP_PRE",
    "PIP_NO_BINARY", "PIP_ONLY_BINARY",
    "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX",
    "UV_INDEX_STRATEGY", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_PRERELEASE", "UV_RESOLUTION", "UV_EXCLUDE_NEWER",
    "UV_NO_BINARY", "UV_NO_BUILD", "UV_CUDA_DRIVER_VERSION",
)  # fmt: skip
"""Variables that change what given requirements lead to."""
_CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def variables(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of an installer: `environ`, with what one tool is told told to the other."""
    kept = {key: value for key, value in environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    extra = " ".join(options.extra_index)
    if extra:
        for name in ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"):
            kept[name] = f"{kept.get(name, '')} {extra}".strip()
    uv_default = kept.get("UV_DEFAULT_INDEX") or kept.get("UV_INDEX_URL")
    pairs = [
        ("PIP_INDEX_URL", uv_default, "UV_DEFAULT_INDEX" if not kept.get("UV_INDEX_URL") else ""),
        ("PIP_FIND_LINKS", _spaced(kept.get("UV_FIND_LINKS")), "UV_FIND_LINKS"),
        ("PIP_NO_INDEX", kept.get("UV_NO_INDEX"), "UV_NO_INDEX"),
        ("PIP_NO_INDEX", kept.get("UV_OFFLINE"), ""),
        ("PIP_TRUSTED_HOST", kept.get("UV_INSECURE_HOST"), "UV_INSECURE_HOST"),
        ("PIP_DEFAULT_TIMEOUT", kept.get("UV_HTTP_TIMEOUT"), "UV_HTTP_TIMEOUT"),
        ("PIP_PRE", "1" if kept.get("UV_PRERELEASE") == "allow" else "", ""),
    ]
    for pip, theirs, uv in pairs:
        if kept.get(pip) and uv and not kept.get(uv):
            kept[uv] = ",".join(kept[pip].split()) if uv == "UV_FIND_LINKS" else kept[pip]
        elif theirs and not kept.get(pip):
            kept[pip] = theirs
    if kept.get("UV_EXTRA_INDEX_URL") or kept.get("PIP_EXTRA_INDEX_URL"):
        kept.setdefault("UV_EXTRA_INDEX_URL", kept.get("PIP_EXTRA_INDEX_URL", ""))
        kept.setdefault("PIP_EXTRA_INDEX_URL", kept.get("UV_EXTRA_INDEX_URL", ""))
    if kept.get("UV_INDEX") and not kept.get("PIP_EXTRA_INDEX_URL"):
        kept["PIP_EXTRA_INDEX_URL"] = " ".join(re.sub(r"^[\w-]+=", "", url) for url in kept["UV_INDEX"].split())
    if options.best_match:
        kept.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    bundle = next((kept[name] for name in _CERTIFICATES if kept.get(name)), "")
    if bundle:
        for name in ("SSL_CERT_FILE", "PIP_CERT"):
            kept.setdefault(name, bundle)
    return {name: value for name, value in kept.items() if value or not name.startswith(("UV_", "PIP_"))}


def without_credentials(address: str) -> str:
    """An address that may be shown."""
    return re.sub(r"(://)[^/@\s]+@", r"\1", address)


def clean(installed: str) -> str:
    """What is installed, without the credentials in a repository's address; safe to stand on the task."""
    return "\n".join(re.sub(r"(://)[^/@\s]*:[^/@\s]*@", r"\1", line) for line in installed.splitlines())


def _spaced(links: str | None) -> str:
    return " ".join(links.split(",")) if links else ""


def key(environ: Mapping[str, str]) -> str:
    """What of the variables changes what given requirements lead to; credentials do not."""
    return "\x00".join(without_credentials(environ.get(name, "")) for name in KEYS)


def of_pip_conf(environ: Mapping[str, str]) -> dict[str, str]:
    """What the image's pip.conf says of indexes, as pip's variables: uv does not read that file."""
    found: dict[str, str] = {}
    home = environ.get("HOME") or "/"
    places = [
        "/etc/pip.conf",
        f"{home}/.pip/pip.conf",
        f"{home}/.config/pip/pip.conf",
        environ.get("PIP_CONFIG_FILE", ""),
    ]
    for place in places:
        try:
            text = Path(place).read_text("utf-8", "replace") if place else ""
        except OSError:
            continue
        section, key = "", ""
        for line in text.splitlines():
            if header := re.match(r"\s*\[(\w+)\]", line):
                section, key = header[1], ""
            elif section in ("global", "install") and (pair := re.match(r"([\w-]+)\s*[=:]\s*(.*)$", line)):
                key = pair[1].replace("_", "-")
                if key in _CONF_KEYS:
                    found[_CONF_KEYS[key]] = pair[2].strip()
            elif key in _CONF_KEYS and line[:1].isspace() and line.strip() and not line.strip().startswith(("#", ";")):
                found[_CONF_KEYS[key]] = f"{found[_CONF_KEYS[key]]} {line.strip()}".strip()
    return {
        name: value
        for name, value in found.items()
        if value and not any(environ.get(other) for other in _SAME_AS.get(name, ()))
    }


_SAME_AS = {
    "PIP_CERT": _CERTIFICATES,
    "PIP_INDEX_URL": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "PIP_FIND_LINKS": ("UV_FIND_LINKS",),
    "PIP_DEFAULT_TIMEOUT": ("UV_HTTP_TIMEOUT",),
}
"""A variable of the pod, whichever tool's, stands above the image's file."""
_CONF_KEYS = {
    "index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL", "find-links": "PIP_FIND_LINKS",
    "trusted-host": "PIP_TRUSTED_HOST", "cert": "PIP_CERT", "no-index": "PIP_NO_INDEX",
    "timeout": "PIP_DEFAULT_TIMEOUT",
}  # fmt: skip
