"""The console's lines on disk until the server has acknowledged them.

Appended segment files in the pod's work folder: a record is one chunk of whole lines with the time it was written
and its stream. The reader takes records in order and acknowledges them; a segment that is acknowledged whole is
removed. Memory holds no lines, only positions. Beyond the bound the oldest segment is given up and counted, so that
the console can say how much is missing. Where the disk refuses (full, read-only), the newest records are counted as
lost instead: the task goes on.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

_HEAD = struct.Struct("<QBI")
"""Milliseconds since the epoch, stream (0 out, 1 err, 2 podstrap), payload bytes."""
SEGMENT_BYTES = 4 << 20


@dataclass(frozen=True)
class Record:
    """A chunk of whole lines."""

    millis: int
    stream: int
    data: bytes


@dataclass
class _Segment:
    path: Path
    size: int = 0
    lines: int = 0


class Spool:
    """One writer side (any threads), one reader (the reporter)."""

    def __init__(self, folder: Path, *, max_bytes: int = 512 << 20, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._segments: deque[_Segment] = deque()
        self._number = 0
        self._writer = -1
        self._total = 0
        self._offset = 0
        """How far the first segment is acknowledged."""
        self._last_millis = 0
        self.lost_lines = 0
        """Lines given up since the last `take_lost`."""
        self.ready = threading.Event()
        """Set while there may be something to read."""

    def append(self, millis: int, stream: int, data: bytes) -> None:
        """Add one chunk of whole lines. Never raises: what cannot be kept is counted."""
        with self._lock:
            # The server orders a console by time and knows no finer order: each record gets a time of its own.
            self._last_millis = max(millis, self._last_millis + 1)
            try:
                self._write(_HEAD.pack(self._last_millis, stream, len(data)) + data, data.count(b"\n"))
            except OSError:
                self.lost_lines += data.count(b"\n")
        self.ready.set()

    def read(self, max_bytes: int) -> tuple[list[Record], int]:
        """The next records, up to about `max_bytes`, and the position to acknowledge; ([], 0) when there is none."""
        with self._lock:
            if not self._segments:
                return [], 0
            segment, offset = self._segments[0], self._offset
            end = segment.size
        try:
            with segment.path.open("rb") as file:
                file.seek(offset)
                data = file.read(min(end - offset, max(max_bytes, _HEAD.size)))
                records, used = _parse(data)
                if not records and end > offset:  # one record longer than max_bytes
                    file.seek(offset)
                    records, used = _parse(file.read(end - offset))
        except OSError:
            return [], 0
        return records, used

    def acknowledge(self, position: int) -> None:
        """The server has everything up to here: forget it."""
        with self._lock:
            if not self._segments:
                return
            self._offset += position
            first = self._segments[0]
            if self._offset >= first.size and (len(self._segments) > 1 or first.size >= self._segment_bytes):
                self._remove_first()
            if not self._segments or (len(self._segments) == 1 and self._offset >= self._segments[0].size):
                self.ready.clear()

    def empty(self) -> bool:
        """Whether everything was acknowledged."""
        with self._lock:
            return not self._segments or (len(self._segments) == 1 and self._offset >= self._segments[0].size)

    def take_lost(self) -> int:
        """How many lines were given up since the last call."""
        with self._lock:
            lost, self.lost_lines = self.lost_lines, 0
            return lost

    def _write(self, record: bytes, lines: int) -> None:
        if not self._segments or self._segments[-1].size >= self._segment_bytes or self._writer < 0:
            self._open_next()
        segment = self._segments[-1]
        written = os.write(self._writer, record)
        if written != len(record):
            with contextlib.suppress(OSError):
                os.ftruncate(self._writer, segment.size)
                os.lseek(self._writer, segment.size, os.SEEK_SET)
            raise OSError("short write")
        segment.size += written
        segment.lines += lines
        self._total += written
        while self._total > self._max_bytes and len(self._segments) > 1:
            self.lost_lines += self._segments[0].lines
            self._remove_first()

    def _open_next(self) -> None:
        path = self._folder / f"{self._number:08d}"
        writer = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        if self._writer >= 0:
            os.close(self._writer)
        self._writer = writer
        self._number += 1
        self._segments.append(_Segment(path))

    def _remove_first(self) -> None:
        segment = self._segments.popleft()
        self._total -= segment.size
        self._offset = 0
        if not self._segments and self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        with contextlib.suppress(OSError):
            segment.path.unlink()


def _parse(data: bytes) -> tuple[list[Record], int]:
    records, at = [], 0
    while at + _HEAD.size <= len(data):
        millis, stream, length = _HEAD.unpack_from(data, at)
        if at + _HEAD.size + length > len(data):
            break
        start = at + _HEAD.size
        records.append(Record(millis, stream, data[start : start + length]))
        at = start + length
    return records, at
