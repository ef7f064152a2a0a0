"""The spool: order, acknowledgement, bound, and a disk that refuses."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.spool import HELD_BYTES, Record, Spool


def drain(spool: Spool, max_bytes: int = 1000) -> list[Record]:
    found = []
    while True:
        records, position = spool.read(max_bytes)
        if not records:
            return found
        found += records
        spool.acknowledge(position)


def test_records_come_out_in_order_over_many_segments(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=500)
    for n in range(200):
        spool.append(n, n % 2, b"line %d\n" % n)
    found = drain(spool, 100)
    assert [record.data for record in found] == [b"line %d\n" % n for n in range(200)]
    assert [record.stream for record in found] == [n % 2 for n in range(200)]
    assert spool.empty()
    spool.append(1, 0, b"later\n")
    assert [record.data for record in drain(spool)] == [b"later\n"]
    assert len(list(tmp_path.iterdir())) <= 2, "acknowledged segments are removed"


def test_what_was_not_acknowledged_is_read_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(1, 0, b"a\n")
    assert spool.read(100)[0] == spool.read(100)[0]
    assert not spool.empty()


def test_every_record_has_a_time_of_its_own_so_that_the_server_keeps_the_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for millis in (5, 5, 3, 5, 10):
        spool.append(millis, 0, b"x\n")
    assert [record.millis for record in drain(spool)] == [5, 6, 7, 8, 10]


def test_beyond_the_bound_the_oldest_goes_and_is_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=2000, segment_bytes=500)
    for n in range(300):
        spool.append(n, 0, b"line %03d\n" % n)
    kept = drain(spool)
    lost = spool.take_lost()
    assert lost == 300 - len(kept) > 0
    assert [record.data for record in kept] == [b"line %03d\n" % n for n in range(lost, 300)]
    assert spool.take_lost() == 0


def test_a_record_longer_than_the_batch_still_comes(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(1, 0, b"y" * 10_000 + b"\n")
    assert len(drain(spool, 100)[0].data) == 10_001


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing_that_memory_holds_and_counts_the_rest(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool")
    (small_disk / "fill").write_bytes(b"x" * 40_000)
    lines = [b"%06d %s\n" % (n, b"y" * 993) for n in range(HELD_BYTES // 1000 + 200)]
    for n, line in enumerate(lines):
        spool.append(n, 0, line)
    (small_disk / "fill").unlink()
    spool.append(10**6, 0, b"there is room again\n")
    found = [record.data for record in drain(spool, 10_000)]
    lost = spool.take_lost()
    assert found == [*lines[: len(lines) - lost], b"there is room again\n"]
    assert 0 < lost < 300
    assert spool.empty()


def test_what_is_given_up_while_it_is_being_sent_neither_counts_as_lost_nor_shifts_what_follows(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=2000, segment_bytes=500)
    for n in range(10):
        spool.append(n, 0, b"line %03d\n" % n)
    sent, mark = spool.read(100)  # under way for the whole of an outage
    for n in range(10, 300):
        spool.append(n, 0, b"line %03d\n" % n)
    spool.acknowledge(mark)
    kept = drain(spool)
    lost = spool.take_lost()
    assert len(sent) + lost + len(kept) == 300
    assert [record.data for record in kept] == [b"line %03d\n" % n for n in range(300 - len(kept), 300)]


@pytest.mark.parametrize("harm", ["removed", "damaged"])
def test_a_spool_that_the_task_harms_costs_lines_but_never_the_end(tmp_path: Path, harm: str) -> None:
    spool = Spool(tmp_path, segment_bytes=500)
    for n in range(100):
        spool.append(n, 0, b"line %03d\n" % n)
    first = min(tmp_path.iterdir())
    if harm == "removed":
        first.unlink()
    else:
        first.write_bytes(b"\xff" * first.stat().st_size)
    kept = drain(spool)
    assert kept[-1].data == b"line 099\n"
    assert len(kept) + spool.take_lost() == 100
    assert spool.empty()
