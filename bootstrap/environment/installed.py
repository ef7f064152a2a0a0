"""What lies in a site-packages folder, as `pip freeze` would say it, read without starting a program.

A distribution is its `*.dist-info` folder: METADATA names it, direct_url.json (PEP 610) says where it came from when
that was no index. The tests hold this equal to `pip freeze`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.environment.options import normalised

_SEEDS = frozenset({"pip", "setuptools", "wheel", "distribute"})
"""What an installer puts into a new venv; `pip freeze` leaves it out too."""


@dataclass(frozen=True)
class Distribution:
    """One installed package."""

    name: str
    version: str
    address: str = ""
    """Where it came from when not from an index: `git+https://...@commit`, `https://...whl`, `file:///...`."""
    editable: bool = False
    folder: bool = False
    """It is a project on this machine, not an archive or a repository."""

    @property
    def line(self) -> str:
        """As a requirement."""
        if self.editable:
            return f"-e {self.address}"
        return f"{self.name} @ {self.address}" if self.address else f"{self.name}=={self.version}"


def distributions(packages: Path) -> list[Distribution]:
    """Everything installed in a folder, by name."""
    found = []
    for folder in packages.glob("*.dist-info"):
        metadata = _metadata(folder / "METADATA")
        name, version = metadata.get("name", ""), metadata.get("version", "")
        if not name:
            name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        found.append(_with_origin(Distribution(name, version), folder))
    for egg in packages.glob("*.egg-info"):
        file = egg / "PKG-INFO" if egg.is_dir() else egg
        metadata = _metadata(file)
        if metadata.get("name"):
            found.append(Distribution(metadata["name"], metadata.get("version", "")))
    return sorted(found, key=lambda one: one.name.lower())


def freeze(packages: Path, asked: Collection[str] = ()) -> str:
    """The lines of `pip freeze`; an installer's own packages only when the requirements name them."""
    left_out = _SEEDS - set(asked)
    return "\n".join(one.line for one in distributions(packages) if normalised(one.name) not in left_out)


def _metadata(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, colon, value = line.partition(":")
                if not line.strip() or not colon:
                    break
                if key.lower() in ("name", "version"):
                    found[key.lower()] = value.strip()
                    if len(found) == 2:
                        break
    except OSError:
        return {}
    return found


def _with_origin(one: Distribution, folder: Path) -> Distribution:
    try:
        origin: dict[str, Any] = json.loads((folder / "direct_url.json").read_text())
        url = str(origin["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return one
    below = f"#subdirectory={origin['subdirectory']}" if origin.get("subdirectory") else ""
    if vcs := origin.get("vcs_info"):
        address = f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}{below}"
        return Distribution(one.name, one.version, address)
    if (directory := origin.get("dir_info")) is not None:
        return Distribution(one.name, one.version, url + below, bool(directory.get("editable")), folder=True)
    hashes = (origin.get("archive_info") or {}).get("hashes") or {}
    digest = f"#sha256={hashes['sha256']}" if hashes.get("sha256") and not below else below
    return Distribution(one.name, one.version, url + digest)
