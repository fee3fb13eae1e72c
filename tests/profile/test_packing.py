"""Packing gives back what went in, stores repetition once, and is deterministic."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from fakeqemu.profile.packing import Packed, pack

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
containers = st.recursive(
    st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=3),
    lambda inner: st.lists(inner | scalars, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner | scalars, max_size=3),
    max_leaves=20,
)


@given(containers)
def test_round_trip(value):
    assert Packed(pack(value)).get() == value


@given(containers)
def test_survives_json(value):
    assert Packed(json.loads(json.dumps(pack(value)))).get() == value


def test_numbers_in_lists_are_not_taken_for_references():
    value = {"a": [0, 1, [2]], "b": [[0]], "c": 0}
    assert Packed(pack(value)).get() == value


def test_true_and_one_stay_apart():
    assert Packed(pack([[1], [True], [1.0]])).get() == [[1], [True], [1.0]]
    assert [type(x[0]) for x in Packed(pack([[1], [True], [1.0]])).get()] == [int, bool, float]


def test_repetition_is_stored_once():
    same = {"name": "x", "type": "bool"}
    assert len(pack([same] * 100)["table"]) == 2


def test_key_order_does_not_matter():
    assert pack({"a": 1, "b": [2]}) == pack({"b": [2], "a": 1})


def test_get_walks_without_building_the_rest():
    packed = Packed(pack({"device": {"a": [1], "b": [2]}, "qom": {}}))
    assert packed.get("device", "b") == [2]
    assert packed.keys("device") == ["a", "b"]
    assert list(packed) == ["device", "qom"]
    for path in (("nope",), ("device", "nope"), ("nope", "a")):
        with pytest.raises(KeyError):
            packed.get(*path)
