"""Blocks of lines that are drawn again and again: several bars at once, as rich and tqdm draw them.

They go up with the cursor (ESC [ n A) and write over what stands there. From the first such step on, the lines that
may still be written over are kept here as a terminal would show them; a line that has scrolled beyond the block's
height is final. Only what bars use is understood: line feed, carriage return, cursor up and down, erase in line; what
is written after a step or a return replaces the row.
"""

from __future__ import annotations

import re

UP = re.compile(rb"\x1b\[\d*A")
_TOKENS = re.compile(rb"\n|\r|\x1b\[\d*[ABK]|(?:[^\n\r\x1b]|\x1b(?!\[\d*[ABK]))+")
_UNFINISHED = re.compile(rb"\x1b(?:\[\d*)?\Z")
_TALLEST = 50


class Block:
    """The rows that may still change."""

    def __init__(self) -> None:
        self._rows: list[bytearray] = [bytearray()]
        self._ended = [False]
        """Whether a row's line feed came."""
        self._shown = [b""]
        """What of each row was given out last."""
        self._row = 0
        self._height = 1
        self._replace = False
        self._open = b""

    def feed(self, text: bytes) -> list[bytes]:
        """Take output; the lines that nothing will write over any more."""
        text = self._open + text
        cut = _UNFINISHED.search(text)
        self._open = cut[0] if cut else b""
        for token in _TOKENS.findall(text[: len(text) - len(self._open)]):
            self._take(token)
        return self._scroll()

    def states(self) -> list[bytes]:
        """The rows as they are, without those that were given out like that before."""
        found = []
        for number, row in enumerate(map(bytes, self._rows)):
            if row.strip() and row != self._shown[number]:
                found.append(row)
                self._shown[number] = row
        return found

    def leave(self) -> tuple[list[bytes], bytes]:
        """The block is over: its lines, and the last one's text when it has no line feed yet."""
        last = len(self._rows) - 1
        unfinished = not self._ended[last] and self._row == last
        lines = self._final(last if unfinished else last + 1)
        rest = bytes(self._rows[last]) + self._open if unfinished else self._open
        return lines, rest

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(map(len, self._rows))

    def _take(self, token: bytes) -> None:
        if token == b"\n":
            self._ended[self._row] = True
            self._down(1)
        elif token == b"\r":
            self._replace = True
        elif token[:2] == b"\x1b[" and token[-1:] in b"ABK" and (token[2:-1].isdigit() or len(token) == 3):
            self._step(token[-1:], int(token[2:-1] or b"1"))
        else:
            if self._replace:
                self._rows[self._row].clear()
                self._replace = False
            self._rows[self._row] += token

    def _step(self, kind: bytes, count: int) -> None:
        if kind == b"K":
            if count == 2 or self._replace:
                self._rows[self._row].clear()
            return
        self._replace = True
        if kind == b"A":
            self._height = min(max(self._height, count + 1, len(self._rows) - self._row + count), _TALLEST)
            self._row = max(0, self._row - count)
        else:
            self._down(count)

    def _down(self, count: int) -> None:
        for _ in range(min(count, _TALLEST)):
            self._row += 1
            if self._row == len(self._rows):
                self._rows.append(bytearray())
                self._ended.append(False)
                self._shown.append(b"")
        self._replace = bool(self._rows[self._row])

    def _scroll(self) -> list[bytes]:
        """Give out what is above the block."""
        beyond = max(0, min(len(self._rows) - self._height, self._row))
        lines = self._final(beyond)
        for kept in (self._rows, self._ended, self._shown):
            del kept[:beyond]
        self._row -= beyond
        return lines

    def _final(self, count: int) -> list[bytes]:
        """The first rows for good: an empty one is a line of its own only where nothing else ever stood."""
        rows = zip(self._rows[:count], self._shown[:count], self._ended[:count], strict=True)
        return [bytes(row) for row, shown, ended in rows if (row and row != shown) or (ended and not shown)]
