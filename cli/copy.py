"""`podstrap copy FOLDER`: in an init container, bring the self-contained folder into the task's container."""

from __future__ import annotations

import argparse
from pathlib import Path

from protocol import exit_codes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("folder", type=Path, help="a volume that the task's container mounts at /opt/podstrap")


def run(options: argparse.Namespace) -> int:
    """Copy; one line tells what it took."""
    from bootstrap.copy import copy

    copied = copy(options.folder)
    megabytes = copied.bytes / 1e6
    print(f"podstrap: {copied.files} files, {megabytes:.0f} MB, to {options.folder} in {copied.seconds:.2f} s")
    return exit_codes.OK
