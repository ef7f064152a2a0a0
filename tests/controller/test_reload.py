"""The settings file of a running controller: taken when it is good and whole, kept out when it is not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from controller import settings_file
from controller.reload import SettingsFiles
from controller.settings import Settings
from protocol.errors import PodstrapError


class Look:
    """A settings file and looks at it, one as soon as it counts after the other."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "settings.yaml"
        self.file.write_text("queues: [a]\nmaxPods: 1\n")
        self.now = 0.0
        self.refuse = ""
        self.made_ready: list[Settings] = []
        self.files = SettingsFiles([self.file], lambda: settings_file.load(self.file), monotonic=lambda: self.now)

    def take(self, settings: Settings) -> None:
        if self.refuse:
            raise PodstrapError(self.refuse)
        self.made_ready.append(settings)

    def __call__(self, looks: int = 2) -> Settings | None:
        found = None
        for _ in range(looks):
            self.now += 1.5
            found = self.files.look(self.take) or found
        return found


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return Look(tmp_path)


def test_a_file_that_changed_is_taken_once(look: Look) -> None:
    assert look() is None and look.files.taken.max_pods == 1
    look.file.write_text("queues: [a]\nmaxPods: 2\n")
    taken = look()
    assert taken is not None and taken.max_pods == 2
    assert look.files.taken is taken and look.made_ready == [taken]
    assert look(3) is None


def test_a_change_counts_when_it_is_there_at_two_looks(look: Look) -> None:
    """An editor that writes in place leaves half a file for a moment, which may be a good one."""
    look.file.write_text("queues: [a]\n")
    assert look(1) is None
    look.file.write_text("queues: [a]\nmaxPods: 3\n")
    assert look(1) is None
    taken = look(1)
    assert taken is not None and taken.max_pods == 3


def test_looks_come_no_faster_than_once_a_second(look: Look) -> None:
    look(1)
    look.file.write_text("queues: [b]\n")
    assert not any(look.files.look(look.take) for _ in range(5))


@pytest.mark.parametrize("broken", ["queues: [", "maxPod: 1", "queues: {a: {templateOverrides: {nodeSelectr: {}}}}"])
def test_a_broken_file_keeps_the_settings_and_is_told_once(
    look: Look, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    look.file.write_text(broken)
    with caplog.at_level(logging.INFO):
        assert look(6) is None
    assert [record.msg.split()[0] for record in caplog.records] == ["settings-refused"]
    assert str(look.file) in look.files.trouble and look.files.taken.max_pods == 1
    look.file.write_text("queues: [a]\nmaxPods: 2\n")
    taken = look()
    assert taken is not None and taken.max_pods == 2 and look.files.trouble == ""


def test_set_back_as_it_was_it_is_in_order_again(look: Look) -> None:
    before = look.file.read_text()
    look.file.write_text("queues: [")
    look()
    assert look.files.trouble
    look.file.write_text(before)
    assert look() is None and look.files.trouble == ""


def test_a_file_that_is_gone_keeps_the_settings(look: Look) -> None:
    look.file.unlink()
    assert look() is None and "cannot be read" in look.files.trouble


@pytest.mark.parametrize(("change", "name"), [("instance: other", "instance"), ("namespace: other", "namespace")])
def test_what_names_the_lease_needs_a_restart(look: Look, change: str, name: str) -> None:
    look.file.write_text(f"queues: [a]\nmaxPods: 2\n{change}\n")
    assert look() is None and look.files.taken.max_pods == 1
    assert f"{name} has changed" in look.files.trouble and "needs a restart" in look.files.trouble


def test_what_cannot_be_made_ready_is_tried_again_without_a_change_of_the_file(look: Look) -> None:
    look.refuse = "namespace team cannot be seen"
    look.file.write_text("queues: [a]\nmaxPods: 2\n")
    assert look(4) is None and look.files.trouble == "namespace team cannot be seen"
    look.refuse = ""
    assert look(1) is not None and look.files.trouble == ""
