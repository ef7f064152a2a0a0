"""The variables that the task's process sees: ours without what is podstrap's own, plus ClearML's, plus the task's.

The SDK inside the task finds its task by CLEARML_TASK_ID and must not ship the console a second time
(CLEARML_LOG_TASK_TO_BACKEND=0), as under clearml-agent. A task's own `-e NAME=value` docker arguments are read here,
from the task, so that their values never stand in a Job's manifest.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from bootstrap import home
from bootstrap.prepared import Launch, TaskEnvironment
from clearml_api import certificates
from clearml_api.configuration import Configuration
from clearml_api.models import Task
from protocol import environment as names
from protocol.folder import HOME

_ENV_FLAGS = ("-e", "--env")
_OWN = (
    "GIT_ASKPASS", "VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONNOUSERSITE",
)  # fmt: skip
_OWN_PREFIXES = ("CLEARML_AGENT_GIT_", "TRAINS_AGENT_GIT_", "CLEARML_AGENT__", "TRAINS_AGENT__")
"""Bootstrap's own: the git credentials are for the checkout, the interpreter's variables for our interpreter."""


_SHOWN = (names.POD_NAME, names.POD_UID, names.NODE_NAME)
"""Of podstrap's own variables, those that tell the task where it runs; the local cluster finds a pod's processes by
the uid, also those whose parents were all killed."""


def build(
    environ: Mapping[str, str], task: Task, configuration: Configuration, environment: TaskEnvironment, work: Path
) -> dict[str, str]:
    """The task's environment, but for what its way of being started adds."""
    found = for_its_script(environ)
    found.update(home.variables(environ, work))
    found.update(_certificates(environ, environment))
    if environ.get("PYTHONPATH"):
        found["PYTHONPATH"] = environ["PYTHONPATH"]
    found.update(
        {
            "CLEARML_TASK_ID": task.id,
            "TRAINS_TASK_ID": task.id,
            "CLEARML_LOG_TASK_TO_BACKEND": "0",
            "TRAINS_LOG_TASK_TO_BACKEND": "0",
            "CLEARML_API_HOST": configuration.api_host,
            "CLEARML_API_ACCESS_KEY": configuration.access_key,
            "CLEARML_API_SECRET_KEY": configuration.secret_key,
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": environ.get("PYTHONIOENCODING", "utf-8:replace"),
        }
    )
    optional = {"CLEARML_WEB_HOST": configuration.web_host, "CLEARML_FILES_HOST": configuration.files_host}
    found.update({name: value for name, value in optional.items() if value})
    found.setdefault("CLEARML_LOG_LEVEL", "INFO")
    found.update(environment.environ)
    found.update(of_the_task(task, configuration))
    return found


def _certificates(environ: Mapping[str, str], environment: TaskEnvironment) -> dict[str, str]:
    """For a task that runs on our own Python, which does not know where this image keeps its certificates."""
    if HOME not in environment.python.resolve().parents:
        return {}
    bundle = certificates.bundle(environ)
    return {"SSL_CERT_FILE": str(bundle)} if bundle else {}


def for_the_process(own: Mapping[str, str], launch: Launch) -> dict[str, str]:
    """The whole environment of the task's process."""
    return {name: value for name, value in {**own, **launch.environ}.items() if "\x00" not in name + value}


def of_the_task(task: Task, configuration: Configuration) -> dict[str, str]:
    """What clearml.conf (`environment`) and the task itself set, the later wins: the task's Environment section
    when `agent.enable_task_env` allows it, and its docker arguments."""
    found: dict[str, str] = {}
    configured = configuration.get("environment")
    if isinstance(configured, Mapping) and configuration.flag("agent.apply_environment", True):
        found.update({str(name): "" if value is None else str(value) for name, value in configured.items()})
    section = task.hyperparams.get("Environment")
    if isinstance(section, Mapping) and configuration.flag("agent.enable_task_env"):
        for name, one in section.items():
            found[str(name)] = str(one.get("value", "")) if isinstance(one, Mapping) else str(one)
    found.update(of_docker_arguments(task.container.arguments))
    return {name: value for name, value in found.items() if name and "=" not in name and not _is_ours(name)}


def for_its_script(environ: Mapping[str, str]) -> dict[str, str]:
    """What the task's setup script sees: it is the task's own code, so no git credentials and nothing of ours,
    and what the image preloads."""
    found = {name: value for name, value in environ.items() if _is_for_the_task(name)}
    if environ.get(names.LD_PRELOAD):
        found.setdefault("LD_PRELOAD", environ[names.LD_PRELOAD])
    return found


def _is_for_the_task(name: str) -> bool:
    return name in _SHOWN or not (_is_ours(name) or name.startswith(_OWN_PREFIXES) or name in _OWN)


def _is_ours(name: str) -> bool:
    return name.startswith(names.PREFIX)


def of_docker_arguments(arguments: str) -> dict[str, str]:
    """`-e NAME=value`, `--env NAME=value`, `--env=NAME=value`, `-eNAME=value`; everything else is not ours here.

    A name without a value would take the host's value in docker; a pod has no such host, so it is left out.
    """
    try:
        words = shlex.split(arguments)
    except ValueError:
        return {}  # the controller has already told what is wrong with them
    found: dict[str, str] = {}
    at = 0
    while at < len(words):
        word, pair = words[at], ""
        if word in _ENV_FLAGS and at + 1 < len(words):
            at += 1
            pair = words[at]
        elif word.startswith("--env="):
            pair = word[len("--env=") :]
        elif word.startswith("-e") and not word.startswith("--") and len(word) > 2:
            pair = word[2:].removeprefix("=")
        name, equals, value = pair.partition("=")
        if name and equals and not _is_ours(name):
            found[name] = value
        at += 1
    return found
