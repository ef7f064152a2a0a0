"""From requirement lines to the steps of a build. Pure: what goes into the shared entry in which order, what is the
task's own code and goes into its private environment, and whether all of it means the same tomorrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.environment.lines import TORCH, Line, absolute, logical, mend, parse
from bootstrap.environment.options import Options

_INDEXES = ("-i", "-f", "--extra-index-url", "--no-index")
_GLOBAL = (*_INDEXES, "--pre", "--trusted-host", "--no-binary", "--only-binary", "--prefer-binary", "--require-hashes")


@dataclass(frozen=True)
class Step:
    """Lines that are installed together."""

    lines: tuple[str, ...]
    optional: bool = False
    """When it fails the build goes on."""


@dataclass(frozen=True)
class Recipe:
    """How an environment is built."""

    steps: tuple[Step, ...]
    local: tuple[str, ...] = ()
    """The task's own code, as requirement lines with absolute paths below `root`."""
    pinned: bool = True
    torch: str = ""
    """uv's torch backend."""
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Normalised names that the lines ask for."""
    loose: tuple[str, ...] = ()
    """Those that are not pinned."""

    @property
    def text(self) -> str:
        """All lines, for counting and for the record."""
        return "\n".join(line for step in self.steps for line in step.lines)


def write(text: str, options: Options, *, root: Path | None, locked: bool = False, own: Sequence[str] = ()) -> Recipe:
    """The recipe for requirements; relative lines are seen from `root`. `locked`: a lock file says it all, so the
    task's own code adds nothing; `own` are lines of such code."""
    raw = logical(text)
    parsed = [parse(line) for line in raw]
    indexes = any(line.option in _INDEXES for line in parsed) or any("pytorch" in url for url in options.extra_index)
    keep_builds = indexes or not options.torch
    mended = mend(raw, exists=_exists(root), keep_builds=keep_builds)
    lines = [absolute(line, root) if root else line for line in mended.lines]
    code = [line for line in lines if _is_code(line, root)]
    local = tuple(dict.fromkeys([*(_spelled(line) for line in code), *own]))
    rest = [line for line in lines if not locked or line not in code]
    torch = "" if indexes or options.manager != "uv" else options.torch
    loose = tuple(line.name or line.text for line in rest if not line.pinned and not _is_code(line, root))
    return Recipe(
        steps=_steps(rest, options),
        local=local,
        pinned=mended.pinned and (locked or not code),
        torch=torch if _may_need_torch(rest) else "",
        notes=mended.notes,
        names=tuple(line.name for line in rest if line.name),
        loose=loose,
    )


def _may_need_torch(lines: Sequence[Line]) -> bool:
    """Named, or brought along by something that is not pure Python's usual crowd: only asked when torch is named,
    so that no other task waits for the driver to be looked up."""
    return any(line.name in TORCH for line in lines)


def _exists(root: Path | None) -> Callable[[str], bool]:
    def exists(path: str) -> bool:
        return (Path(path) if root is None else root / path).exists()

    return exists


def _is_code(line: Line, root: Path | None) -> bool:
    """A project in the checkout, not an archive beside it."""
    return bool(line.local) and root is not None and Path(line.local).is_dir()


def _spelled(line: Line) -> str:
    """A local line with its absolute path."""
    if not line.local:
        return line.text
    extras = line.text[line.text.rfind("[") :] if line.text.rstrip().endswith("]") and " @ " not in line.text else ""
    marker = line.text.partition(" ;")[2]
    address = f"{line.local}{extras}{' ;' + marker if marker else ''}"
    if line.option == "-e":
        return f"-e {address}"
    if line.name and "@" in line.text:
        head = line.text.partition("@")[0].strip()
        return f"{head} @ {Path(line.local).as_uri()}{' ;' + marker if marker else ''}"
    return address


def _steps(lines: Sequence[Line], options: Options) -> tuple[Step, ...]:
    """priority packages, everything, post packages; the optional ones each by itself."""
    head = tuple(line.text for line in lines if line.option in _GLOBAL)
    body = [line for line in lines if line.option not in _GLOBAL]

    def of(names: Sequence[str]) -> list[Line]:
        return [line for line in body if line.name and line.name in names]

    apart = {*options.priority_optional, *options.post, *options.post_optional}
    main = [line for line in body if line.name not in apart]
    steps = [Step((*head, *(_spelled(line) for line in of(options.priority))))] if of(options.priority) else []
    steps += [Step((*head, _spelled(line)), optional=True) for line in of(options.priority_optional)]
    steps += [Step((*head, *(_spelled(line) for line in main)))] if main else []
    steps += [Step((*head, *(_spelled(line) for line in of(options.post))))] if of(options.post) else []
    steps += [Step((*head, _spelled(line)), optional=True) for line in of(options.post_optional)]
    return tuple(steps)
