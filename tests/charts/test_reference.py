"""The reference pages are what the code says, and leave nothing out."""

from __future__ import annotations

import json
import re

import pytest

from charts import reference
from controller.settings import Settings
from controller.telemetry_metrics import METRICS
from protocol import environment

PAGES = reference.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_written_from_the_code_as_it_is(name: str) -> None:
    assert (reference.DOCS / name).read_text() == PAGES[name], "stale: make docs writes it"


def test_every_setting_stands_there_with_type_default_and_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*) \|$", PAGES["settings.md"], re.M)
    schema = json.loads(PAGES["settings.schema.json"])["$defs"]
    del schema["PodTemplate"]
    keys = [key for model in schema.values() for key in model["properties"]]
    assert sorted(name for name, *_ in rows) == sorted(key for key in keys if key not in ("queue", "pendingTimeout"))
    assert all(kind and about for _, kind, _, about in rows)
    defaults = {name: default for name, _, default, _ in rows}
    assert defaults["ttlSecondsAfterFinished"] == f"`{Settings().ttl_seconds_after_finished}`"


def test_every_link_within_the_pages_leads_somewhere() -> None:
    for name, text in PAGES.items():
        anchors = {reference.anchor(one) for one in re.findall(r"^#+ (.*)$", text, re.M)}
        for target in re.findall(r"\]\(#([^)]*)\)", text):
            assert target in anchors, f"{name}: #{target}"


def test_every_metric_variable_and_exit_code_is_explained() -> None:
    assert re.findall(r"^\| `(podstrap_\w+)` \|", PAGES["metrics.md"], re.M) == [one.name for one in METRICS]
    variables = {value for name, value in vars(environment).items()
                 if name.isupper() and str(value).startswith("PODSTRAP_") and name != "PREFIX"}  # fmt: skip
    rows = dict(re.findall(r"^\| `(PODSTRAP_\w+)` \| (.*) \|$", PAGES["pod-protocol.md"], re.M))
    assert set(rows) == variables and all(rows.values())
    codes = re.findall(r"^\| `(\d+)` \| `\w+` \| (.*) \|$", PAGES["pod-protocol.md"], re.M)
    assert {int(code) for code, _ in codes} >= {0, 1, 2, 4, 75, 130} and all(about for _, about in codes)
