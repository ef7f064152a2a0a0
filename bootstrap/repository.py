"""The task's code on disk: a checkout of exactly its commit with its uncommitted changes, or its stored script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bootstrap.commands import Programs
from bootstrap.errors import RepositoryError
from bootstrap.prepared import Checkout, Tell
from clearml_api.configuration import Configuration, variable
from clearml_api.models import Script

if TYPE_CHECKING:
    from bootstrap.submodules import Submodule

FORCE_CODE_DIR = "CLEARML_AGENT_FORCE_CODE_DIR"


def prepare(
    script: Script,
    *,
    work: Path,
    cache: Path | None,
    configuration: Configuration,
    environ: Mapping[str, str],
    programs: Programs,
    tell: Tell,
) -> Checkout:
    """The code that the task names. Raises RepositoryError (what, where, why, what to try) or Cancelled."""
    if forced := variable(environ, FORCE_CODE_DIR):
        return _given(Path(forced).expanduser(), tell)
    if not script.repository:
        from bootstrap import stored_script

        return stored_script.write(script, work / "code")
    from bootstrap.checkout import Checkouts

    checkouts = Checkouts(
        work=work, cache=cache, configuration=configuration, environ=environ, programs=programs, tell=tell
    )
    root = work / "code"
    access = checkouts.access(script.repository)
    commit, mirror = checkouts.at(script, access, root)
    submodules: Mapping[str, Submodule] = {}
    if (root / ".gitmodules").is_file():
        from bootstrap.submodules import check_out_all

        tell("fetching submodules")
        submodules = check_out_all(root, access, checkouts.submodule, programs)
    if script.diff.strip():
        from bootstrap.uncommitted import Changes, is_diff

        if not is_diff(script.diff):
            from bootstrap import stored_script

            stored_script.write_into(script, root)
            return Checkout(root, commit, script.branch)

        def move(path: str, to: str) -> None:
            checkouts.submodule(submodules[path].url, to, root / path)

        changes = Changes(script.diff, root, access.environ, programs, tell)
        changes.apply(list(submodules), move, mirror.have_history)
    return Checkout(root, commit, script.branch)


def _given(folder: Path, tell: Tell) -> Checkout:
    """The operator says where the code is: nothing is cloned and no change is applied, as under clearml-agent."""
    if not folder.is_dir():
        raise RepositoryError(f"{FORCE_CODE_DIR} names {folder}, which is no folder of this image or its volumes")
    tell(f"nothing is cloned: the code is in {folder} ({FORCE_CODE_DIR})")
    return Checkout(folder.absolute(), given=True)
