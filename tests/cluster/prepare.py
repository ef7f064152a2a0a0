"""Make what the cluster's and the images' tests build once, before the first test: python -m tests.cluster.prepare

One after the other, with both processors for each: a test that had to build Kubernetes while its neighbour builds
promtool would meet its time limit on a fresh machine. With everything in the cache it takes less than a second. What
cannot be made is left to the test that needs it, which says why.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from tests.cluster import built, foreign_images, old_runtime, tools, wheels

PROGRAMS: dict[str, Callable[[], object]] = {
    "Kubernetes, containerd and runc": tools.binaries,
    "helm": tools.helm,
    "promtool": tools.promtool,
    "the Prometheus operator's schemas": tools.monitoring_kinds,
    "the sandbox's program": tools.pause,
}
OF_A_NODE: dict[str, Callable[[], object]] = {
    "an old containerd": old_runtime.binaries,
    "ClearML's wheels": wheels.clearml,
    "a Debian": foreign_images.bare,
    "a Debian with an old Python": foreign_images.old_python,
    **{f"the image {name}": lambda name=name: built.image(name) for name in ("bootstrap", "task", "controller")},  # type: ignore[misc]
    "a user's own image": built.own_image,
}
"""Only root has a node here."""


def main() -> int:
    wanted = {**PROGRAMS, **(OF_A_NODE if os.geteuid() == 0 else {})}
    for what, make in wanted.items():
        began = time.monotonic()
        try:
            make()
        except Exception as error:
            print(f"tests: {what} could not be made: {error}", file=sys.stderr)
            continue
        if (seconds := time.monotonic() - began) > 5:
            print(f"tests: made {what} in {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
