"""`podstrap cache ls|verify|prune`: what the shared cache holds, whether it is whole, and what may go."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from protocol import environment as names
from protocol import exit_codes
from protocol.errors import ConfigError

if TYPE_CHECKING:
    from bootstrap.environment.store import Store

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three verbs, and where the cache is."""
    parser.add_argument("verb", choices=("ls", "verify", "prune"), help="list, check every file's hash, remove")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help=f"the cache folder (default: {names.CACHE_DIR} of the environment)"
    )
    parser.add_argument(
        "--max-gib", type=float, metavar="N", help=f"prune: the size to keep below (default: {names.CACHE_MAX_GIB})"
    )
    parser.add_argument(
        "--max-days", type=float, metavar="N", help=f"prune: unused for longer goes (default: {names.CACHE_MAX_DAYS})"
    )
    parser.add_argument("--remove", action="store_true", help="verify: remove what is damaged")


def run(options: argparse.Namespace) -> int:
    """0; 1 when `verify` found damage."""
    from bootstrap.environment.store import Store

    folder = options.cache or Path(os.environ.get(names.CACHE_DIR, ""))
    if not str(folder) or folder == Path() or not folder.is_dir():
        raise ConfigError(f"There is no cache at {str(folder)!r}", hint=f"give --cache or set {names.CACHE_DIR}")
    store = Store(folder / "environments")
    verb = {"ls": _ls, "verify": _verify, "prune": _prune}[options.verb]
    return verb(store, options)


def _ls(store: Store, options: argparse.Namespace) -> int:
    del options
    from bootstrap.environment.care import entries

    listed = entries(store)
    print(f"{'ENVIRONMENT':14}{'PYTHON':10}{'PACKAGES':>9}{'SIZE':>12}  LAST USED")
    for one in listed:
        count = len(one.entry.installed.splitlines())
        used = "in use" if one.in_use else _ago(time.time() - one.used_at)
        print(f"{one.entry.path.name[:12]:14}{one.entry.version:10}{count:>9}{_size(one.entry.size_bytes):>12}  {used}")
    print(f"{len(listed)} environments, {_size(sum(one.entry.size_bytes for one in listed))}")
    return exit_codes.OK


def _verify(store: Store, options: argparse.Namespace) -> int:
    from bootstrap.environment.care import entries, remove, verify

    wrong = verify(store)
    for key, problems in wrong.items():
        print(f"{key[:12]}: {'; '.join(problems[:5])}{f' and {len(problems) - 5} more' if len(problems) > 5 else ''}")
    if options.remove:
        for one in entries(store):
            if one.entry.path.name in wrong and remove(store, one):
                print(f"{one.entry.path.name[:12]}: removed")
    print(f"{len(entries(store))} environments, {len(wrong)} damaged")
    return exit_codes.FAILED if wrong else exit_codes.OK


def _prune(store: Store, options: argparse.Namespace) -> int:
    from bootstrap.environment.care import Limits, prune

    gib, days = _number(options.max_gib, names.CACHE_MAX_GIB), _number(options.max_days, names.CACHE_MAX_DAYS)
    limits = Limits(int(gib * 2**30) if gib is not None else None, days * 86400 if days is not None else None)
    freed = prune(store, limits, print)
    print(f"{_size(freed)} freed")
    return exit_codes.OK


def _number(given: float | None, variable: str) -> float | None:
    if given is not None:
        return given
    text = os.environ.get(variable, "").strip()
    try:
        return float(text) or None if text else None
    except ValueError:
        raise ConfigError(f"{variable}={text!r} is no number") from None


def _size(size: float) -> str:
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return ""


def _ago(seconds: float) -> str:
    if seconds < 3600:
        return f"{max(0, seconds) / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} days ago"
