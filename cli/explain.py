"""`podstrap explain TASK`: why it waits or why it ended, in order of cause."""

from __future__ import annotations

import argparse

from cli import facts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which task, and where to look."""
    parser.add_argument("task", help="the task's id")
    facts.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """0; 1 when the server does not know the task. `>` marks what holds the task up, or what ended it."""
    from datetime import datetime, timezone

    from clearml_api import tasks
    from controller import overview

    source = facts.Facts.of(options)
    task = tasks.named(source.session, options.task)
    jobs, queues = (source.jobs(), source.queues()) if task else ([], [])
    for one in overview.explain(task, source.settings, queues, jobs, datetime.now(timezone.utc)):
        first, *more = one.text.splitlines() or [""]
        print(f"{'>' if one.stops else ' '} {one.cause:<9} {first}")
        for line in more:
            print(f"{'':<12}{line}")
    return 0 if task else 1
