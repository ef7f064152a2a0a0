"""`podstrap demo` (what `make run` runs): the main job end to end, on this machine, with real parts."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the demo keeps its things, and whether the page stays open."""
    parser.add_argument("--data", type=Path, default=Path(".podstrap"), metavar="DIR", help="default: .podstrap")
    parser.add_argument("--keep", action="store_true", help="leave the server and its page running until Ctrl-C")


def run(options: argparse.Namespace) -> int:
    """0 only if both tasks ended completed."""
    from standalone.demo import run as demo

    return demo(options.data.resolve(), keep=options.keep)
