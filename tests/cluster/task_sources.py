"""Where the node's tasks come from: an index with the clearml SDK and a git repository, as pods reach them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import support
from tests.bootstrap.git_servers import HttpGit
from tests.bootstrap.index import PASSWORD, USER, Index
from tests.cluster import wheels
from tests.cluster.bridge import Bridge
from tests.cluster.forward import Forward

TRAINING = """
from clearml import Task

task = Task.init("podstrap tests", "training")
logger = task.get_logger()
for step in range(3):
    print("step", step, flush=True)
    logger.report_scalar("loss", "train", 1 / (step + 1), step)
task.upload_artifact("weights", {"layer": [1, 2, 3]}, wait_on_upload=True)
print("trained", flush=True)
"""


@pytest.fixture(scope="session")
def index(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Index, str]]:
    """An index that has clearml, and its address for pods."""
    one = Index(tmp_path_factory.mktemp("index"), wheels.clearml())
    forward = Forward(bridge.address, one.port)
    yield one, f"http://{USER}:{PASSWORD}@{bridge.address}:{forward.port}/simple/"
    forward.close()
    one.stop()


@pytest.fixture(scope="session")
def repository(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A git repository by http, for `clearml-task` and for pods alike."""
    root = tmp_path_factory.mktemp("git")
    files = {"train.py": TRAINING, "plain.py": "print('cloned and run')\n"}
    support.repository(root / "work", {**files, "requirements.txt": f"clearml=={wheels.version('clearml')}\n"})
    support.git(root, "clone", "-q", "--bare", "work", "training.git")
    git = HttpGit(root)
    forward = Forward(bridge.address, int(git.host.rpartition(":")[2]))
    yield f"http://{bridge.address}:{forward.port}/training.git"
    forward.close()
    git.stop()
