"""`podstrap cache`: what it shows, finds and removes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bootstrap.environment import store as stores
from bootstrap.environment.seal import Entry, mark_of
from bootstrap.environment.store import USED, Store
from cli.main import main
from protocol import environment as names


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two environments, one of them unused for ten days; neither in use."""
    monkeypatch.setenv(names.CACHE_DIR, str(tmp_path))
    store = Store(tmp_path / "environments")
    for letter, days in (("a", 10), ("b", 0)):
        with store.building() as made:
            packages = made / "site-packages"
            (packages / "x-1.dist-info").mkdir(parents=True)
            (packages / "x.py").write_text("")
            digest = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
            (packages / "x-1.dist-info" / "RECORD").write_text(f"x.py,sha256={digest},0\n")
            entry = Entry(made, "3.11", "3.11.7", "/usr/bin/python3", "site-packages", "x==1", mark_of(packages))
            store.publish(letter * 40, entry)
        at = time.time() - days * 86400
        os.utime(store.folder / USED / (letter * 40), (at, at))
    while stores._held:
        os.close(stores._held.pop())
    return tmp_path


def test_ls_shows_each_environment(cache, capsys) -> None:
    assert main(["cache", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["a" * 12, "b" * 12]
    assert "10 days ago" in lines[1] and lines[-1].startswith("2 environments")


def test_verify_names_what_is_damaged_and_removes_it_when_asked(cache, capsys) -> None:
    assert main(["cache", "verify"]) == 0
    (cache / "environments" / ("a" * 40) / "site-packages" / "x.py").write_text("changed")
    assert main(["cache", "verify"]) == 1
    assert "x.py: changed" in capsys.readouterr().out
    assert main(["cache", "verify", "--remove"]) == 1
    assert main(["cache", "verify"]) == 0


def test_prune_keeps_to_the_limits(cache, capsys) -> None:
    assert main(["cache", "prune", "--max-days", "30"]) == 0
    assert (cache / "environments" / ("a" * 40)).exists()
    assert main(["cache", "prune", "--max-days", "5"]) == 0
    assert not (cache / "environments" / ("a" * 40)).exists()
    assert (cache / "environments" / ("b" * 40)).exists()


def test_no_cache_is_told(monkeypatch, capsys) -> None:
    monkeypatch.delenv(names.CACHE_DIR, raising=False)
    assert main(["cache", "ls"]) == 1
    assert names.CACHE_DIR in capsys.readouterr().err
