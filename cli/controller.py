"""`podstrap controller`: read queues, create one Job per task, watch, report."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings file, cluster, and whether to go on for ever."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="settings (docs/settings.schema.json)"
    )
    parser.add_argument(
        "--cluster",
        choices=("local",),
        default="local",
        help="where Jobs run; local: as processes of this machine (the default until Kubernetes lands)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the local cluster's state (default: a folder for each server below ~/.local/state/podstrap)",
    )
    parser.add_argument(
        "--drain", action="store_true", help="work until the queues are empty and the Jobs done, then exit 0"
    )
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="with --drain: exit 4 after S seconds")
    parser.add_argument("--fail-on-task-failure", action="store_true", help="with --drain: exit 1 if a task failed")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM, or drain; see `--help` for the exit codes."""
    import signal
    import sys
    import threading

    if (options.timeout is not None or options.fail_on_task_failure) and not options.drain:
        print("podstrap controller: --timeout and --fail-on-task-failure go with --drain", file=sys.stderr)
        return 2
    from clearml_api.configuration import load
    from clearml_api.session import Session
    from controller import settings_file
    from controller.cluster.local import LocalCluster
    from controller.run import run_controller

    start_logging(options.log_level)
    settings = settings_file.load(options.config)
    configuration = load()
    settings = settings.with_servers(configuration.api_host, configuration.web_host, configuration.files_host)
    state = (options.state or default_state(configuration.api_host)).resolve()
    settings = _with_local_cache(settings, state)
    session = Session(configuration, worker=f"podstrap:{settings.instance}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    cluster = LocalCluster(
        state,
        secrets={
            "CLEARML_API_ACCESS_KEY": configuration.access_key,
            "CLEARML_API_SECRET_KEY": configuration.secret_key,
        },
    )
    return run_controller(
        settings,
        session,
        cluster,
        drain=options.drain,
        timeout=options.timeout,
        fail_on_task_failure=options.fail_on_task_failure,
        stop=stop,
    )


def _with_local_cache(settings: Settings, state: Path) -> Settings:
    """On one machine pods share a cache in the state folder, unless the settings name a volume."""
    if settings.cache.volume != {"emptyDir": {}}:
        return settings
    folder = state / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    volume = {"hostPath": {"path": str(folder)}}
    return settings.model_copy(update={"cache": settings.cache.model_copy(update={"volume": volume})})


def default_state(server: str) -> Path:
    """Where the local cluster keeps its Jobs and pods when nobody says otherwise.

    One folder for each server: a Job whose task this server does not know would be taken for deleted.
    """
    base = os.environ.get("XDG_STATE_HOME") or Path(os.environ.get("HOME", "/tmp"), ".local", "state")  # noqa: S108
    mark = "".join(character if character.isalnum() else "-" for character in server.partition("://")[2])
    return Path(base, "podstrap", mark or "local")


def start_logging(level: str) -> None:
    """One line an event on standard error: time, level, then key=value words."""
    import logging

    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")


def _seconds(text: str) -> float:
    seconds = float(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return seconds
