"""What clearml-agent or ClearML's own bootstrap for pods would honour and podstrap does not, with the reason.

Met in a pod, each is told once in the task's console, so that nobody wonders. docs/environment-variables.md shows the
same table (a test holds them equal) beside what is honoured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clearml_api.configuration import Configuration

_IMAGE = "put it into the image, the queue's template or the task's setup script"
VARIABLES: Mapping[str, str] = {
    "CLEARML_AGENT_CUSTOM_BUILD_SCRIPT": "build it into the image and set CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL=1, "
    "or take engine: clearml-agent",
    "CLEARML_AGENT_EXEC_USER": "the pod's securityContext (runAsUser) says it",
    "CLEARML_AGENT_ABORT_CALLBACK_CMD": "the SDK's own abort callback is waited for, and SIGTERM comes before SIGKILL",
    "CLEARML_AGENT_DOCKER_HOST_MOUNT": "there is no docker: mount volumes by the queue's template",
    "CLEARML_AGENT_K8S_HOST_MOUNT": "there is no docker: mount volumes by the queue's template",
    "CLEARML_AGENT_EXTRA_DOCKER_ARGS": "there is no docker: use the queue's template",
    "CLEARML_AGENT_EXTRA_DOCKER_LABELS": "there is no docker: use labels in the queue's template",
    "CLEARML_AGENT_VENV_CACHE_PATH": "environments lie in podstrap's own store (`cache` in its settings)",
    "CLEARML_AGENT_GIT_CLONE_VERBOSE": "git's output is shown when something fails",
    "CLEARML_AGENT_TEMP_STDOUT_FILE_DIR": "the console is spooled in the pod's work folder",
    "CLEARML_AGENT_GPU_FRACTIONS": "fractional GPUs are the device plugin's",
    "CLEARML_AGENT_SERVICES_DOCKER_RESTART": "the Job's policy says when a pod starts again",
    "CLEARML_BOOTSTRAP_CUSTOM_CMD": _IMAGE,
    "CLEARML_BOOTSTRAP_CUSTOM_CMD_BASE64": _IMAGE,
    "CLEARML_PRE_CUSTOM_CMD": _IMAGE,
    "CLEARML_APT_INSTALL": _IMAGE,
    "CLEARML_SKIP_GIT_INST": "nothing is installed into the image anyway",
    "CLEARML_FORCE_STATIC_GIT_BIN": "the git that is first on the pod's PATH is used",
}
"""Variables of the pod, and why podstrap does not follow them."""
SETTINGS: Mapping[str, str] = {
    "agent.custom_build_script": VARIABLES["CLEARML_AGENT_CUSTOM_BUILD_SCRIPT"],
    "agent.extra_docker_shell_script": _IMAGE,
    "agent.docker_init_bash_script": _IMAGE,
    "agent.docker_preprocess_bash_script": _IMAGE,
    "agent.extra_docker_arguments": VARIABLES["CLEARML_AGENT_EXTRA_DOCKER_ARGS"],
    "files": "mount files as volumes of a Secret or ConfigMap",
}
"""Paths in clearml.conf, and why podstrap does not follow them."""


def met(environ: Mapping[str, str], configuration: Configuration) -> Iterator[str]:
    """A line for each that this pod has."""
    for name in sorted(VARIABLES.keys() & environ.keys()):
        if environ[name]:
            yield f"{name} has no effect here: {VARIABLES[name]}"
    if configuration.tree:
        for path, why in SETTINGS.items():
            if configuration.get(path):
                yield f"{path} of clearml.conf has no effect here: {why}"
