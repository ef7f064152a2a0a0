"""Which podstrap this is."""

from __future__ import annotations


def installed() -> str:
    """The installed distribution's version; where only its files lie, `0+unknown`."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("podstrap")
    except PackageNotFoundError:
        return "0+unknown"
