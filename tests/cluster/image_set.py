"""The images of the cluster tests: the sandbox's, a small one with a shell, and one that a ClearML task can run in.

The last has Debian's Python and git, and podstrap with what its `pod` extra needs. That base takes a minute to make and
is kept in the cache; our own code is a layer on top, made anew each time so that a change is seen.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.cluster import tools
from tests.cluster.images import Entry, Image, Layer, write_layer
from tests.cluster.node_settings import PAUSE_IMAGE
from tests.support import REPOSITORY_ROOT

BUSYBOX_IMAGE = "podstrap.test/busybox:1"
TASK_IMAGE = "podstrap.test/task:1"
CODE = ("protocol", "clearml_api", "bootstrap", "controller", "cli")
"""The folders of the repository that a task image holds."""
SUITE = "bookworm"
DEBIAN = ("python3", "python3-venv", "git", "ca-certificates")
_BUSYBOX = Path("/bin/busybox")
_HOME = "/opt/podstrap"
_SITE = f"{_HOME.lstrip('/')}/lib/python3.11/site-packages"
_COMMAND = f"#!{_HOME}/bin/python\nimport sys\n\nfrom cli.main import main\n\nsys.exit(main())\n"
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


def task(folder: Path, reference: str = TASK_IMAGE) -> Image:
    """Where tasks run: python3, git and the `podstrap` command, with the code of this working tree."""
    code = write_layer(folder / "podstrap.layer.tar", _code())
    return Image(reference, (_task_base(), code), {"Cmd": ["bash"], **_label(reference)})


def task_requirements() -> list[str]:
    """What podstrap needs in a pod, as pyproject.toml says it: its own requirements and those of the extra `pod`."""
    wanted = [Requirement(line) for line in requires("podstrap") or ()]
    assert wanted, "podstrap is not installed in this environment, so its requirements are not known: make setup"
    own = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": "pod"})]
    return sorted(f"{one.name}{one.specifier}" for one in own)


def _label(reference: str) -> dict[str, Any]:
    """Makes each reference an image of its own. A kubelet that pulled an image by one name wants to pull it by the
    other too, though it is there (imagePullCredentialsVerificationPolicy: only what it never pulled is free).
    """
    return {"Labels": {"test.podstrap/reference": reference}}


def _code() -> Iterator[Entry]:
    for folder in CODE:
        for file in sorted((REPOSITORY_ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield Entry(f"{_SITE}/{file.relative_to(REPOSITORY_ROOT)}", file, 0o644)
    yield Entry("usr/local/bin/podstrap", _COMMAND.encode())


def _task_base() -> Layer:
    """A root file system of Debian with podstrap's requirements in a virtual environment at /opt/podstrap."""
    wanted = task_requirements()
    pip = f"{_HOME}/bin/python -m pip"
    hooks = [
        f'chroot "$1" python3 -m venv {_HOME}',
        f'chroot "$1" {pip} install --quiet --no-index --find-links /tmp/wheels -r /tmp/wheels/wanted',
        'rm -r "$1/tmp/wheels"',
    ]

    def build(folder: Path) -> None:
        tools.packages("mmdebstrap")
        wheels = folder / "wheels"
        tools.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", wheels, *wanted])
        (wheels / "wanted").write_text("\n".join(wanted))
        chosen = [f"--include={','.join(DEBIAN)}", "--variant=minbase", "--mode=root", "--format=tar"]
        run = [f"--customize-hook={hook}" for hook in (f'cp -r "{wheels}" "$1/tmp/wheels"', *hooks)]
        tools.run(["mmdebstrap", *chosen, *run, SUITE, folder / "layer.tar"])
        Layer(folder / "layer.tar").remember()
        shutil.rmtree(wheels)

    name = f"task-base-{tools.key(SUITE, *DEBIAN, *hooks, *wanted)}"
    return Layer(tools.once(name, build) / "layer.tar")
