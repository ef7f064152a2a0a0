"""The console's lines on disk until the server has acknowledged them.

Appended segment files in the pod's work folder: a record is one chunk of whole lines with the time it was written
and its stream. The reader takes records in order and acknowledges them; a segment that is acknowledged whole is
removed. Memory holds no lines, only positions. Beyond the bound the oldest segment is given up and counted, so that
the console can say how much is missing. While the disk refuses (full, read-only), a few megabytes are held in memory:
the lines that say "no space left on device" are the ones that matter. What does not fit there, and what the task
itself removed or damaged (its files are within its reach), is counted as lost: the run goes on.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("<QBI")
"""Milliseconds since the epoch, stream (0 out, 1 err, 2 podstrap), payload bytes."""
SEGMENT_BYTES = 4 << 20
HELD_BYTES = 4 << 20
"""What memory holds at most while the disk refuses."""


@dataclass(frozen=True)
class Record:
    """A chunk of whole lines."""

    millis: int
    stream: int
    data: bytes


@dataclass(eq=False)
class _Segment:
    path: Path | None
    """None: held in memory."""
    size: int = 0
    lines: int = 0
    """Not acknowledged yet."""
    held: bytearray = field(default_factory=bytearray)

    def read(self, start: int, length: int) -> bytes:
        if self.path is None:
            return bytes(self.held[start : start + length])
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(length)


@dataclass(frozen=True)
class Mark:
    """How far a reading came: what `acknowledge` takes."""

    segment: _Segment
    offset: int
    lines: int


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
        """The last segment's file, while it can be written."""
        self._total = 0
        self._held = 0
        self._offset = 0
        """How far the first segment is acknowledged."""
        self._last_millis = 0
        self._lost_lines = 0
        self.ready = threading.Event()
        """Set while there may be something to read."""

    def append(self, millis: int, stream: int, data: bytes) -> None:
        """Add one chunk of whole lines. Never raises: what cannot be kept is counted."""
        with self._lock:
            # The server orders a console by time and knows no finer order: each record gets a time of its own.
            self._last_millis = max(millis, self._last_millis + 1)
            record, lines = _HEAD.pack(self._last_millis, stream, len(data)) + data, data.count(b"\n")
            try:
                self._write(record, lines)
            except OSError:
                self._hold(record, lines)
        self.ready.set()

    def read(self, max_bytes: int) -> tuple[list[Record], Mark | None]:
        """The next records, up to about `max_bytes`, and the mark to acknowledge; ([], None) when there is none."""
        while True:
            with self._lock:
                if self._is_empty():
                    return [], None
                segment, offset = self._segments[0], self._offset
                end = segment.size
            records: list[Record] = []
            used = 0
            with contextlib.suppress(OSError):
                records, used = _parse(segment.read(offset, min(end - offset, max(max_bytes, _HEAD.size))))
                if not records:  # one record longer than max_bytes
                    records, used = _parse(segment.read(offset, end - offset))
            if records:
                lines = sum(record.data.count(b"\n") for record in records)
                return records, Mark(segment, offset + used, lines)
            with self._lock:  # removed or damaged by somebody else
                if self._segments and self._segments[0] is segment:
                    self._give_up_first()

    def acknowledge(self, mark: Mark | None) -> None:
        """The server has everything up to here: forget it."""
        with self._lock:
            if mark is None:
                return
            if not self._segments or self._segments[0] is not mark.segment:
                self._lost_lines -= mark.lines  # given up while it was under way: it arrived after all
                return
            self._offset = mark.offset
            mark.segment.lines -= mark.lines
            if self._offset >= mark.segment.size and (
                len(self._segments) > 1 or mark.segment.size >= self._segment_bytes or mark.segment.path is None
            ):
                self._remove_first()
            if self._is_empty():
                self.ready.clear()

    def empty(self) -> bool:
        """Whether everything was acknowledged."""
        with self._lock:
            return self._is_empty()

    def take_lost(self) -> int:
        """How many lines were given up since the last call."""
        with self._lock:
            lost = max(0, self._lost_lines)
            self._lost_lines -= lost
            return lost

    def _is_empty(self) -> bool:
        while len(self._segments) > 1 and self._offset >= self._segments[0].size:
            self._remove_first()
        return not self._segments or self._offset >= self._segments[0].size

    def _write(self, record: bytes, lines: int) -> None:
        if self._writer < 0 or self._segments[-1].size >= self._segment_bytes:
            self._open_next()
        segment = self._segments[-1]
        written = 0
        try:
            written = os.write(self._writer, record)
            if written != len(record):
                raise OSError("short write")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._writer, segment.size)
            self._close_writer()  # what comes next stands behind it, in memory or in another file
            if segment.size == 0:
                self._segments.pop()
                if segment.path is not None:
                    segment.path.unlink(missing_ok=True)
            raise
        segment.size += written
        segment.lines += lines
        self._total += written
        while self._total > self._max_bytes and len(self._segments) > 1:
            self._give_up_first()

    def _open_next(self) -> None:
        path = self._folder / f"{self._number:08d}"
        self._close_writer()
        self._writer = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND, 0o600)
        self._number += 1
        self._segments.append(_Segment(path))

    def _hold(self, record: bytes, lines: int) -> None:
        if self._held + len(record) > HELD_BYTES:
            self._lost_lines += lines
            return
        if not self._segments or self._segments[-1].path is not None:
            self._segments.append(_Segment(None))
        segment = self._segments[-1]
        segment.held += record
        segment.size += len(record)
        segment.lines += lines
        self._total += len(record)
        self._held += len(record)

    def _close_writer(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
        self._writer = -1

    def _give_up_first(self) -> None:
        self._lost_lines += self._segments[0].lines
        self._remove_first()

    def _remove_first(self) -> None:
        segment = self._segments.popleft()
        self._total -= segment.size
        self._held -= len(segment.held)
        self._offset = 0
        if not self._segments:
            self._close_writer()
        if segment.path is not None:
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
