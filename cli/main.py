"""`podstrap COMMAND ...`: each command lives in a module of its own that is imported only when it is called.

`podstrap bootstrap` is PID 1 of every pod and counts in milliseconds, so it is told apart before argparse is even
imported. Exit codes: 0 done, 1 failed, 2 wrong usage, 4 drain timed out, 75 the pod was taken away (bootstrap
only), 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from protocol import exit_codes

_DESCRIPTION = "Run ClearML tasks on Kubernetes: one Job per task, and the truth about how it ended."
_COMMANDS = {
    "controller": "read queues, create one Job per task, watch, report",
    "bootstrap": "inside a task's pod: claim, prepare, run, report (its settings are PODSTRAP_* variables)",
    "standalone": "serve a ClearML-compatible API and its web page on this machine",
    "render": "print the Job manifest that a task would get",
    "status": "queues, Jobs, pods and why they wait or how they ended",
    "explain": "why a task waits or why it ended, in order of cause",
    "role": "print the Role that the controller needs in Kubernetes",
    "copy": "in an init container: bring the self-contained folder into a shared volume",
    "cache": "the environments in a shared cache: ls, verify, prune",
    "check": "is everything configured? each failure with its fix",
    "demo": "the main job end to end on this machine: two queues, two real tasks",
}

_NOT_IN_PODS = ("controller", "standalone", "kubernetes", "msgspec", "pydantic", "yaml", "starlette", "uvicorn")
"""What the images of tasks and of bootstrap do not have."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Every PodstrapError becomes one message on standard error and exit 1."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["bootstrap"]:
        from bootstrap.run import main as bootstrap

        return bootstrap()
    try:
        return _parsed(words)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in _NOT_IN_PODS:
            raise
        print(
            f"podstrap {words[0]}: {missing.name} is not in this installation, which is a pod's side of podstrap\n"
            "  try: the image podstrap/controller, or `uv tool install 'podstrap[standalone]'`",
            file=sys.stderr,
        )
        return exit_codes.FAILED


def _parsed(words: list[str]) -> int:
    import argparse
    import importlib

    from protocol.errors import PodstrapError

    parser = argparse.ArgumentParser(
        prog="podstrap",
        description=_DESCRIPTION,
        epilog="podstrap COMMAND --help tells a command's options. Exit codes: 0 done, 1 failed, 2 wrong usage, "
        "4 drain timed out, 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"podstrap {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in words if word in _COMMANDS), None)
    for name, line in _COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".", allow_abbrev=False)
        if name == chosen:  # only the chosen command's options are built, so only its room is imported
            importlib.import_module(f"cli.{name}").add_arguments(command)
    options = parser.parse_args(words)
    try:
        return int(importlib.import_module(f"cli.{options.command}").run(options))
    except PodstrapError as error:
        print(f"podstrap {options.command}: {error}", file=sys.stderr)
        return exit_codes.FAILED
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return exit_codes.FAILED


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("podstrap")
    except PackageNotFoundError:
        return "0+unknown"


if __name__ == "__main__":
    raise SystemExit(main())
