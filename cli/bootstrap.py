"""`podstrap bootstrap`: PID 1 of a task's pod. It takes no options: the Job's manifest speaks by variables."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None: PODSTRAP_* and CLEARML_* variables say everything."""
    parser.epilog = "Started by the controller's Jobs; variables: see docs/architecture.md."


def run(options: argparse.Namespace) -> int:
    """Run the task that the variables name; the pod's exit code."""
    del options
    from bootstrap.run import main

    return main()
