"""The spool: order, acknowledgement, bound, and a disk that refuses."""

from __future__ import annotations

from pathlib import Path

from bootstrap.spool import Record, Spool


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


def test_a_disk_that_refuses_loses_no_more_than_it_must(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append(1, 0, b"kept\n")
    spool._open_next = lambda: (_ for _ in ()).throw(OSError("no space"))  # type: ignore[method-assign]
    spool._segments[-1].size = spool._segment_bytes  # the next one needs a new segment
    spool.append(2, 0, b"lost\nlost\n")
    assert spool.take_lost() == 2
