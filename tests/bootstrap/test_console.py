"""From a pipe's chunks to whole, masked lines on disk: nothing lost, torn or doubled."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.console import ERR, LONGEST_LINE, OUT, Console
from bootstrap.masking import Masker
from bootstrap.spool import Spool
from tests import support


class Kept(Spool):
    """A spool that also keeps what it was given, for comparison."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []

    def append(self, millis: int, stream: int, data: bytes) -> None:
        self.records.append((stream, data))

    def text(self, stream: int = OUT) -> bytes:
        return b"".join(data for which, data in self.records if which == stream)


def through(chunks: list[bytes], secrets: tuple[str, ...] = (), strip_ansi: bool = False) -> bytes:
    spool = Kept()
    lines = Console(spool, Masker(secrets), echo=-1, strip_ansi=strip_ansi).stream(OUT)
    for chunk in chunks:
        lines.feed(chunk)
    lines.close()
    assert all(data.endswith(b"\n") for _, data in spool.records), "only whole lines are kept"
    return spool.text()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]


@given(st.lists(st.binary().filter(lambda b: not set(b"\n\r\x00") & set(b))), st.lists(st.integers(0, 10000)))
def test_lines_come_out_as_they_went_in_however_they_were_cut(lines, places) -> None:
    data = b"".join(line + b"\n" for line in lines)
    assert through(cut(data, places)) == data


@given(st.lists(st.integers(0, 10000)))
def test_a_secret_split_over_writes_is_masked(places) -> None:
    data = b"before s3cr3t-token after\n" * 3
    masked = through(cut(data, places), ("s3cr3t-token", "s3cr"))
    assert masked == b"before ******** after\n" * 3


def test_a_line_without_newline_is_whole_at_the_end() -> None:
    assert through([b"no newline"]) == b"no newline\n"


def test_progress_bars_collapse_to_their_last_state() -> None:
    assert through([b"10%\r50%\r100%\n", b"done\r\n"]) == b"100%\ndone\n"
    states = b"".join(b"%d%%\r" % n for n in range(1000))
    assert through([states, b"finished\n"]).splitlines()[-1] == b"finished"
    assert len(through([states, b"finished\n"])) < 100


COLOURS = b"\x1b[1;31mred\x1b[0m \x1b]8;;https://example.org\x1b\\link\x1b]8;;\x07 \x1b(B\x1b[2K\x1b=end\n"


def test_escape_sequences_are_kept_or_taken_out_as_the_settings_say() -> None:
    assert through([COLOURS]) == COLOURS
    assert through([COLOURS], strip_ansi=True) == b"red link end\n"
    assert through([b"hush\x1b[1m-hush\n"], ("hush-hush",), strip_ansi=True) == b"********\n"
    assert through([b"\x1b", b"[3", b"2mgreen\x1b[", b"m\n"], strip_ansi=True) == b"green\n"


@given(st.binary())
def test_taking_escape_sequences_out_takes_no_line_and_no_ordinary_text(data: bytes) -> None:
    plain = data.replace(b"\x1b", b"").replace(b"\r", b"").replace(b"\x00", b"") + b"\n"
    assert through([plain], strip_ansi=True) == plain
    odd = data.replace(b"\r", b"").replace(b"\x00", b"") + b"\n"
    assert through([odd], strip_ansi=True).count(b"\n") == odd.count(b"\n")


def test_nul_and_binary_bytes_are_survived() -> None:
    assert through([b"a\x00b\xff\xfe\n"]) == b"a\xef\xbf\xbdb\xff\xfe\n"


def test_an_endless_line_is_cut_and_memory_stays_bounded() -> None:
    length = 10 * LONGEST_LINE + 17
    out = through([b"x" * 65536] * (length // 65536) + [b"x" * (length % 65536), b"\nafter\n"])
    assert out.replace(b"\n", b"") == b"x" * length + b"after"
    assert max(len(line) for line in out.splitlines()) <= LONGEST_LINE


def test_a_long_line_beside_a_progress_bar_costs_no_time() -> None:
    began = time.process_time()
    assert through([b"x" * 900_000 + b"\n", b"1%\r2%\r\n"] * 3).count(b"x") == 2_700_000
    assert time.process_time() - began < 1


@pytest.mark.parametrize("ending", [b"", b"\n"])
@pytest.mark.parametrize("place", range(-14, 3, 2))
def test_a_long_line_is_not_cut_inside_a_secret(place: int, ending: bytes) -> None:
    secret = b"s3cr3t-token"
    line = b"x" * (LONGEST_LINE + place) + secret + b"y" * LONGEST_LINE + ending
    out = through(cut(line, list(range(0, len(line), 65536))), (secret.decode(),))
    assert b"tok" not in out and b"s3c" not in out
    whole = through([line], (secret.decode(),))
    assert b"tok" not in whole and b"s3c" not in whole


def test_both_pipes_first_at_once_is_one_first_output() -> None:
    console = Console(Kept(), Masker(), echo=-1)
    firsts: list[float] = []
    console.on_first_output = firsts.append
    ready = threading.Barrier(2)

    def put(which: int) -> None:
        ready.wait()
        console.put_lines(which, b"line\n")

    threads = [support.InBackground(lambda which=which: put(which)) for which in (OUT, ERR)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.check()
    assert len(firsts) == 1


def test_a_traceback_that_came_line_by_line_is_remembered_whole_and_no_half_secret() -> None:
    console = Console(Kept(), Masker(["hush-hush"]), echo=-1)
    for n in range(12):
        console.put_lines(ERR, b"frame %d\n" % n)
    assert len(console.last_errors()) == 12
    for length in range(8180, 8200):
        console.put_lines(ERR, b"hush-hush" + b"z" * (length - 9) + b"\n")
        assert "ush" not in "".join(console.last_errors())


def test_the_end_of_standard_error_is_remembered_masked() -> None:
    console = Console(Kept(), Masker(["hush-hush"]), echo=-1)
    for n in range(100):
        console.put_lines(ERR, b"error %d hush-hush\n" % n)
    assert console.last_errors(2) == ["error 98 ********", "error 99 ********"]


def test_the_pods_own_output_shows_the_same(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY)
    console = Console(Spool(tmp_path / "spool"), Masker(), echo=descriptor)
    console.tell("two\nlines")
    console.put_lines(OUT, b"a line\n")
    os.close(descriptor)
    assert (tmp_path / "out").read_bytes() == b"podstrap: two\npodstrap: lines\na line\n"
