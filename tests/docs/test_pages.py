"""Nothing on the pages escapes: every block says how it is held true, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import ROOT

PAGES = pages.pages()


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_every_block_says_how_it_is_held_true(page: Path) -> None:
    for block in pages.blocks(page):
        assert block.kind, f"{block.place}: no `<!-- test: ... -->` stands above this block (see tests/docs/pages.py)"
        assert block.kind in (*pages.SHELL, *pages.YAML, "by", "none"), f"{block.place}: {block.kind} is unknown"
        if block.kind in pages.LANGUAGES:
            assert block.language == pages.LANGUAGES[block.kind], f"{block.place}: {block.language} is no {block.kind}"
        else:
            assert len(block.detail) > 8, f"{block.place}: why, or by which test?"


@pytest.mark.parametrize("block", pages.all_blocks("by"), ids=lambda block: block.place)
def test_a_test_that_holds_a_block_exists(block: pages.Block) -> None:
    assert_test_exists(block.detail, block.place)


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_no_code_hides_in_indentation(page: Path) -> None:
    """Four spaces after an empty line are a block too, and say nothing of how they are held: fences do."""
    lines = pages.prose(page).splitlines()
    found = [line for before, line in zip(["", *lines], lines, strict=False) if line.startswith("    ") and not before]
    assert [line for line in found if not re.match(r" +([-*]|\d+\.) ", line)] == []


def assert_test_exists(name: str, place: str) -> None:
    """`tests/room/test_file.py::test_name`, or a file alone."""
    file, _, function = name.partition("::")
    assert (ROOT / file).is_file(), f"{place}: there is no {file}"
    if function:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *(?:async )?def {re.escape(function)}\(", text, re.M), (
            f"{place}: {file} has no {function}"
        )


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in pages.links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith(("https://", "mailto:")), f"{pages.name_of(page)}: {link}"
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{pages.name_of(page)}: {link} leads nowhere"
        assert target == ROOT or ROOT in target.parents, f"{pages.name_of(page)}: {link} leads out of the repository"
        if anchor and target.suffix == ".md":
            assert anchor in pages.anchors(target), f"{pages.name_of(page)}: {link}: no such heading"


def test_every_guide_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in pages.links(index)}
    wanted = [one for one in (ROOT / "docs").rglob("*.md") if one != index and one.parent.name != "decisions"]
    missing = [pages.name_of(one) for one in wanted if one not in listed]
    assert missing == []


def test_the_parser_sees_unmarked_and_unclosed_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    page = tmp_path / "a.md"
    page.write_text("<!-- test: local -->\n\n```sh\na\n```\n\n```\nb\n```\n<!-- test: none: x -->\nword\n~~~\nc\n~~~\n")
    assert [(one.kind, one.text) for one in pages.blocks(page)] == [("local", "a\n"), ("", "b\n"), ("", "c\n")]
    page.write_text("```sh\na\n")
    with pytest.raises(ValueError, match="nothing closes"):
        pages.blocks(page)
