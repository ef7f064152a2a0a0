"""The markdown pages as data: their fenced blocks, what each block is marked with, their headings and links.

A block says by the comment above it how it is held true:

    <!-- test: local -->               commands that run on this machine, in a folder of the page's own
    <!-- test: cluster -->             commands that run against a real control plane, with kubectl and helm
    <!-- test: settings -->            a settings file that the controller takes
    <!-- test: values -->              values that the chart takes
    <!-- test: manifest -->            objects that the API server takes
    <!-- test: by: FILE::TEST -->      this test holds it
    <!-- test: none: why -->           nothing can hold it here

`file=NAME` after a kind (`values: file=values.yaml`) leaves the block in the page's folder for later commands;
`after=PAGE` has the commands of that page typed before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import support

ROOT = support.REPOSITORY_ROOT
SHELL = ("local", "cluster")
YAML = ("settings", "values", "manifest")
LANGUAGES = {**dict.fromkeys(SHELL, "sh"), **dict.fromkeys(YAML, "yaml")}
_MARK = re.compile(r"<!-- test: ([a-z]+)(?:: (.+?))? -->")
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")
_LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    kind: str
    """What it is marked with; empty when nothing marks it."""
    detail: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The name under which later commands of the page find it."""
        return self.detail.removeprefix("file=") if self.detail.startswith("file=") else ""

    @property
    def after(self) -> str:
        """The page whose commands come before."""
        return self.detail.removeprefix("after=") if self.detail.startswith("after=") else ""


def pages() -> list[Path]:
    """Every page of the repository."""
    found = [*ROOT.glob("*.md")]
    for folder in sorted(one for one in ROOT.iterdir() if one.is_dir() and not one.name.startswith(".")):
        found += folder.rglob("*.md")
    return sorted(one for one in found if not {"node_modules", "__pycache__"} & set(one.parts))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order. Raises ValueError for a fence that nothing closes."""
    found: list[Block] = []
    fence, opened, mark, language, lines, indent = "", 0, ("", ""), "", [""], ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if not fence and match:
            indent, fence, language = match[1], match[2], match[3].strip()
            opened, lines = number, []
        elif fence and match and match[2].startswith(fence) and not match[3].strip():
            found.append(Block(name_of(page), opened, language, "\n".join(lines) + "\n", *mark))
            fence, mark = "", ("", "")
        elif fence:
            lines.append(line.removeprefix(indent))
        elif marked := _MARK.fullmatch(line.strip()):
            mark = (marked[1], (marked[2] or "").strip())
        elif line.strip():
            mark = ("", "")
    if fence:
        raise ValueError(f"{name_of(page)}:{opened}: nothing closes this block")
    return found


def all_blocks(*kinds: str) -> list[Block]:
    """Those of all pages that are marked so; all without `kinds`."""
    return [one for page in pages() for one in blocks(page) if not kinds or one.kind in kinds]


def prose(page: Path) -> str:
    """The page without what stands in fences and in inline code."""
    kept, fence = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        match = _FENCE.match(line)
        if match and not fence:
            fence = match[2]
        elif match and match[2].startswith(fence):
            fence = ""
        elif not fence:
            kept.append(line)
    return "\n".join(kept)


def links(page: Path) -> Iterator[str]:
    """Where its links lead, as they are written."""
    yield from (match[1] for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "", prose(page))))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives its headings, and explicit ones."""
    found: set[str] = set()
    for line in prose(page).splitlines():
        if match := re.match(r"#{1,6} +(.+?) *#*$", line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).replace("`", "").lower()
            slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
            number = 0
            while (name := f"{slug}-{number}" if number else slug) in found:
                number += 1
            found.add(name)
        found.update(re.findall(r'<a (?:id|name)="([^"]+)"', line))
    return found
