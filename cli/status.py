"""`podstrap status`: queues, Jobs, pods and reasons, as a table or for machines."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from cli import facts

_SHORT = 60
_QUEUES = ("queue", "entries", "jobs", "running", "limit", "note")
_JOBS = ("task", "name", "queue", "stage", "attempt", "reason")
_WIDE = ("task", "name", "queue", "stage", "attempt", "age", "job", "pod", "node", "word", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look, and how to show it."""
    facts.add_arguments(parser)
    parser.add_argument("-o", "--output", choices=("table", "wide", "json", "yaml"), default="table")
    parser.add_argument("--watch", type=float, metavar="S", help="again every S seconds, until interrupted")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    source = facts.Facts.of(options)
    while True:
        found = _look(source)
        if options.watch and sys.stdout.isatty():
            print("\033[2J\033[H", end="")
        if note := source.note():
            print(f"controller: {note}", file=sys.stderr if options.output in ("json", "yaml") else sys.stdout)
        print(_shown(found, options.output), flush=True)
        if not options.watch:
            return 0
        time.sleep(max(0.5, options.watch))


def _look(source: facts.Facts) -> dict[str, list[dict[str, Any]]]:
    from dataclasses import asdict
    from datetime import datetime, timezone

    from clearml_api import tasks
    from controller import overview

    jobs = source.jobs()
    known = tasks.get_all(source.session, {job.task for job in jobs if job.task}, ("id", "name", "status"))
    rows = overview.job_rows(jobs, known, datetime.now(timezone.utc))
    queues = overview.queue_rows(source.settings, source.queues(), jobs)
    return {"queues": [asdict(row) for row in queues], "jobs": [asdict(row) for row in rows]}


def _shown(found: dict[str, list[dict[str, Any]]], output: str) -> str:
    if output == "json":
        import json

        return json.dumps(found, indent=2)
    if output == "yaml":
        import yaml

        return str(yaml.safe_dump(found, sort_keys=False)).rstrip()
    for row in found["jobs"]:
        row["age"] = "" if row["seconds"] is None else f"{row['seconds']:.0f}s"
        row["reason"] = row["reason"].partition("\n")[0]
        if output == "table":
            row["reason"], row["name"] = row["reason"][:_SHORT], row["name"][:24]
    for row in found["queues"]:
        row["limit"] = "" if row["limit"] is None else row["limit"]
    jobs = _table(found["jobs"], _WIDE if output == "wide" else _JOBS) if found["jobs"] else "no Jobs"
    return f"{_table(found['queues'], _QUEUES)}\n\n{jobs}"


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Left-aligned columns, two spaces apart, as kubectl prints them."""
    lines = [[name.upper() for name in columns], *([str(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
