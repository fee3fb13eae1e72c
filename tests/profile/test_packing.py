"""Packing gives back what went in, stores repetition once, and is deterministic."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from fakeqemu.profile.packing import Packed, as_lines, pack

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
def test_survives_as_lines(value):
    assert Packed.of_lines(as_lines(pack(value))).get() == value


def test_only_lines_that_are_asked_for_are_parsed(monkeypatch):
    packed = Packed.of_lines(as_lines(pack({"device": {"a": [1], "b": [2]}, "qom": {"c": [3]}})))
    parsed = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(text) or loads(text))
    assert packed.get("device", "b") == [2]
    assert packed.get("device", "b") == [2]
    assert len(parsed) == 3  # the root, "device" and its "b"
    assert "[3]" not in parsed


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
