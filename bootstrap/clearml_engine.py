"""`engine: clearml-agent`: the real `clearml-agent execute` prepares and becomes the task, under our PID 1.

The way out for whatever our own engine does not do (conda channels, custom build scripts, vaults). The claim, the
console, machine use, aborts and the end stay ours: the agent runs with --disable-monitoring, so that it ships nothing
itself and leaves with the task's exit code. Its caches lie in ours, its work in the pod's own folder.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from bootstrap import task_environ
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import Launch
from bootstrap.settings import PodSettings
from clearml_api.configuration import Configuration
from clearml_api.models import Task
from protocol import environment as names

NAME = "clearml-agent"


def launch(task: Task, settings: PodSettings, environ: Mapping[str, str]) -> Launch:
    """What to execute. Raises EnvironmentBuildError when the image has no clearml-agent."""
    settings.work.mkdir(parents=True, exist_ok=True)
    return Launch((_program(environ), "execute", "--disable-monitoring", "--id", task.id), settings.work)


def variables(
    task: Task, settings: PodSettings, configuration: Configuration, environ: Mapping[str, str]
) -> dict[str, str]:
    """The agent's environment: all of ours but podstrap's own; it hands the task what the task may see."""
    shown = (names.POD_NAME, names.POD_UID, names.NODE_NAME)
    found = {name: value for name, value in environ.items() if name in shown or not name.startswith(names.PREFIX)}
    found.pop("PYTHONPATH", None)
    cache = (settings.cache or settings.work) / NAME
    folders = {
        "venvs_dir": settings.work / "venvs",
        "venvs_cache.path": cache / "venvs",
        "vcs_cache.path": cache / "repositories",
        "pip_download_cache.path": cache / "packages",
    }
    for path, folder in folders.items():
        found.setdefault(f"CLEARML_AGENT__agent__{path.replace('.', '__')}", f'"{folder}"')
    found.update(
        {
            "CLEARML_API_HOST": configuration.api_host,
            "CLEARML_API_ACCESS_KEY": configuration.access_key,
            "CLEARML_API_SECRET_KEY": configuration.secret_key,
            "CLEARML_WORKER_ID": settings.worker,
            "PYTHONUNBUFFERED": "1",
        }
    )
    found.update(task_environ.of_docker_arguments(task.container.arguments))
    return {name: value for name, value in found.items() if value and "\x00" not in name + value}


def _program(environ: Mapping[str, str]) -> str:
    """The image's clearml-agent, else the one beside our own Python."""
    beside = Path(sys.executable).with_name(NAME)
    found = shutil.which(NAME, path=environ.get("PATH")) or (str(beside) if os.access(beside, os.X_OK) else "")
    if not found:
        raise EnvironmentBuildError(
            f"the queue's engine is {NAME}, and the image has none",
            hint=f"install clearml-agent in the image, or take {names.ENGINE} (engine:) away",
        )
    return found
