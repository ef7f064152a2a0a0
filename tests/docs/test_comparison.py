"""docs/comparison.md says only what a test or benchmark shows, and of ClearML's glue what its source says."""

from __future__ import annotations

import inspect
import re
from importlib import metadata

import pytest
from clearml_agent.glue import k8s

from tests.docs.pages import ROOT
from tests.docs.test_pages import assert_test_exists

PAGE = ROOT / "docs" / "comparison.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "`" in line]
GLUE = {
    "one `kubectl` process for each step": r'KUBECTL_APPLY_CMD = "kubectl apply',
    "`apt-get` and `pip install clearml-agent`": r"pip install clearml-agent",
    "`k8s_scheduler`": r'K8S_PENDING_QUEUE = "k8s_scheduler"',
    "ends with `exit 0`": r"; exit 0",
    "base64, in the pod's command": r"base64 --decode >> ~/clearml\.conf",
    "`--ports-mode`": r"ports_mode",
    "limits and template for all together": r"max_pods_limit=None",
}
"""What the page says of the glue -> where its source says so."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[:50])
def test_each_row_names_what_holds_it(row: str) -> None:
    held = row.rstrip(" |").rpartition(" | ")[2]
    named = re.findall(r"`([^`]+)`", held)
    assert named, row
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for one in named:
        if one.startswith("make "):
            assert f"\n{one.removeprefix('make ')}:" in makefile, f"{one} is no target"
        else:
            assert_test_exists(one, row[:60])


@pytest.mark.parametrize("said", GLUE)
def test_the_glue_is_as_the_page_says(said: str) -> None:
    assert said in PAGE.read_text(encoding="utf-8")
    assert re.search(GLUE[said], inspect.getsource(k8s))
    assert f"clearml-agent {metadata.version('clearml-agent')}" in PAGE.read_text(encoding="utf-8")


def test_figures_are_the_readmes() -> None:
    """A figure that is measured anew is changed in both."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "`make bench-" in line]
    figures = [one for row in rows for one in re.findall(r"\d[\d,.]* (?:ms a task|s\b|MB|torn)", row)]
    assert len(figures) > 5
    for figure in figures:
        number = figure.partition(" ")[0]
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d])", readme), figure
