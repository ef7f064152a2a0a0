"""What a task needs beside its own requirements because of how it is run: a notebook's converter, a forced Task.init.

As clearml-agent 3.0.3 adds them (`_install_patched_python_requirements`): unpinned, before the other lines, and only
what those do not name. They count for every source of requirements: the task's own, the repository's files, none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from clearml_api.configuration import is_on
from clearml_api.models import Script

FORCE_TASK_INIT = "CLEARML_AGENT_FORCE_TASK_INIT"
_NOTEBOOK = ("nbconvert", "ipython")


def needed(script: Script, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The packages, in the order in which they are added."""
    found: list[str] = []
    if is_on(environ, FORCE_TASK_INIT):
        found.append("clearml")
    if re.search(r"\.ipynb(['\"]|\s|$)", script.entry_point, re.I):
        found += _NOTEBOOK
    return tuple(found)


def not_named(packages: Iterable[str], text: str) -> tuple[str, ...]:
    """Those of the packages that no line of the requirements names."""
    if not packages:
        return ()
    named = {re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0].lower() for line in text.splitlines()}
    return tuple(name for name in packages if name not in named)
