"""From the task's pipes to the spool and to the pod's own output, in whole lines.

A chunk of output is cut after its last newline; the rest waits for more. Each complete line loses everything before
its last carriage return (a progress bar's earlier states); a bar that has not ended its line shows its latest state
every few seconds, and so do several bars that are drawn over with the cursor (redraw). Escape sequences (colours) are
kept, or taken out where the settings say so. Secrets are masked once lines are whole. NULs and bytes that are no UTF-8
are replaced, so that the server stores them. A line longer than a megabyte is cut into pieces of a megabyte, never
inside a secret.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable

from bootstrap.masking import Masker
from bootstrap.redraw import UP, Block
from bootstrap.spool import Spool

OUT, ERR, PODSTRAP = 0, 1, 2
LONGEST_LINE = 1 << 20
PROGRESS_SECONDS = 5.0
STILL_SECONDS = 1.0
"""Lines that were drawn over are final when nothing went up to them for so long."""
_PREFIX = b"podstrap: "
_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")
"""Control sequences, strings (titles, links) and short escapes as ECMA-48 defines them."""
_KEPT_ERRORS = 8192
"""Bytes of the end of standard error that are remembered for a reason."""


class Console:
    """Where every line of the run goes. Safe to use from several threads."""

    def __init__(
        self,
        spool: Spool,
        masker: Masker,
        *,
        echo: int = 1,
        strip_ansi: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`echo` is the file descriptor of the pod's own output (kubectl logs); -1: none."""
        self._spool = spool
        self._masker = masker
        self._echo = echo
        self.strip_ansi = strip_ansi
        self._clock = clock
        self._lock = threading.Lock()
        self._error_tail = b""
        self.on_first_output: Callable[[float], None] | None = None
        """Called once with the time (seconds since the epoch) of the task's first output."""

    def tell(self, line: str) -> None:
        """One line of podstrap's own story (more when the text has newlines)."""
        lines = line.encode("utf-8", "replace").replace(b"\x00", b"").splitlines() or [b""]
        self._put(PODSTRAP, b"".join(_PREFIX + one + b"\n" for one in lines))

    def stream(self, which: int) -> StreamLines:
        """A feed for one of the task's pipes."""
        return StreamLines(self, which)

    def put_lines(self, which: int, data: bytes) -> None:
        """Whole lines of the task, as they came."""
        if self.on_first_output is not None:
            with self._lock:  # both pipes may be first
                first, self.on_first_output = self.on_first_output, None
            if first is not None:
                first(self._clock())
        self._put(which, data)

    def masked(self, data: bytes) -> bytes:
        """Without the secrets that are known so far."""
        return self._masker.data(data)

    @property
    def longest_secret(self) -> int:
        """Bytes at the end of an unfinished text that may be the beginning of a secret."""
        return self._masker.longest

    def last_errors(self, lines: int = 15) -> list[str]:
        """The end of the task's standard error: for the reason of a failure."""
        kept = self._masker.data(_ANSI.sub(b"", self._error_tail)).decode("utf-8", "replace")
        return [line for line in kept.splitlines() if line.strip()][-lines:]

    def _put(self, which: int, data: bytes) -> None:
        data = self._masker.data(data)
        with self._lock:  # echo and spool in the same order
            millis = int(self._clock() * 1000)
            if which == ERR:  # masked before it is cut: half a secret would not be found
                self._error_tail = (self._error_tail + data[-_KEPT_ERRORS:])[-_KEPT_ERRORS:]
            if self._echo >= 0:
                self._write_echo(data)
            self._spool.append(millis, which, data)

    def _write_echo(self, data: bytes) -> None:
        view = memoryview(data)
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(self._echo, view) :]


class StreamLines:
    """Puts one pipe's chunks together to whole lines."""

    def __init__(self, console: Console, which: int) -> None:
        self._console = console
        self._which = which
        self._rest = bytearray()
        self._shown_at = 0.0
        self._block: Block | None = None
        self._drawn_at = 0.0

    @property
    def drawing(self) -> bool:
        """Whether lines are held back because they may be drawn over: then `tick` is wanted every second."""
        return self._block is not None

    def tick(self) -> None:
        """Time has passed."""
        if self._block is not None and time.monotonic() - self._drawn_at >= STILL_SECONDS:
            self._leave_block()

    def feed(self, chunk: bytes) -> None:
        """Output as it was read from the pipe."""
        self.tick()
        if self._block is not None or (b"A" in chunk and UP.search(bytes(self._rest[-4:]) + chunk)):
            self._draw(chunk)
            return
        cut = chunk.rfind(b"\n") + 1
        if cut:
            self._emit(bytes(self._rest) + chunk[:cut])
            self._rest[:] = chunk[cut:]
        else:
            self._rest += chunk
        if self._rest:
            self._trim()

    def close(self) -> None:
        """The pipe ended: what is left is a line without newline."""
        self._leave_block()
        if self._rest:
            self._emit(bytes(self._rest) + b"\n")
            self._rest.clear()

    def _draw(self, chunk: bytes) -> None:
        now = time.monotonic()
        if self._block is None:
            self._block, self._shown_at, self._drawn_at = Block(), now, now
            chunk = bytes(self._rest) + chunk
            self._rest.clear()
        elif UP.search(chunk):
            self._drawn_at = now
        lines = self._block.feed(chunk)
        if now - self._shown_at >= PROGRESS_SECONDS:
            self._shown_at = now
            lines += self._block.states()
        if lines:
            self._emit(b"\n".join(lines) + b"\n")
        if self._block.size > LONGEST_LINE:
            self._leave_block()

    def _leave_block(self) -> None:
        if self._block is not None:
            lines, rest = self._block.leave()
            self._block = None
            self._rest[:] = rest
            if lines:
                self._emit(b"\n".join(lines) + b"\n")

    def _trim(self) -> None:
        """Bound what waits for a newline: old progress states go, an endless line is cut."""
        last = self._rest.rfind(b"\r", 0, len(self._rest) - 1)
        if last >= 0:
            now = time.monotonic()
            if now - self._shown_at >= PROGRESS_SECONDS:
                self._shown_at = now
                self._emit(_last_state(bytes(self._rest[: last + 1])) + b"\n")
            del self._rest[: last + 1]
        unsure = self._console.longest_secret
        while len(self._rest) >= LONGEST_LINE + unsure:
            masked = self._console.masked(bytes(self._rest))
            cut = min(LONGEST_LINE, len(masked) - unsure)
            self._rest[:] = masked[cut:]
            self._emit(masked[:cut] + b"\n")

    def _emit(self, lines: bytes) -> None:
        if self._console.strip_ansi and b"\x1b" in lines:  # before the masking: a colour may stand in a secret
            lines = _ANSI.sub(b"", lines)
        if b"\r" in lines:
            lines = b"\n".join(map(_shown, lines.replace(b"\r\n", b"\n").split(b"\n")))
        if b"\x00" in lines:
            lines = lines.replace(b"\x00", b"\xef\xbf\xbd")
        if len(lines) > LONGEST_LINE + 1:
            for piece in _pieces(self._console.masked(lines)):
                self._console.put_lines(self._which, piece)
        else:
            self._console.put_lines(self._which, lines)


def _shown(line: bytes) -> bytes:
    """What a terminal shows of a line that went back to its beginning: what was written last."""
    return line.rstrip(b"\r").rpartition(b"\r")[2] if b"\r" in line else line


def _last_state(text: bytes) -> bytes:
    """A progress bar's newest state that is not empty."""
    states = [state for state in text.split(b"\r") if state.strip()]
    return states[-1] if states else b""


def _pieces(lines: bytes) -> list[bytes]:
    """Chunks of at most about a megabyte, cut at line ends where there are any."""
    pieces, at = [], 0
    while at < len(lines):
        if len(lines) - at <= LONGEST_LINE:
            pieces.append(lines[at:])
            break
        cut = lines.rfind(b"\n", at, at + LONGEST_LINE) + 1
        if cut > at:
            pieces.append(lines[at:cut])
            at = cut
        else:
            pieces.append(lines[at : at + LONGEST_LINE] + b"\n")
            at += LONGEST_LINE
    return pieces
