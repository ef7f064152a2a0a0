"""The images of the cluster tests: the sandbox's, a small one with a shell, and the one that ClearML tasks run in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.cluster import built, tools
from tests.cluster.images import Entry, Image, write_layer
from tests.cluster.node_settings import PAUSE_IMAGE

BUSYBOX_IMAGE = "podstrap.test/busybox:1"
TASK_IMAGE = "podstrap.test/task:1"
_BUSYBOX = Path("/bin/busybox")
_USERS = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"


def pause(folder: Path) -> Image:
    """The sandbox's: one static program."""
    layer = write_layer(folder / "pause.layer.tar", [Entry("pause", tools.pause())])
    return Image(PAUSE_IMAGE, (layer,), {"Entrypoint": ["/pause"]})


def busybox(folder: Path, reference: str = BUSYBOX_IMAGE) -> Image:
    """A shell and its friends, of Debian's busybox-static: 2 MB."""
    tools.packages("busybox-static")
    applets = subprocess.run([_BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    entries = [Entry("bin"), Entry("etc"), Entry("root"), Entry("tmp", mode=0o1777), Entry("etc/passwd", _USERS, 0o644)]
    entries.append(Entry("bin/busybox", _BUSYBOX))
    entries += [Entry(f"bin/{name}", link="busybox") for name in applets if name != "busybox"]
    return Image(reference, (write_layer(folder / "busybox.layer.tar", entries),), {"Cmd": ["sh"], **_label(reference)})


def task(reference: str = TASK_IMAGE) -> Image:
    """Where tasks run: images/Dockerfile's, with the code of this working tree."""
    return built.image("task", reference)


def _label(reference: str) -> dict[str, Any]:
    """Makes each reference an image of its own. A kubelet that pulled an image by one name wants to pull it by the
    other too, though it is there (imagePullCredentialsVerificationPolicy: only what it never pulled is free).
    """
    return {"Labels": {"test.podstrap/reference": reference}}
