"""YAML with its positions: where each key stands, so that an error can name line and column.

PyYAML's node tree keeps what its values lose. Refused here, whatever the file is for: text that is no YAML, a key
that stands twice (YAML would keep the last one silently), an alias that contains itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from protocol.errors import ConfigError

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """One YAML text, as values and as nodes."""

    name: str
    """The file, for errors."""
    value: Any
    root: yaml.Node | None
    duplicates: tuple[Key, ...] = ()
    """Every key that stands twice in one mapping."""

    def position(self, path: Sequence[str | int]) -> tuple[int, int]:
        """Line and column, from 1, of the key at a path, or of the nearest one above it that exists."""
        node, found = self.root, (1, 1)
        for part in path:
            place = _place(node, part)
            if place is None:
                break
            key, node = place
            found = key.start_mark.line + 1, key.start_mark.column + 1
        return found

    def has(self, path: Sequence[str | int]) -> bool:
        """Whether a key stands at a path."""
        node = self.root
        for part in path:
            if (place := _place(node, part)) is None:
                return False
            _, node = place
        return True

    def at(self, path: Sequence[str | int]) -> str:
        """`file:line:column` of the key at a path."""
        line, column = self.position(path)
        return f"{self.name}:{line}:{column}"


def read(file: Path) -> Document:
    """Read a file. Raises ConfigError where it cannot be read or is no YAML."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"The file {file} cannot be read: {reason}", hint="is the path right?") from None
    return parse(text, str(file))


def parse(text: str, name: str) -> Document:
    """Read a text; `name` stands for the file in errors."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if _contains_itself(root, ()):
            raise ConfigError(f"{name}: an alias contains itself", hint="write the part out, or drop the anchor")
        return Document(name, yaml.safe_load(text), root, tuple(_duplicates(root, (), set())))
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.line + 1}:{mark.column + 1}: " if mark else " "
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{name}:{where}no valid YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None


def dotted(path: Sequence[str | int]) -> str:
    """A path as a person writes it: `queues.gpu.templateOverrides.env[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _place(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        # The last one: that is whose value counts, and the second of a key that stands twice.
        return next(((key, value) for key, value in reversed(node.value) if str(key.value) == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _children(node: yaml.Node | None) -> list[tuple[str | int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), value) for key, value in node.value]
    return list(enumerate(node.value)) if isinstance(node, yaml.SequenceNode) else []


def _contains_itself(node: yaml.Node | None, above: tuple[int, ...], clean: set[int] | None = None) -> bool:
    clean = set() if clean is None else clean
    if id(node) in clean:
        return False
    if id(node) in above:
        return True
    found = any(_contains_itself(child, (*above, id(node)), clean) for _, child in _children(node))
    clean.add(id(node))
    return found


def _duplicates(node: yaml.Node | None, path: Key, visited: set[int]) -> Iterator[Key]:
    if id(node) in visited:
        return  # an alias: looked at where it is anchored
    visited.add(id(node))
    seen: set[str | int] = set()
    for key, child in _children(node):
        if key in seen and key != "<<":
            yield (*path, key)
        seen.add(key)
        yield from _duplicates(child, (*path, key), visited)
