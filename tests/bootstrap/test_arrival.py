"""The start-up timeline before bootstrap: from the times of the node's files, missing ones and foreign ones too."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bootstrap import arrival
from bootstrap.settings import PodSettings
from bootstrap.timeline import Timeline

QUEUED, CREATED, STARTED = 1000.0, 1002.0, 1010.0


def node(folder: Path, **at: float) -> arrival.Places:
    """The files of a pod, changed at these moments; those that are not named are not there."""
    places = arrival.Places(folder / "work", folder / "termination", folder / "resolv.conf", folder / "podstrap")
    places.folder.mkdir()
    for name, path in (("resolv", places.resolv_conf), ("termination", places.termination_log)):
        if name in at:
            path.touch()
            os.utime(path, (at[name], at[name]))
    if "copied" in at:
        file = places.folder / ".copied.json"
        file.write_text(json.dumps({"seconds": 1.5, "bytes": 9}))
        os.utime(file, (at["copied"], at["copied"]))
    if "work" in at:
        places.work.mkdir()
        os.utime(places.work, (at["work"], at["work"]))
    return places


def phases(places: arrival.Places) -> dict[str, float]:
    return dict(arrival.phases(places, CREATED, STARTED))


def test_each_phase_ends_where_the_next_begins(tmp_path: Path) -> None:
    found = phases(node(tmp_path, work=1003, resolv=1003.5, termination=1009))
    assert found == {"scheduled": 1, "sandbox": 0.5, "image": 5.5, "container": 1}
    assert sum(found.values()) == STARTED - CREATED


def test_a_copy_stands_between_sandbox_and_image(tmp_path: Path) -> None:
    found = phases(node(tmp_path, work=1003, resolv=1004, copied=1007, termination=1008))
    assert found == {"scheduled": 1, "sandbox": 1, "bootstrap image": 1.5, "copy": 1.5, "image": 1, "container": 2}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, {"pod": 8}),
        ({"work": 1011}, {"pod": 8}),  # made by somebody after us
        ({"work": 1003}, {"scheduled": 1, "container": 7}),
        # This machine's own file, older than the pod; a log of another container, younger than our exec.
        ({"work": 1003, "resolv": 5, "termination": 1020}, {"scheduled": 1, "container": 7}),
        ({"work": 1001, "termination": 1009}, {"scheduled": 0, "image": 8, "container": 1}),  # clocks apart
    ],
)
def test_files_that_cannot_be_trusted_make_their_phase_a_part_of_the_next(
    tmp_path: Path, files: dict[str, float], expected: dict[str, float]
) -> None:
    assert phases(node(tmp_path, **files)) == expected


def test_a_damaged_record_of_the_copy_breaks_nothing(tmp_path: Path) -> None:
    places = node(tmp_path, work=1003, resolv=1004, copied=1007)
    (places.folder / ".copied.json").write_text("{")
    os.utime(places.folder / ".copied.json", (1007, 1007))
    assert phases(places) == {"scheduled": 1, "sandbox": 1, "copy": 3, "container": 3}


def test_the_whole_line_begins_in_the_queue_and_a_jobs_second_pod_tells_only_its_own(tmp_path: Path) -> None:
    settings = PodSettings("t", "q", queued_at=QUEUED, created_at=CREATED)
    line = Timeline(settings, STARTED, node(tmp_path, work=1003, termination=1009))
    assert line.sentence().startswith("queued 2.00 s, scheduled 1.00 s, image 6.00 s, container 1.00 s, start ")
    line.not_the_first_pod()
    assert line.sentence().startswith("image 6.00 s, container 1.00 s, start ")
    assert list(json.loads(line.as_json()))[:2] == ["image", "container"]


def test_all_phases_together_are_the_whole_time_where_two_ran_side_by_side(tmp_path: Path) -> None:
    moments = iter([1011.0, 1012.0, 1017.0, 1018.0])
    line = Timeline(PodSettings("t", "q", created_at=CREATED), STARTED, node(tmp_path), clock=lambda: next(moments))
    line.lap("claim")
    line.side_by_side({"repository": 2.0, "environment": 4.0})
    line.lap("prepare")
    assert line.first_line(1020.0) == 10
    assert json.loads(line.as_json()) == {
        "pod": 8, "start": 1, "claim": 1, "repository": 2, "environment": 4, "prepare": 2, "first line": 2,
    }  # fmt: skip
    assert 8 + 1 + 1 + max(2, 4) + 2 + 2 == 1020 - CREATED
