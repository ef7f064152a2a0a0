"""Container images written by hand: layers are tar files, an image is a list of them and a few words of JSON.

The same bytes go into an archive that a node imports and to a registry, so an image has one digest wherever it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Layer:
    """A tar file, not compressed. A file of its name and `.digest` beside it spares the reading of a large one."""

    file: Path

    @cached_property
    def digest(self) -> str:
        if self._known.exists():
            return self._known.read_text()
        with self.file.open("rb") as file:
            return "sha256:" + _sha256(file)

    def remember(self) -> None:
        """Keep the digest beside the file, which will not change any more."""
        self._known.write_text(self.digest)

    @property
    def _known(self) -> Path:
        return self.file.with_suffix(".digest")

    @property
    def size(self) -> int:
        return self.file.stat().st_size


@dataclass(frozen=True)
class Image:
    """`reference`: the full name, host included. `config`: Entrypoint, Cmd, Env and so on, as OCI spells them."""

    reference: str
    layers: tuple[Layer, ...]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def config_blob(self) -> bytes:
        rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in self.layers]}
        config = {"Env": [f"PATH={PATH}"], **self.config}
        return _json({"architecture": "amd64", "os": "linux", "config": config, "rootfs": rootfs})

    @property
    def manifest(self) -> bytes:
        layers = [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in self.layers]
        config = {"mediaType": CONFIG, **self.config_descriptor}
        return _json({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})

    @property
    def config_descriptor(self) -> dict[str, Any]:
        """Its digest and size in bytes."""
        return _described(self.config_blob)

    @property
    def digest(self) -> str:
        return str(_described(self.manifest)["digest"])

    def named(self, reference: str) -> Image:
        """The same image by another name."""
        return Image(reference, self.layers, self.config)

    def save(self, archive: Path) -> Path:
        """An OCI archive with this one image; `archive`."""
        name = {"io.containerd.image.name": self.reference}
        entry = {"mediaType": MANIFEST, **_described(self.manifest), "annotations": name}
        with tarfile.open(archive, "w") as tar:
            _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
            _add(tar, "index.json", _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
            for blob in (self.manifest, self.config_blob):
                _add(tar, "blobs/sha256/" + hashlib.sha256(blob).hexdigest(), blob)
            for layer in self.layers:
                tar.add(layer.file, "blobs/" + layer.digest.replace(":", "/"))
        return archive


@dataclass(frozen=True)
class Entry:
    """One thing in a layer: bytes or a file of this machine as a file, a `link` as a symbolic link, else a folder."""

    path: str
    content: bytes | Path | None = None
    mode: int = 0o755
    link: str = ""


def write_layer(file: Path, entries: Iterable[Entry]) -> Layer:
    """The same entries give the same bytes, whoever runs this and when."""
    with tarfile.open(file, "w") as tar:
        for entry in entries:
            content = entry.content.read_bytes() if isinstance(entry.content, Path) else entry.content
            _add(tar, entry.path, content, entry.mode, entry.link)
    return Layer(file)


def _add(tar: tarfile.TarFile, name: str, content: bytes | None, mode: int = 0o644, link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.mode = mode
    if link:
        member.type, member.linkname = tarfile.SYMTYPE, link
    elif content is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(content)
    tar.addfile(member, io.BytesIO(content) if content is not None else None)


def _described(blob: bytes) -> dict[str, Any]:
    return {"digest": "sha256:" + hashlib.sha256(blob).hexdigest(), "size": len(blob)}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _sha256(file: Any) -> str:
    whole = hashlib.sha256()
    while part := file.read(1 << 20):
        whole.update(part)
    return whole.hexdigest()
