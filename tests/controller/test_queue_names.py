"""Queues by name, id and pattern: whose settings hold, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clearml_api.models import Queue
from controller import queue_names
from controller.queue_names import key_of, served, without_queue

LISTING = [Queue("1" * 32, "gpu-b"), Queue("2" * 32, "cpu"), Queue("3" * 32, "gpu-a"), Queue("4" * 32, "gpu-big")]


def names(*keys: str) -> list[tuple[str, str]]:
    return [(key, queue.name) for key, queue in served(keys, LISTING)]


def test_the_order_is_the_settings_and_by_name_within_a_pattern() -> None:
    assert names("gpu-*", "cpu") == [("gpu-*", "gpu-a"), ("gpu-*", "gpu-b"), ("gpu-*", "gpu-big"), ("cpu", "cpu")]
    assert names("cpu", "gpu-?") == [("cpu", "cpu"), ("gpu-?", "gpu-a"), ("gpu-?", "gpu-b")]


def test_a_name_wins_over_an_id_either_over_a_pattern_and_the_first_pattern_over_the_next() -> None:
    assert names("*", "gpu-b") == [("*", "cpu"), ("*", "gpu-a"), ("*", "gpu-big"), ("gpu-b", "gpu-b")]
    assert names("*-b*", "4" * 32) == [("*-b*", "gpu-b"), ("4" * 32, "gpu-big")]
    assert names("3" * 32, "gpu-a") == [("gpu-a", "gpu-a")]
    assert names("gpu-b*", "gpu-*") == [("gpu-b*", "gpu-b"), ("gpu-b*", "gpu-big"), ("gpu-*", "gpu-a")]
    assert key_of(["Gpu-*"], "gpu-a") is None


def test_keys_without_a_queue_say_why() -> None:
    found = without_queue(["gpu-a", "3" * 32, "tpu-*", "absent"], LISTING)
    assert list(found) == ["3" * 32, "tpu-*", "absent"]
    assert "gpu-a" in found["3" * 32] and found["absent"] == queue_names.MISSING != found["tpu-*"]


_keys = st.lists(st.sampled_from(["a", "b", "a*", "?", "*", "[ab]", "1", "2", "a[x"]), unique=True)
_queues = st.lists(
    st.builds(Queue, st.sampled_from("123"), st.sampled_from(["a", "b", "ab", "a[x", "*"])),
    unique_by=(lambda one: one.id, lambda one: one.name),
)  # fmt: skip


@given(_keys, _queues)
def test_each_queue_has_one_key_and_each_key_a_queue_or_a_reason(keys: list[str], listing: list[Queue]) -> None:
    found = served(keys, listing)
    assert len({queue.id for _, queue in found}) == len(found)
    assert {key for key, _ in found} | set(without_queue(keys, listing)) == set(keys)
    assert {key for key, _ in found}.isdisjoint(without_queue(keys, listing))
    for key, queue in found:
        assert key in (queue.name, queue.id) or queue_names.is_pattern(key)
