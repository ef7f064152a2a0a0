"""pip's flags (extra_pip_install_flags) in uv's spelling.

An empty spelling: uv does so anyway, or it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

_UV_FLAGS = {
    "--no-deps": "--no-deps", "--pre": "--prerelease=allow", "--no-build-isolation": "--no-build-isolation",
    "--no-cache-dir": "--no-cache", "--upgrade": "--upgrade", "-U": "--upgrade", "--no-index": "--no-index",
    "--require-hashes": "--require-hashes", "--force-reinstall": "--reinstall",
    "--prefer-binary": "", "--no-warn-script-location": "", "--ignore-installed": "", "-I": "",
    "--disable-pip-version-check": "", "-q": "--quiet", "--quiet": "--quiet", "-v": "", "--verbose": "",
    "--no-input": "", "--root-user-action=ignore": "",
}  # fmt: skip
_UV_VALUES = {
    "--index-url": "--default-index",
    "-i": "--default-index",
    "--extra-index-url": "--index",
    "--find-links": "--find-links",
    "-f": "--find-links",
    "--trusted-host": "--allow-insecure-host",
    "--no-binary": "--no-binary-package",
    "--only-binary": "--only-binary",
    "--constraint": "--constraint",
    "-c": "--constraint",
    "--use-deprecated": "",
    "--use-feature": "",
    "--upgrade-strategy": "",
    "--retries": "",
    "--timeout": "",
    "--progress-bar": "",
}


def uv_flags(flags: Sequence[str]) -> list[str] | None:
    """pip's flags in uv's spelling; None when one is unknown there."""
    found: list[str] = []
    words = list(flags)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word in _UV_FLAGS:
            found += [_UV_FLAGS[word]] if _UV_FLAGS[word] else []
        elif name in _UV_VALUES and (equals or words):
            value = value if equals else words.pop(0)
            if name in ("--no-binary", "--only-binary"):
                found += _binary(name, value)
            elif _UV_VALUES[name]:
                found += [_UV_VALUES[name], value]
        else:
            return None
    return found


def _binary(name: str, value: str) -> list[str]:
    if value == ":all:":
        return ["--no-binary"] if name == "--no-binary" else ["--only-binary", ":all:"]
    return [word for package in value.split(",") for word in (name, package)]
