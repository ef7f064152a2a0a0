"""What podstrap does not follow is told, and documented word for word."""

from __future__ import annotations

from bootstrap import left_out
from clearml_api.configuration import Configuration
from tests.support import REPOSITORY_ROOT


def test_what_is_met_is_told_with_its_reason() -> None:
    environ = {"CLEARML_PRE_CUSTOM_CMD": "apt-get update", "CLEARML_APT_INSTALL": "", "OTHER": "x"}
    conf = Configuration(tree={"agent": {"custom_build_script": "x.sh"}, "files": {}})
    told = list(left_out.met(environ, conf))
    assert [line.split(" ")[0] for line in told] == ["CLEARML_PRE_CUSTOM_CMD", "agent.custom_build_script"]
    assert all("has no effect here: " in line for line in told)
    assert "apt-get" not in "".join(told)


def test_the_page_has_the_same_table() -> None:
    page = (REPOSITORY_ROOT / "docs" / "environment-variables.md").read_text().split("## What is left out")[1]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    wanted = {**left_out.VARIABLES, **left_out.SETTINGS}
    assert rows == [f"| `{name}` | {why} |" for name, why in wanted.items()]
