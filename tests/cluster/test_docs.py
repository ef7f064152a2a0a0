"""What the pages tell a person with a cluster to type, typed; their values and manifests, taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from clearml_api.session import Session
from controller import settings_file, values_report
from tests import support
from tests.cluster.chart import Helm, settings_text
from tests.cluster.chart_values import KEYS
from tests.cluster.control_plane import ControlPlane
from tests.cluster.docs_cluster import Stranger
from tests.docs import pages
from tests.docs.pages import Block

pytestmark = pytest.mark.cluster

TYPED = [page for page in pages.pages() if any(one.kind == "cluster" for one in pages.blocks(page))]


@pytest.fixture
def stranger(
    control_plane: ControlPlane, server_environ: dict[str, str], offline_helm: Helm, tmp_path: Path
) -> Iterator[Stranger]:
    one = Stranger(control_plane, server_environ, tmp_path / "stranger", offline_helm.program)
    yield one
    one.close()


def ran_on_a_gpu(stranger: Stranger, api: Session) -> None:
    """The README's quick start ends with a task that saw its GPU."""
    assert stranger.consoles, stranger.logs()
    for task in stranger.consoles:
        assert support.task(api, task).status == "completed", stranger.consoles[task]
        assert "GPU 0:" in support.console(api, task)


AFTER: dict[str, Callable[[Stranger, Session], None]] = {"README.md": ran_on_a_gpu}


@pytest.mark.parametrize("page", TYPED, ids=pages.name_of)
def test_the_commands_of_a_page_work_one_after_the_other(page: Path, stranger: Stranger, api: Session) -> None:
    typed = [one for one in pages.blocks(page) if one.kind == "cluster"]
    before = [pages.ROOT / one.after for one in typed if one.after]
    found = [one for each in (*before, page) for one in pages.blocks(each)]
    if not any("create namespace" in one.text for one in found if one.kind == "cluster"):
        stranger.kube.create("/api/v1/namespaces", {"metadata": {"name": stranger.namespace}})
    for block in found:
        if block.file:
            (stranger.page / block.file).write_text(block.text)
        if block.kind == "cluster":
            stranger.shell(block)
    if after := AFTER.get(pages.name_of(page)):
        after(stranger, api)


@pytest.mark.parametrize("block", pages.all_blocks("values"), ids=lambda one: one.place)
def test_the_chart_takes_a_pages_values(block: Block, offline_helm: Helm, tmp_path: Path) -> None:
    """Rendered, its settings read by the controller, and nothing in it that `podstrap check --values` does not know."""
    given = yaml.safe_load(block.text)
    keys = yaml.safe_load(KEYS)
    whole = {**keys, **given, "clearml": {**keys["clearml"], **given.get("clearml", {})}}
    text = settings_text(offline_helm.rendered(whole))
    assert settings_file.load_text(text).queues
    (tmp_path / "values.yaml").write_text(block.text)
    rows = values_report.report(tmp_path / "values.yaml")
    assert values_report.understood(rows), [row for row in rows if row.verdict in ("unknown", "wrong")]


@pytest.mark.parametrize("block", pages.all_blocks("manifest"), ids=lambda one: one.place)
def test_the_api_server_takes_a_pages_objects(block: Block, stranger: Stranger) -> None:
    stranger.kube.create("/api/v1/namespaces", {"metadata": {"name": stranger.namespace}})
    (stranger.page / "objects.yaml").write_text(block.text)
    text = "kubectl -n clearml apply --dry-run=server --validate=strict -f objects.yaml\n"
    stranger.shell(replace(block, text=text))
