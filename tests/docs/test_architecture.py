"""docs/architecture.md names no module that is not there, and says of imports what import-linter holds."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("protocol", "clearml_api", "bootstrap", "controller", "standalone", "cli", "charts")
NO_MODULES = {"explain", "page/", "files"}
"""Words in code that name a command or a folder of something else."""


def test_every_module_that_it_names_exists() -> None:
    inside = PAGE.partition("\n## The rooms from inside\n")[2].partition("\n## ")[0]
    files = {
        path.relative_to(ROOT).as_posix().removesuffix(".py") for room in ROOMS for path in (ROOT / room).rglob("*.py")
    }
    folders = {one.rpartition("/")[0] for one in files}
    named = set(re.findall(r"`(_?[a-z]+(?:[_/][a-z]+)*/?)`", inside)) - NO_MODULES
    assert len(named) > 90

    def exists(word: str) -> bool:
        if word.endswith("/"):
            return any(one.endswith(f"/{word.rstrip('/')}") for one in folders)
        whole = [f"{prefix}{word}" for prefix in ("job_template", "docker_args")] if word.startswith("_") else [word]
        return any(one == each or one.endswith(f"/{each}") for one in files for each in whole)

    assert sorted(one for one in named if not exists(one)) == []


def test_its_table_of_rooms_is_the_linters() -> None:
    """Each room of import-linter's layers has a row."""
    layers = re.findall(r"^layers = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    rooms = {room for line in layers for room in re.findall(r"[a-z_]+", line) if (ROOT / room).is_dir()}
    assert rooms >= {"cli", "controller", "bootstrap", "clearml_api", "protocol"}
    assert [one for one in sorted(rooms) if f"| `{one}/` |" not in PAGE] == []
