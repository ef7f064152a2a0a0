"""Megabytes (1,000,000 bytes) of each image and of podstrap's folder in it: built here, or as it was built before.

`compressed` is what a node pulls: the layers in the registry's form (gzip). `folder` is /opt/podstrap unpacked. The
limits are the promises of images/README.md; beyond one of them the exit code is 1. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster import built
from tests.images.container import unpacked

NAMES = ("bootstrap", "task", "controller")
LIMITS = {
    ("bootstrap", "folder"): 160.0,
    ("bootstrap", "compressed"): 60.0,
    ("task", "folder"): 100.0,
    ("controller", "compressed"): 120.0,
}


def measured(name: str) -> dict[str, float]:
    """An image's sizes in megabytes."""
    layout = built.layout(name)
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]).read_bytes())
    image = built.read(layout, name)
    root = unpacked(f"rootfs-{image.digest.split(':')[1][:16]}", [layer.file for layer in image.layers])
    sizes = {
        "compressed": sum(layer["size"] for layer in manifest["layers"]),
        "unpacked": sum(layer.size for layer in image.layers),
        "folder": sum(file.lstat().st_size for file in (root / "opt/podstrap").rglob("*") if not file.is_dir()),
    }
    return {what: round(size / 1e6, 1) for what, size in sizes.items()}


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def main() -> int:
    found = {name: measured(name) for name in NAMES}
    over = [
        f"{name}, {what}: {found[name][what]} MB, the limit is {limit:g}"
        for (name, what), limit in LIMITS.items()
        if found[name][what] >= limit
    ]
    for name, sizes in found.items():
        print(f"{name:12}", ", ".join(f"{what} {size} MB" for what, size in sizes.items()))
    for line in over:
        print(f"too large: {line}")
    print(json.dumps(found))
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
