"""Lists as the API gives them: filtered by what a request names, ordered, paged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from standalone.projection import at
from standalone.store import Document, Store
from standalone.wire import Call, Refusal, invalid

_LISTS = ("tags", "system_tags")
_PLAIN = ("type", "user", "parent", "project", "status", "company", "framework", "task", "ready", "execution.queue")
_TIMES = ("last_update", "created", "started", "completed", "status_changed", "last_change", "active_duration")
_OPERATORS = ("__$or", "__$and", "__$all", "__$any", "__$not", "__$nop")
MOST = 500


def select(call: Call, documents: Iterable[Document], *, default_size: int = MOST) -> list[Document]:
    """The documents that a `get_all` asks for, in its order and page."""
    found = [one for one in documents if matches(call.data, one)]
    found.sort(key=lambda one: str(one.get("created") or ""))
    _order(call, found)
    page = max(0, call.number("page", 0))
    if (size := call.number("size", 0)) > 0:
        start = _scrolled(call)
    elif (size := call.number("page_size", 0)) > 0:
        start = page * size
    elif page:
        return []
    else:
        return found if call.data.get("id") else found[:default_size]
    return found[start : start + size]


def scroll(call: Call) -> Document:
    """The id by which the next page of `size` is asked for: it says where that page begins.

    Who wants to scroll names the field `scroll_id` from the start, as null.
    """
    size = call.number("size", 0)
    if "scroll_id" not in call.data:
        return {}
    if size < 1:
        raise invalid("Integer size parameter greater than 1 should be provided when working with scroll")
    return {"scroll_id": f"{_scrolled(call) + size:032x}"}


def _scrolled(call: Call) -> int:
    text = call.text("scroll_id")
    try:
        return int(text, 16) if text else 0
    except ValueError:
        raise Refusal(400, 16, "Invalid value for fields (scroll_id)", scroll_id=text) from None


def candidates(store: Store, kind: str, data: Mapping[str, Any]) -> Iterable[Document]:
    """What the database can narrow down by itself."""
    columns: dict[str, Any] = {}
    for name in ("id", "status", "project", "parent"):
        value = data.get(name)
        if value and not (isinstance(value, list) and any(_special(one) for one in value)):
            columns[name] = [value] if isinstance(value, str) else [str(one) for one in value]
    return store.find(kind, **columns)


def matches(data: Mapping[str, Any], document: Document) -> bool:
    """Whether a document fits every condition of a request."""
    if not data.get("search_hidden") and not data.get("id") and "hidden" in (document.get("system_tags") or ()):
        return False
    ids = data.get("id")
    if ids and document["id"] not in ([ids] if isinstance(ids, str) else ids):
        return False
    if (name := data.get("name")) and not _like(str(name), str(document.get("name") or ""), exact_case=True):
        return False
    for field in _LISTS:
        if (wanted := data.get(field)) and not _tags(wanted, document.get(field) or []):
            return False
        spec = (data.get("filters") or {}).get(field)
        if spec and not _filter(spec, document.get(field) or []):
            return False
    for field in _PLAIN:
        if (value := data.get(field)) is not None and not _among(value, at(document, field)):
            return False
    for field in _TIMES:
        if (value := data.get(field)) is not None and not _in_range(value, at(document, field)):
            return False
    return all(_pattern(data.get(key) or {}, document, combine) for key, combine in (("_any_", any), ("_all_", all)))


def _order(call: Call, found: list[Document]) -> None:
    for field in reversed(call.texts("order_by")):
        name, backwards = field.lstrip("-"), field.startswith("-")
        found.sort(key=lambda one: _sortable(at(one, name)), reverse=backwards)


def _sortable(value: Any) -> tuple[int, float, str]:
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, str(value))


def _like(pattern: str, text: str, *, exact_case: bool = False) -> bool:
    try:
        return re.search(pattern, text, 0 if exact_case else re.I) is not None
    except re.error as error:
        raise Refusal(400, 21, "Malformed regular expression", err=error, extra_info=None) from None


def _special(value: Any) -> bool:
    return value is None or (isinstance(value, str) and (value.startswith(("-", "__$"))))


def _tags(wanted: Any, have: list[str]) -> bool:
    """Tags: one of them is enough, unless `__$all` or `__$and` stands before; `-tag` or `__$not` excludes."""
    words = [wanted] if isinstance(wanted, str) else [str(word) for word in wanted]
    every = any(word in ("__$all", "__$and") for word in words)
    include: list[str] = []
    exclude: list[str] = []
    negate = False
    for word in words:
        if word == "__$not":
            negate = True
        elif word not in _OPERATORS:
            (exclude if negate or word.startswith("-") else include).append(word.removeprefix("-"))
            negate = False
    if any(word in have for word in exclude):
        return False
    return not include or (all if every else any)(word in have for word in include)


def _filter(spec: Mapping[str, Any], have: list[str]) -> bool:
    """`{"any": {"include": [...], "exclude": [...]}, "all": {...}}`."""
    for mode, combine in (("any", any), ("all", all)):
        words = spec.get(mode) or {}
        include, exclude = words.get("include") or [], words.get("exclude") or []
        if include and not combine(word in have for word in include):
            return False
        if exclude and not combine(word not in have for word in exclude):
            return False
    return True


def _among(wanted: Any, have: Any) -> bool:
    if isinstance(wanted, list):
        plain = [one for one in wanted if not (isinstance(one, str) and one in _OPERATORS)]
        exclude = [one[1:] for one in plain if isinstance(one, str) and one.startswith("-")]
        include = [one for one in plain if not (isinstance(one, str) and one.startswith("-"))]
        return have not in exclude and (not include or have in include)
    return bool(have == wanted)


def _in_range(wanted: Any, have: Any) -> bool:
    """`[">=2026-01-01T00:00:00", "<..."]`, or `[from, to]`."""
    values = wanted if isinstance(wanted, list) else [wanted]
    if have is None:
        return False
    plain = [value for value in values if not (isinstance(value, str) and value[:1] in "<>=")]
    if len(plain) == 2 and len(values) == 2:
        return (plain[0] is None or have >= plain[0]) and (plain[1] is None or have <= plain[1])
    for value in values:
        if not isinstance(value, str):
            continue
        sign, bound = re.match(r"([<>]=?)?(.*)", value).groups()  # type: ignore[union-attr]
        holds = {">": have > bound, ">=": have >= bound, "<": have < bound, "<=": have <= bound}.get(
            sign, have == bound
        )
        if not holds:
            return False
    return True


def _pattern(condition: Mapping[str, Any], document: Document, combine: Any) -> bool:
    fields = condition.get("fields") or []
    pattern = str(condition.get("pattern") or "")
    return bool(combine(_like(pattern, str(at(document, field) or "")) for field in fields)) if pattern else True
