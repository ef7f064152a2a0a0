"""What the images install, by hash, is what pyproject.toml asks for."""

from __future__ import annotations

import re
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import REPOSITORY_ROOT


@pytest.mark.parametrize(("file", "extra"), [("bootstrap", "pod"), ("controller", "controller")])
def test_every_requirement_is_pinned_by_version_and_hash(file: str, extra: str) -> None:
    text = (REPOSITORY_ROOT / "images" / "requirements" / f"{file}.txt").read_text()
    pinned = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.M)}
    assert len(pinned) == len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", text, re.M))
    wanted = [Requirement(line) for line in requires("podstrap") or ()]
    for one in wanted:
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            assert pinned.get(canonicalize_name(one.name), "none") in one.specifier, one
