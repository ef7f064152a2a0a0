"""What an answer shows of a document: the fields of `only_fields`, and in `get_all_ex` what its references point to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from standalone.store import Document
from standalone.wire import USER_NAME, Call

_PEOPLE: dict[str, Document] = {"user": {"name": USER_NAME}, "company": {"name": "clearml"}}
_Tree = dict[str, Any]


def at(document: Any, path: str) -> Any:
    """The value at a dotted path; None when there is none."""
    for part in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(part)
    return document


def project(document: Document, only: Iterable[str], *, with_id: bool = False) -> Document:
    """Only the fields asked for, dotted ones too, inside lists as well; all but the named ones where `-` stands before.

    `get_all_ex` always gives the id, `get_all` only when asked.
    """
    fields = [field for field in only if not field.startswith("-")]
    hidden = [field[1:] for field in only if field.startswith("-")]
    if not fields:
        return {key: value for key, value in document.items() if key not in hidden}
    tree: _Tree = {"id": {}} if with_id else {}
    for field in fields:
        _grow(tree, field.split("."))
    return dict(_cut(document, tree))


def _grow(tree: _Tree, parts: list[str]) -> None:
    """A field in the tree of what is wanted; an empty node wants everything below it."""
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part in tree and not tree[part]:
            return
        tree = tree.setdefault(part, {})
        if last:
            tree.clear()


def _cut(value: Any, tree: _Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_cut(one, tree) for one in value]
    if isinstance(value, Mapping):
        return {key: _cut(value[key], below) for key, below in tree.items() if value.get(key) is not None}
    return value


def expanded(call: Call, document: Document, references: Mapping[str, str]) -> Document:
    """`get_all_ex`: a reference becomes {id, and what `only_fields` asks of it}; `references`: path -> kind."""
    result: Any = document
    for path, kind in references.items():
        wanted = [field[len(path) + 1 :] for field in call.texts("only_fields") if field.startswith(path + ".")]

        def pointed_to(identity: Any, kind: str = kind, wanted: list[str] = wanted) -> Any:
            if not isinstance(identity, str) or not identity:
                return identity
            other = _PEOPLE.get(kind) or (call.store.get(kind, identity) if wanted else None)
            facts = {field: at(other, field) for field in wanted if other and at(other, field) is not None}
            return {"id": identity, **facts}

        result = _replaced(result, path.split("."), pointed_to)
    return dict(result)


def _replaced(value: Any, parts: list[str], change: Callable[[Any], Any]) -> Any:
    """A copy with what stands at a path, inside lists as well, changed."""
    if not parts:
        return change(value)
    if isinstance(value, list):
        return [_replaced(one, parts, change) for one in value]
    if isinstance(value, Mapping) and parts[0] in value:
        return {**value, parts[0]: _replaced(value[parts[0]], parts[1:], change)}
    return value


def base_fields(call: Call, references: Mapping[str, str]) -> list[str]:
    """`only_fields` with each reference's own field instead of the fields of what it points to."""
    fields = []
    for field in call.texts("only_fields"):
        reference = next((path for path in references if field.startswith(path + ".")), None)
        fields.append(reference or field)
    return fields
