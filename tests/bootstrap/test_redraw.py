"""Several bars at once: their last states are shown, and no ordinary line among them is lost or doubled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap import console
from tests.bootstrap.test_console import cut, through


def rich(rows: list[str], drawn: int) -> str:
    """How rich 15 draws its live rows over `drawn` earlier ones (seen in its output)."""
    up = "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (drawn - 1) if drawn else ""
    return up + "\n".join(rows)


def frames(count: int) -> list[str]:
    return [rich([f"one {n}%", f"two {n}%", f"three {n}%"], 3 if n else 0) for n in range(count)]


@pytest.mark.parametrize("cuts", [[], list(range(0, 100_000, 61)), list(range(0, 100_000, 4096))])
def test_rich_bars_show_their_last_state(cuts: list[int]) -> None:
    data = ("before\n" + "".join(frames(200)) + "\nafter\n").encode()
    lines = through(cut(data, cuts) if cuts else [data]).decode().splitlines()
    assert [line for line in lines if "199%" in line] == ["one 199%", "two 199%", "three 199%"]
    assert lines[0] == "before" and lines[-1] == "after"
    assert len(lines) < 12


def test_a_line_printed_above_the_bars_stands_once() -> None:
    middle = rich(["hello", "one 5%", "two 5%"], 2)
    data = rich(["one 1%", "two 1%"], 0) + rich(["one 2%", "two 2%"], 2) + middle + rich(["one 6%", "two 6%"], 2) + "\n"
    assert through([data.encode()]).decode().splitlines() == ["hello", "one 6%", "two 6%"]


def test_nested_tqdm_bars_show_their_last_state() -> None:
    """Seen with tqdm 4.67: the inner bar is drawn a line below, then the cursor goes up again."""
    data = "\router 0%"
    for outer in (50, 100):
        data += "".join(f"\n\rinner {n}%\x1b[A" for n in range(0, 101, 10)) + f"\router {outer}%"
    lines = through([piece.encode() for piece in (data, "\n", "\n", "after\n")]).decode().splitlines()
    assert lines == ["outer 100%", "inner 100%", "after"]


def test_the_state_is_shown_at_intervals_and_what_stands_still_is_final(monkeypatch) -> None:
    monkeypatch.setattr(console, "PROGRESS_SECONDS", 0.0)
    pieces = [frame.encode() for frame in frames(3)]
    lines = through([*pieces, b"\nafter\n"]).decode().splitlines()
    assert "one 1%" in lines and "one 2%" in lines
    assert lines.count("three 2%") == 1, "the last state is not shown again"
    monkeypatch.setattr(console, "STILL_SECONDS", 0.0)
    assert through([*pieces, b"\n", b"after\n"]).decode().splitlines()[-1] == "after"


@given(
    st.lists(st.binary(max_size=30).filter(lambda b: not set(b"\n\r\x00\x1b") & set(b))), st.lists(st.integers(0, 2000))
)
def test_ordinary_lines_after_bars_come_out_as_they_went_in(lines: list[bytes], places: list[int]) -> None:
    bars = b"a\nb\r\x1b[2K\x1b[1A\x1b[2Ka\nb\n"
    data = b"".join(line + b"\n" for line in lines)
    assert through([bars, *cut(data, places)]) == b"a\nb\n" + data


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_whatever_is_drawn_ends_in_whole_lines(data: bytes, places: list[int]) -> None:
    out = through(cut(b"\x1b[3A" + data, places))
    assert out == b"" or out.endswith(b"\n")
