"""docs/troubleshooting.md has every reason that the code can print, and no other."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from charts.reference_words import BEGIN, END, with_words
from tests.docs import pages, reasons
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
HELM = "values don't meet the specifications of the schema"
"""helm's own words, which come before ours."""


def patterns() -> list[str]:
    """What the page quotes: inline code of its tables' first column."""
    page = PAGE.read_text(encoding="utf-8")
    text = page.partition(BEGIN)[0] + page.partition(END)[2]
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    return [text for row in rows for text in re.findall(r"(?<!`)`((?:[^`]|(?<=; )`\w+`)+)`", row)]


def expression(pattern: str) -> re.Pattern[str]:
    """`…` stands for any text, or none."""
    return re.compile(".*".join(re.escape(part) for part in re.split(f"{reasons.HOLE}+", pattern)), re.DOTALL)


def chart_refusals() -> list[str]:
    """The texts that the chart's templates fail with."""
    templates = sorted((ROOT / "charts" / "podstrap" / "templates").glob("*.tpl"))
    text = "".join(one.read_text(encoding="utf-8") for one in templates)
    found = re.findall(r'fail \(?(?:printf )?"(?:\\n)*((?:[^"\\]|\\.)+)"', text)
    return [re.sub(r"%[sdv]", reasons.HOLE, one) for one in found]


COLLECTED = [*reasons.collected(), *(reasons.Reason(text, "charts") for text in chart_refusals())]


@pytest.mark.parametrize("reason", COLLECTED, ids=lambda one: f"{one.place} {one.text[:60]}")
def test_every_reason_has_an_entry(reason: reasons.Reason) -> None:
    asked = [one for one in patterns() if expression(one).fullmatch(reason.text)]
    assert asked, f"docs/troubleshooting.md has no entry for {reason.text!r} of {reason.place}: add its cause and cure"


def test_the_words_of_events_and_metrics_are_the_codes() -> None:
    assert with_words(PAGE.read_text(encoding="utf-8")) == PAGE.read_text(encoding="utf-8"), (
        "stale: make docs writes it"
    )


def test_no_entry_is_left_over() -> None:
    """Of the tables; an entry that no code can print is stale."""
    texts = [one.text for one in COLLECTED] + [HELM]
    quoted = patterns()
    assert len(quoted) > 200
    assert [one for one in quoted if not any(expression(one).fullmatch(text) for text in texts)] == []


def test_no_pattern_takes_everything() -> None:
    vague = [one for one in patterns() if len(re.findall(r"[A-Za-z]", one)) < 7]
    assert vague == []


def test_the_collector_follows_what_a_text_is_put_together_of(tmp_path: Path) -> None:
    for room in reasons.ROOMS:
        (tmp_path / room).mkdir()
    (tmp_path / "controller" / "one.py").write_text(
        textwrap.dedent(
            '''
            _TABLE = {"A": "of a table", "B": "also of it"}

            class OwnError(PodstrapError):
                """An error."""

            def _why(kind, name):
                if kind:
                    return f"because of {name}, really"
                text = "plainly " + ("very wrong" if name else "a bit wrong")
                return text

            def f(job, name):
                said = _TABLE.get(job)
                yield Diagnosis(1, f"{said} ({name})")
                log.warning("event-name key=%s", name)
                raise OwnError(_why(job, name), hint="not a reason of its own")
            '''
        )
    )
    assert {one.text for one in reasons.collected(tmp_path)} == {
        "of a table (…)", "also of it (…)", "event-name", "because of …, really", "plainly very wrong",
        "plainly a bit wrong",
    }  # fmt: skip


def test_parts_of_the_page_are_reached_from_its_top() -> None:
    headings = pages.anchors(PAGE)
    linked = {one.removeprefix("#") for one in pages.links(PAGE) if one.startswith("#")}
    assert headings - linked - {"troubleshooting"} == set()
