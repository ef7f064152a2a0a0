"""What a task needs beside its own requirements because of how it is run: a notebook's converter, a forced Task.init.

As clearml-agent 3.0.3 adds them (`_install_patched_python_requirements`): unpinned, before the task's own lines, and
only what those do not name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from bootstrap.task_init import FORCE_TASK_INIT
from clearml_api.configuration import is_on
from clearml_api.models import Script

_NOTEBOOK = ("nbconvert", "ipython")


def needed(script: Script, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The packages, in the order in which they are added."""
    found: list[str] = []
    if is_on(environ, FORCE_TASK_INIT):
        found.append("clearml")
    if re.search(r"\.ipynb(['\"]|\s|$)", script.entry_point, re.I):
        found += _NOTEBOOK
    return tuple(found)


def added(script: Script, environ: Mapping[str, str]) -> Script:
    """The script with these packages among its requirements.

    A task of a repository that names no requirements takes the repository's: then they are not added here.
    """
    extra = needed(script, environ)
    own = script.requirements.get("pip") or ""
    if not extra or (script.repository and not own):
        return script
    lines = list(own) if isinstance(own, (list, tuple)) else str(own).splitlines()
    named = {re.split(r"[^\w.-]", str(line).strip(), maxsplit=1)[0].lower() for line in lines}
    extra = tuple(one for one in extra if one not in named)
    return replace(script, requirements={**script.requirements, "pip": "\n".join((*extra, *map(str, lines)))})
