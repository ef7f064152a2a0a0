"""Known secret values never leave the pod: one regular expression over whole lines, in bytes.

The console is masked line by line after its pieces were put together, so a secret split over two writes is found.
A secret of several lines (a key file) is masked by each of its longer lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

MASK = b"********"
_SHORTEST = 4
SHORTEST_GUESSED = 8
"""Shorter values would mask ordinary text."""
_SHORTEST_TOKEN = 20
_IN_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://([^\s/:'\"<>]*)(?::([^\s/'\"<>]*))?@")
_SECRET_WORDS = frozenset({"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "APIKEY"})


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """Values of variables whose names say that they are secret: HF_TOKEN, AWS_SECRET_ACCESS_KEY, WANDB_API_KEY."""
    return [
        value
        for name, value in environ.items()
        if len(value) >= SHORTEST_GUESSED
        and (_SECRET_WORDS.intersection(name.upper().split("_")) or name.upper().endswith("API_KEY"))
        and "://" not in value
        and not value.startswith("/")
    ]


def in_addresses(texts: Iterable[str], shortest: int = _SHORTEST, shortest_user: int = _SHORTEST_TOKEN) -> list[str]:
    """The passwords in addresses that stand in these texts (repositories, indexes, proxies), as written and as meant;
    also the name of an http user without a password when it is as long as a token."""
    found: list[str] = []
    for text in texts:
        if "://" not in text or "@" not in text:
            continue
        for scheme, user, password in _IN_ADDRESS.findall(text):
            token = "http" in scheme.lower() and len(user) >= shortest_user
            secret = password or (user if token else "")
            found += [secret, unquote(secret)]
    return [secret for secret in dict.fromkeys(found) if len(secret) >= shortest]


class Masker:
    """Replaces secrets. New ones may be added while it is in use."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[bytes] = set()
        self._pattern: re.Pattern[bytes] | None = None
        self.longest = 0
        """Bytes of the longest secret: so much of a text may be the beginning of one."""
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these too, from now on."""
        lines = [line.strip().encode() for secret in secrets for line in secret.splitlines()]
        # A new set: another thread may be going through the old one.
        self._known = self._known.union(line for line in lines if len(line) >= _SHORTEST)
        if self._known:
            longest_first = sorted(self._known, key=len, reverse=True)
            self.longest = len(longest_first[0])
            self._pattern = re.compile(b"|".join(re.escape(value) for value in longest_first))

    def data(self, data: bytes) -> bytes:
        """The bytes without secrets."""
        # Looking for each value alone is many times faster than the pattern, and nearly always finds nothing.
        if self._pattern and any(value in data for value in self._known):
            return self._pattern.sub(MASK, data)
        return data

    def text(self, text: str) -> str:
        """The text without secrets."""
        if not self._pattern:
            return text
        return self.data(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
