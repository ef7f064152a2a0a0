"""Lock files and pyproject.toml as requirement lines. Read when an environment is built, never on the warm path.

uv.lock: `uv export --frozen`, as `uv sync` would install. poetry.lock: read as TOML, no poetry needed; what its
packages ask for is walked from the project's own dependencies, so that packages for other systems stay out; held
equal to poetry's own export by a test. pyproject.toml without a lock: its `[project]` dependencies.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bootstrap.commands import CommandFailed, Programs
from bootstrap.environment.options import normalised
from bootstrap.errors import EnvironmentBuildError

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

Table = Mapping[str, Any]


def export_uv(folder: Path, flags: Sequence[str], environ: Mapping[str, str], programs: Programs) -> str:
    """The lines of a uv.lock; asks no index. Raises EnvironmentBuildError."""
    from bootstrap.environment.tools import find_uv

    command: list[str | Path] = [
        find_uv(),
        "export",
        "--frozen",
        "--no-header",
        "--no-annotate",
        "--offline",
        "--quiet",
    ]
    command += ["--format", "requirements-txt", *flags]
    try:
        return programs.run(command, cwd=folder, environ=environ, errors_apart=False).output
    except CommandFailed as failed:
        raise EnvironmentBuildError(
            f"uv.lock could not be read: {failed.last_lines[-1] if failed.last_lines else failed}",
            hint="does it belong to the pyproject.toml beside it (uv lock --check)?",
            last_lines=failed.last_lines,
        ) from failed


def read_pyproject(text: str) -> str:
    """The dependencies that a pyproject.toml states; the project itself where only its build can tell them."""
    tree = _toml(text, "pyproject.toml")
    project = tree.get("project")
    if isinstance(project, Mapping) and "dependencies" not in (project.get("dynamic") or ()):
        return "\n".join(str(line) for line in project.get("dependencies") or ())
    return "." if "build-system" in tree else ""


def read_poetry(lock: str, pyproject: str, python: str) -> str:
    """The lines of a poetry.lock for a Python (`3.11.7`) on Linux. Raises EnvironmentBuildError."""
    from packaging.markers import default_environment

    environment = {str(name): str(value) for name, value in default_environment().items()}
    short = ".".join(python.split(".")[:2])
    environment.update({"python_version": short, "python_full_version": python, "implementation_version": python})
    locked = _toml(lock, "poetry.lock")
    project = _toml(pyproject, "pyproject.toml")
    packages: dict[str, list[Table]] = {}
    for package in locked.get("package") or ():
        packages.setdefault(normalised(str(package.get("name"))), []).append(package)
    hashes = locked.get("metadata", {}).get("files", {})
    wanted = _reached(packages, list(_roots(project)), environment)
    chosen = [package for name in sorted(wanted) for package in packages.get(name, ()) if _fits(package, environment)]
    with_hashes = all((package.get("source") or {}).get("type") not in ("git", "directory") for package in chosen)
    lines = [_line(package, hashes if with_hashes else None) for package in chosen]
    indexes = {
        str(package["source"]["url"]) for package in chosen if (package.get("source") or {}).get("type") == "legacy"
    }
    head = [f"--extra-index-url {url}" for url in sorted(indexes)]
    return "\n".join([*head, *lines])


def is_poetry_package(pyproject: str) -> bool:
    """Whether poetry would install the project itself."""
    project = _toml(pyproject, "pyproject.toml")
    return (
        "build-system" in project and project.get("tool", {}).get("poetry", {}).get("package-mode", True) is not False
    )


def _roots(project: Table) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(name, extras, marker) of what the project asks for: main dependencies and groups that are not optional."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in (project.get("project") or {}).get("dependencies") or ():
        try:
            one = Requirement(str(text))
        except InvalidRequirement:
            continue
        yield normalised(one.name), tuple(sorted(one.extras)), str(one.marker or "")
    poetry = project.get("tool", {}).get("poetry", {})
    tables = [poetry.get("dependencies") or {}, poetry.get("dev-dependencies") or {}]
    groups = poetry.get("group") or {}
    tables += [group.get("dependencies") or {} for group in groups.values() if not group.get("optional")]
    for table in tables:
        for name, value in table.items():
            if name.lower() != "python":
                yield from ((normalised(name), extras, marker) for extras, marker in _wishes(value))


def _wishes(value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """(extras, marker) of one dependency: a version, a table, or several tables. Optional ones are no wish."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, Mapping):
            yield (), ""
        elif not one.get("optional"):
            yield tuple(one.get("extras") or ()), _marker_of(one)


def _marker_of(table: Table) -> str:
    parts = [f"({table['markers']})"] if table.get("markers") else []
    if table.get("python") and table["python"] != "*":
        parts.append(_python_marker(str(table["python"])))
    if table.get("platform"):
        parts.append(f"sys_platform == '{table['platform']}'")
    return " and ".join(part for part in parts if part)


def _python_marker(constraint: str) -> str:
    """poetry's `>=3.8,<3.12`, `^3.9`, `~3.9` as a marker."""
    parts = []
    for piece in constraint.replace("||", "|").split("|")[0].split(","):
        found = re.match(r"\s*(\^|~|>=|<=|>|<|==|!=)?\s*v?(\d+(?:\.\d+)*)", piece)
        if not found:
            continue
        operator, version = found[1] or "==", found[2]
        if operator in ("^", "~"):
            numbers = version.split(".")
            upper = (
                str(int(numbers[0]) + 1)
                if operator == "^" or len(numbers) == 1
                else f"{numbers[0]}.{int(numbers[1]) + 1}"
            )
            parts.append(f"python_full_version >= '{version}' and python_full_version < '{upper}'")
        else:
            parts.append(f"python_full_version {operator} '{version}'")
    return " and ".join(parts)


def _holds(marker: str, environment: dict[str, str], extras: Sequence[str] = ()) -> bool:
    from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName

    if not marker:
        return True
    try:
        return any(Marker(marker).evaluate({**environment, "extra": extra}) for extra in (*extras, ""))
    except (InvalidMarker, UndefinedEnvironmentName):
        return True


def _reached(
    packages: Mapping[str, Sequence[Table]], roots: list[tuple[str, tuple[str, ...], str]], environment: dict[str, str]
) -> set[str]:
    """The names that the roots need on this system, directly or by others."""
    todo = [(name, extras) for name, extras, marker in roots if _holds(marker, environment)]
    done: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        for package in packages.get(name, ()):
            if not _fits(package, environment):
                continue
            by_extras = {
                normalised(re.split(r"[\s(\[;<>=!~]", str(text).strip(), maxsplit=1)[0])
                for extra in extras
                for text in (package.get("extras") or {}).get(extra, ())
            }
            for needed, value in (package.get("dependencies") or {}).items():
                for one in value if isinstance(value, list) else [value]:
                    table = one if isinstance(one, Mapping) else {}
                    if table.get("optional") and normalised(needed) not in by_extras:
                        continue
                    if _holds(_marker_of(table), environment, extras):
                        todo.append((normalised(needed), tuple(sorted(table.get("extras") or ()))))
    return {name for name, _ in done}


def _fits(package: Table, environment: dict[str, str]) -> bool:
    """Of several versions of one package the lock's own marker tells which is for this Python."""
    markers = package.get("markers")
    if isinstance(markers, Mapping):
        fitting = [_holds(str(marker), environment) for marker in markers.values()]
        return any(fitting) if fitting else True
    if markers:
        return _holds(str(markers), environment)
    versions = str(package.get("python-versions") or "*")
    return versions == "*" or _holds(_python_marker(versions), environment)


def _line(package: Table, hashes: Table | None) -> str:
    name, version = str(package["name"]), str(package["version"])
    source = package.get("source") or {}
    kind, url = source.get("type"), str(source.get("url") or "")
    below = f"#subdirectory={source['subdirectory']}" if source.get("subdirectory") else ""
    if kind == "git":
        return f"{name} @ git+{url}@{source.get('resolved_reference', '')}{below}"
    if kind in ("url",):
        return f"{name} @ {url}"
    if kind in ("file", "directory"):
        return f"{'-e ' if package.get('develop') else ''}./{url.removeprefix('./')}"
    line = f"{name}=={version}"
    if hashes is not None:
        files = package.get("files") or hashes.get(name) or ()
        line += "".join(f" --hash={file['hash']}" for file in files if file.get("hash"))
    return line


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise EnvironmentBuildError(f"{name} cannot be read: {error}", hint="is it damaged by a merge?") from error
