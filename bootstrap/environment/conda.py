"""environment.yml and conda requirements: by the conda, mamba or micromamba of the image.

A conda environment has its path written all over, so it cannot be moved into the store: each task has its own, made
by hard links from conda's package cache, which lies in ours. An image without conda cannot run such a task by this
engine; the error says what can.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from bootstrap.commands import CommandFailed, Programs
from bootstrap.environment import installed
from bootstrap.environment.requirements import Requirements
from bootstrap.errors import EnvironmentBuildError
from bootstrap.prepared import TaskEnvironment, Tell
from protocol import environment as names

PROGRAMS = ("micromamba", "mamba", "conda")
_SECONDS = 3600.0


def prepare(
    wanted: Requirements, work: Path, cache: Path, environ: Mapping[str, str], programs: Programs, tell: Tell
) -> TaskEnvironment:
    """The environment that the file describes. Raises EnvironmentBuildError."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name, path=environ.get("PATH")))), None)
    if program is None:
        raise EnvironmentBuildError(
            f"{wanted.source} needs conda, and the image has none of {', '.join(PROGRAMS)}",
            hint=f"use an image with micromamba, add a requirements.txt, or set engine: clearml-agent ({names.ENGINE})",
        )
    folder = work / "venv"
    file = work / ("environment.yml" if ":" in wanted.text else "conda.txt")
    file.write_text(wanted.text + "\n")
    if file.suffix == ".yml":
        words = ["create"] if Path(program).name == "micromamba" else ["env", "create"]
    else:
        words = ["create", "--yes"]
    if Path(program).name == "micromamba" and "--yes" not in words:
        words.append("--yes")
    tell(f"building a conda environment ({wanted.source}), {Path(program).name}")
    own = {"CONDA_PKGS_DIRS": str(cache / "conda"), "MAMBA_ROOT_PREFIX": str(work / "mamba"), "MAMBA_NO_BANNER": "1"}
    command: list[str | Path] = [program, *words, "--quiet", "--prefix", folder, "--file", file]
    try:
        programs.run(command, environ={**environ, **own}, cwd=wanted.folder or work, seconds=_SECONDS, tell=tell)
    except CommandFailed as failed:
        raise EnvironmentBuildError(
            f"the conda environment ({wanted.source}) could not be made: "
            f"{failed.last_lines[-1].strip() if failed.last_lines else failed}",
            hint="are its channels reachable from this pod?",
            last_lines=failed.last_lines,
        ) from failed
    python = folder / "bin" / "python"
    if not python.exists():
        raise EnvironmentBuildError(f"{wanted.source} brings no Python", hint="add `python` to its dependencies")
    path = f"{folder / 'bin'}:{environ.get('PATH', '')}"
    packages = next((folder / "lib").glob("python3*/site-packages"), folder)
    freeze = installed.freeze(packages, ("pip", "setuptools", "wheel"))
    return TaskEnvironment(python, {"CONDA_PREFIX": str(folder), "PATH": path}, freeze)
