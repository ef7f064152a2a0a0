"""Requirement lines as they really come: read, and made fit for this machine. Pure: text in, lines and notes out.

The SDK writes what it saw on the author's machine: conda's `@ file:///croot/...` builds, wheels and projects in a
home folder, Debian's own packages, the same name twice, `-e git+...`, torch's `+cu121` builds. clearml-agent mends
some of it; so do we, and a note tells each change. pip's parser is the oracle of the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from bootstrap.environment.options import normalised

_NAME = re.compile(r"^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*(.*)$", re.S)
_OPTION = re.compile(r"^(-[a-zA-Z]|--[a-z-]+)(?:\s*=\s*|\s+|(?<=^-[a-zA-Z]))?(.*)$", re.S)
_COMMENT = re.compile(r"(^|\s+)#.*$")
_PIN = re.compile(r"^\(?\s*={2,3}\s*[^\s,*;)]+\s*\)?\s*(;.*|--hash.*)?$", re.S)
_COMMIT = re.compile(r"@[0-9a-f]{40}(#|$)")
_VCS = re.compile(r"^(git|hg|svn|bzr)\+", re.I)
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.I)
_ARCHIVE = re.compile(r"\.(whl|tar\.gz|zip|tgz|tar\.bz2)$", re.I)
_LOCAL_BUILD = re.compile(r"(={2,3}\s*[^\s;,+]+)\+(cu\d+|cpu|rocm[\d.]*|xpu|cxx11\.abi|computecanada)\b", re.I)
_FILE_VERSION = re.compile(r"^(?P<name>[A-Za-z0-9._]+?)-(?P<version>\d[^-]*?)(-.*\.whl|\.tar\.gz|\.zip|\.tgz)$")

TORCH = frozenset({"torch", "torchvision", "torchaudio", "torchtext", "torchdata", "torch-tensorrt", "pytorch-triton"})
_OF_THE_SYSTEM = frozenset({
    "pkg-resources", "python-apt", "distro-info", "ubuntu-advantage-tools", "ubuntu-drivers-common", "ufw",
    "command-not-found", "unattended-upgrades", "python", "conda", "python-debian", "ubuntu-pro-client",
})  # fmt: skip
"""What freezing a Debian or conda machine brings along and no index has for this one."""


@dataclass(frozen=True)
class Line:
    """One logical line. `name` is empty for an option; `option` is empty for a requirement."""

    text: str
    option: str = ""
    """`-r`, `-c`, `-e`, `--extra-index-url`, ... (long names shortened where both exist)."""
    value: str = ""
    name: str = ""
    """Normalised; empty where the line does not tell it."""
    rest: str = ""
    """What follows name and extras: specifiers, `@ url`, markers, hashes."""
    local: str = ""
    """The folder or archive on this machine that it names."""

    @property
    def pinned(self) -> bool:
        """Whether it means the same tomorrow: `==`, a direct address of one archive, a commit."""
        if self.local or (self.option and self.option != "-e"):
            return True
        address = self.rest.lstrip().startswith("@") or not self.name
        if address:
            target = self.rest or self.text
            return bool(_COMMIT.search(target.split(";")[0].strip())) or bool(
                not _VCS.match(target.lstrip("@ ")) and _ARCHIVE.search(target.split(";")[0].split("#")[0].strip())
            )
        return bool(_PIN.match(self.rest.strip()))


_SHORT = {
    "--requirement": "-r", "--constraint": "-c", "--editable": "-e", "--index-url": "-i", "--pypi-url": "-i",
    "--find-links": "-f",
}  # fmt: skip


def logical(text: str) -> list[str]:
    """The text's lines: continuations joined, comments and blanks gone."""
    joined = re.sub(r"\\\r?\n", " ", text)
    return [line for raw in joined.splitlines() if (line := _COMMENT.sub("", raw.strip().lstrip("\ufeff")).strip())]


def parse(text: str) -> Line:
    """One logical line."""
    if text.startswith("-"):
        found = _OPTION.match(text)
        option = found[1] if found else text
        option = _SHORT.get(option, option)
        value = (found[2] if found else "").strip()
        if option != "-e":
            return Line(text, option=option, value=value)
        if _VCS.match(value):
            egg = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", value)
            return Line(text, "-e", value, name=normalised(egg[1]) if egg else "", rest=f"@ {value}")
        return Line(text, "-e", value, local=_path(value))
    if _VCS.match(text) or _SCHEME.match(text):
        local = _path(text) if text.lower().startswith("file:") else ""
        return Line(text, rest="" if local else f"@ {text}", local=local)
    found = _NAME.match(text)
    if found and (found[3].startswith("@") or not found[3] or found[3][0] in "=<>!~;(-"):
        name, rest = normalised(found[1]), found[3].strip()
        if not rest and (_ARCHIVE.search(text) or text in (".", "..")):
            return Line(text, local=_path(text))
        local = _path(rest[1:].strip()) if re.match(r"@\s*file:", rest, re.I) else ""
        return Line(text, name=name, rest=rest, local=local)
    return Line(text, local=_path(text))


def _path(value: str) -> str:
    """The file system's name in a `file:` address or a path with extras, marker or fragment."""
    path = value.split(" ;")[0].split("#")[0].strip()
    if path.lower().startswith("file:"):
        path = unquote(re.sub(r"^file:(//(localhost)?)?", "", path, flags=re.I))
        path = path.split(";")[0].strip()
    return re.sub(r"\[[A-Za-z0-9,._\s-]*\]$", "", path)


@dataclass(frozen=True)
class Mended:
    """Lines that can be installed here, and what was changed."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether all of it means the same tomorrow."""
        return all(line.pinned for line in self.lines)


def mend(raw: Iterable[str], *, exists: Callable[[str], bool], keep_builds: bool) -> Mended:
    """The lines, made fit for this machine. `exists(path)` tells whether a local file or folder is here;
    `keep_builds` keeps `torch==2.1.0+cu121` as it is (an index of its own was named, or nothing resolves it)."""
    kept: list[Line] = []
    notes: list[str] = []
    for text in raw:
        line = parse(text)
        if line.name in _OF_THE_SYSTEM and line.option != "-e" and "@ git" not in line.rest:
            notes.append(f"left out {line.text}: it belongs to the operating system of the author's machine")
            continue
        if line.local and not exists(line.local):
            mended = _elsewhere(line)
            notes.append(_tell_elsewhere(line, mended))
            if mended is None:
                continue
            line = mended
        if line.option == "-e" and _VCS.match(line.value):
            line = _not_editable(line)
        if line.name in TORCH and not keep_builds and _LOCAL_BUILD.search(line.rest):
            plain = parse(_LOCAL_BUILD.sub(r"\1", line.text))
            notes.append(f"{line.text}: its build is chosen anew for this machine ({plain.text})")
            line = plain
        kept.append(line)
    return _without_clashes(kept, notes)


def _elsewhere(line: Line) -> Line | None:
    """As clearml-agent: a named package whose file is on another machine comes from the index, with the version that
    the file's name tells."""
    if not line.name or line.option == "-e":
        return None
    found = _FILE_VERSION.match(Path(line.local).name)
    version = f"=={found['version']}" if found and normalised(found["name"]) == line.name else ""
    head = line.text.split("@")[0].strip()
    marker = line.rest.partition(" ;")[2]
    return parse(f"{head}{version}{' ;' + marker if marker else ''}")


def _tell_elsewhere(line: Line, mended: Line | None) -> str:
    if mended is None:
        return f"left out {line.text}: {line.local} is on another machine"
    return f"{line.text}: {line.local} is on another machine; {mended.text} is taken from the index"


def _not_editable(line: Line) -> Line:
    """A repository is installed as a package: its checkout would lie in a shared entry otherwise (uv refuses it)."""
    address = re.sub(r"[#&]egg=[^&]*", "", line.value, count=1)
    if "#" not in address and "&" in address:
        address = address.replace("&", "#", 1)
    return parse(f"{line.name} @ {address}" if line.name else address)


def _without_clashes(lines: list[Line], notes: list[str]) -> Mended:
    """The same package pinned twice: the later line is meant. Lines with markers of their own may stand together."""
    last: dict[tuple[str, str], int] = {}
    for at, line in enumerate(lines):
        if line.name and not line.option and (_PIN.match(line.rest) or line.rest.startswith("@")):
            last[line.name, _marker(line)] = at
    kept: list[Line] = []
    seen: set[str] = set()
    for at, line in enumerate(lines):
        winner = last.get((line.name, _marker(line)), at) if line.name and not line.option else at
        if winner != at and (_PIN.match(line.rest) or line.rest.startswith("@")):
            if lines[winner].rest.replace(" ", "") != line.rest.replace(" ", ""):
                notes.append(f"left out {line.text}: {lines[winner].text} stands below it")
            continue
        if line.text in seen:
            continue
        seen.add(line.text)
        kept.append(line)
    return Mended(tuple(kept), tuple(notes))


def _marker(line: Line) -> str:
    return line.rest.partition(";")[2].replace(" ", "").replace('"', "'")


def absolute(line: Line, folder: Path) -> Line:
    """A local line as seen from the file that it stood in."""
    if not line.local or Path(line.local).is_absolute():
        return line
    return replace(line, local=str((folder / line.local).resolve()))
