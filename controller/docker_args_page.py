"""docs/docker-arguments.md: what becomes of each flag of docker run, written from the table that the controller uses.

python -m controller.docker_args_page > docs/docker-arguments.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from controller.docker_args_seen import Flag
from controller.docker_args_table import FLAGS, SHORT

_HEAD = """# Docker arguments

<!-- written by `python -m controller.docker_args_page`; a test holds it equal to the code -->

A task's container arguments are those of `docker run`, one text, `--flag value` and `--flag=value` alike, short ones
too (`-e A=1`, `-eA=1`, `-it`). They are parsed against this table and never evaluated: no shell, no expansion, quotes
as a shell has them.

- **mapped**: becomes a field of the pod. What the operator's template says about users, privileges and the most of a
  resource stands above it.
- **ignored**: does nothing in a pod. The task's console says so, with the reason.
- **refused**: the task stays queued with the reason, and so it does for a flag that is not here, because nobody can
  know whether the next word is its value. `ignoreRefusedDockerArguments: true` starts the task without them instead.
- **allowed by**: the setting without which the flag is refused.

"""


def page() -> str:
    """The whole page."""
    return _HEAD + "\n".join(_rows()) + "\n"


def _rows() -> Iterator[str]:
    yield "| flag | | what becomes of it | allowed by |"
    yield "|---|---|---|---|"
    short = {name: letter for letter, name in SHORT.items()}
    for kind in ("mapped", "ignored", "refused"):
        for flag in sorted((one for one in FLAGS.values() if one.kind == kind), key=lambda one: one.name):
            yield f"| {_spelt(flag, short.get(flag.name, ''))} | {kind} | {flag.told} | {_allowed(flag)} |"


def _spelt(flag: Flag, letter: str) -> str:
    return f"`-{letter}`, `--{flag.name}`" if letter else f"`--{flag.name}`"


def _allowed(flag: Flag) -> str:
    name, _space, rest = flag.needs.partition(" ")
    return f"`{name}` {rest}".rstrip() if name else ""


if __name__ == "__main__":
    sys.stdout.write(page())
