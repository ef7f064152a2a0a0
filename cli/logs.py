"""The controller's log: one line an event, as text for people or as JSON for machines.

A message is an event's name and key=value words; JSON gives them as fields.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime, timezone

_WORD = re.compile(r"([a-z_]+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S*)")
_EVENT = re.compile(r"[a-z][a-z-]*\Z")


class JsonLines(logging.Formatter):
    """{"time", "level", "event" or "message", and each key=value word as a field of its own}."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        message = record.getMessage()
        event, _, words = message.partition(" ")
        fields: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if _EVENT.match(event):
            fields |= {"event": event, **{key: _plain(value) for key, value in _WORD.findall(words)}}
        else:
            fields["message"] = message
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def start_logging(level: str, form: str = "text") -> None:
    """On standard error."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logging.basicConfig(level=level, handlers=[handler])


def _plain(value: str) -> str:
    """A quoted word (%r) without its quotes."""
    if value[:1] not in ("'", '"'):
        return value
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), value[1:-1])
