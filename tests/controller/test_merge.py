"""Templates merge as Kubernetes merges: by its own list keys, and twice is once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.merge import MERGE_KEYS, merged


def test_mappings_merge_key_by_key() -> None:
    base = {"resources": {"limits": {"memory": "8Gi", "cpu": "2"}}}
    over = {"resources": {"limits": {"memory": "16Gi"}}}
    assert merged(base, over) == {"resources": {"limits": {"memory": "16Gi", "cpu": "2"}}}


def test_null_deletes_a_key_and_leaves_no_null_behind() -> None:
    assert merged({"nodeSelector": {"a": "1", "b": "2"}}, {"nodeSelector": {"a": None}}) == {"nodeSelector": {"b": "2"}}
    assert merged({}, {"nodeSelector": {"a": None}, "affinity": None}) == {"nodeSelector": {}}


@pytest.mark.parametrize(("field", "key"), sorted(MERGE_KEYS.items()))
def test_lists_with_a_merge_key_merge_by_it_and_keep_their_order(field: str, key: str) -> None:
    base = {field: [{key: "first", "x": 1}, {key: "second", "x": 1}]}
    over = {field: [{key: "second", "x": 2}, {key: "third", "x": 3}]}
    assert merged(base, over) == {field: [{key: "first", "x": 1}, {key: "second", "x": 2}, {key: "third", "x": 3}]}


@pytest.mark.parametrize("field", ["tolerations", "envFrom", "command", "args"])
def test_lists_without_a_merge_key_are_replaced(field: str) -> None:
    assert merged({field: [{"key": "a"}, {"key": "b"}]}, {field: [{"key": "c"}]}) == {field: [{"key": "c"}]}


def test_a_volume_keeps_one_source() -> None:
    base = {"volumes": [{"name": "data", "emptyDir": {}}]}
    over = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    assert merged(base, over) == over


def test_the_same_source_of_a_volume_is_merged() -> None:
    base = {"volumes": [{"name": "data", "emptyDir": {"medium": "Memory"}}]}
    over = {"volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}]}
    assert merged(base, over) == {"volumes": [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"value": "1"}, {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
        ({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"value": ""}),
        ({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"valueFrom": {"fieldRef": {"fieldPath": "x"}}}),
    ],
)
def test_a_variable_has_one_origin(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged([{"name": "A", **old}], [{"name": "A", **new}], "env") == [{"name": "A", **new}]


def test_patch_directives_delete_an_item_and_replace_a_mapping() -> None:
    base = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "nodeSelector": {"a": "1"}}
    over = {"env": [{"name": "A", "$patch": "delete"}], "nodeSelector": {"$patch": "replace", "b": "2"}}
    assert merged(base, over) == {"env": [{"name": "B", "value": "2"}], "nodeSelector": {"b": "2"}}


def test_of_two_variables_with_one_name_the_later_counts_as_kubernetes_has_it() -> None:
    base = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    assert merged(base, [{"name": "B", "value": "3"}], "env") == [base[1], {"name": "B", "value": "3"}]
    assert merged(base, [{"name": "A", "value": "4"}], "env") == [{"name": "A", "value": "4"}]
    assert merged(base, [{"name": "A", "$patch": "delete"}], "env") == []


_names = st.sampled_from(["a", "b", "c"])
_leaf = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["x", "y"]), st.lists(st.integers(0, 3), max_size=2))
_items = st.fixed_dictionaries({"name": _names}, optional={"x": _leaf, "y": _leaf, "$patch": st.just("delete")})


def _named(items: Any) -> Any:
    # Once each: an item that is deleted and set anew in one list would move to the list's end.
    return st.lists(items, max_size=3, unique_by=lambda item: item["name"])


_tree = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.dictionaries(_names, inner, max_size=3),
        st.fixed_dictionaries(
            {},
            optional={
                "env": _named(_items),
                "volumes": _named(_items),
                "containers": _named(st.fixed_dictionaries({"name": _names}, optional={"a": inner})),
                "tolerations": st.lists(_items, max_size=2),
            },
        ),
    ),
    max_leaves=8,
)
_mapping = st.dictionaries(_names, _tree, max_size=3)


@given(_mapping, _mapping)
def test_merging_twice_is_merging_once_and_changes_neither_side(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    once = merged(base, over)
    assert merged(once, over) == once
    assert (base, over) == before


@given(_mapping)
def test_merging_nothing_changes_nothing(base: dict[str, Any]) -> None:
    assert merged(base, {}) == base


def test_two_ports_of_one_number_and_two_constraints_on_one_topology_are_two() -> None:
    ports = [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]
    assert merged({"ports": ports}, {"ports": [{"containerPort": 53, "protocol": "TCP", "name": "dns"}]})["ports"] == [
        {"containerPort": 53, "protocol": "TCP", "name": "dns"}, {"containerPort": 53, "protocol": "UDP"},
    ]  # fmt: skip
    spread = "topologySpreadConstraints"
    hard, soft = ({"topologyKey": "zone", "whenUnsatisfiable": how} for how in ("DoNotSchedule", "ScheduleAnyway"))
    both = {spread: [hard, soft]}
    assert merged({}, both) == both
    over = {spread: [{**soft, "maxSkew": 2}, {"topologyKey": "zone", "maxSkew": 3}]}
    assert merged(both, over)[spread] == [{**hard, "maxSkew": 3}, {**soft, "maxSkew": 2}]
