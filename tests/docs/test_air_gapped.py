"""The table of docs/guides/air-gapped.md has everything in the code that can reach out."""

from __future__ import annotations

import ast
import re

import yaml

from controller.settings import Settings
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "guides" / "air-gapped.md").read_text(encoding="utf-8")
ROOMS = ("protocol", "clearml_api", "bootstrap", "controller", "cli", "charts", "deploy")
_HOST = re.compile(r"https?://([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[a-z]{2,})\b")
EXPLAINED = {
    "kubernetes.io", "docs.docker.com", "json-schema.org", "docs.nvidia.com", "kubernetes.default.svc",
}  # fmt: skip
"""Named as the source of a rule or as a form; nobody connects."""


def hosts_of_code() -> set[str]:
    """Every host in a text of the code that is no docstring, and in the chart."""
    found: set[str] = set()
    for room in ROOMS:
        for file in (ROOT / room).rglob("*"):
            if file.suffix == ".py":
                tree = ast.parse(file.read_text(encoding="utf-8"))
                said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
                for node in ast.walk(tree):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                        found.update(_HOST.findall(node.value))
            elif file.suffix in (".yaml", ".tpl", ".txt"):
                found.update(_HOST.findall(file.read_text(encoding="utf-8")))
    return {one for one in found if not one.endswith((".example.org", ".example.com"))} - EXPLAINED


def test_every_host_of_the_code_has_a_row() -> None:
    hosts = hosts_of_code()
    assert "api.clear.ml" in hosts
    assert [one for one in sorted(hosts) if f"`{one}`" not in PAGE] == []


def test_every_image_has_a_row() -> None:
    values = yaml.safe_load((ROOT / "charts" / "podstrap" / "values.yaml").read_text(encoding="utf-8"))
    images = {values["podstrap"]["image"]["repository"]}
    images |= {str(field.default) for name, field in Settings.model_fields.items() if name.endswith("_image")}
    images |= {Settings().injected_image}
    assert [one for one in images if f"`{one.partition(':')[0]}`" not in PAGE and one != "None"] == []
    keys = {
        field.alias or name for name, field in Settings.model_fields.items() if name.endswith(("_image", "_server_url"))
    }
    assert [one for one in sorted(keys) if one not in PAGE] == []


def test_every_variable_of_the_table_is_honoured() -> None:
    """By a name in the code, or by uv, whose variables pass through (bootstrap/environment/index.py)."""
    code = "".join(file.read_text(encoding="utf-8") for room in ROOMS for file in (ROOT / room).rglob("*.py"))
    table = [line for line in PAGE.splitlines() if line.startswith("| ")]
    named = {one for line in table for one in re.findall(r"`([A-Z][A-Z0-9_]{6,})", line)}
    assert len(named) > 6
    assert [one for one in sorted(named) if one not in code] == []
