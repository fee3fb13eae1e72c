"""Overlay rules: what they reach, that they copy, and that a rule that misses is an error."""

from __future__ import annotations

import copy
import json

import pytest

from fakeqemu.profile import Profile, overlay, store
from fakeqemu.profile.packing import Packed, pack

SCHEMA = [
    {"name": "do", "arg-type": "7"},
    {"name": "7", "members": [{"name": "a"}], "variants": [{"case": "x", "type": "8"}]},
    {"name": "8", "members": []},
]


def applied(value, *rules, part="schema"):
    parsed = overlay.parse_rules([{"part": "schema", **rule} for rule in rules])
    return overlay.apply(parsed, part, value)


def test_append_along_type_references():
    before = copy.deepcopy(SCHEMA)
    at = [{"name": "do"}, "->arg-type", "variants", {"case": "x"}, "->type", "members"]
    after = applied(SCHEMA, {"at": at, "append": {"name": "b"}})
    assert after[2]["members"] == [{"name": "b"}]
    assert after[1] == SCHEMA[1]
    assert before == SCHEMA, "the base must not change"


def test_append_twice_adds_once():
    rule = {"at": [{"name": "7"}, "members"], "append": {"name": "b"}}
    assert applied(SCHEMA, rule, rule)[1]["members"] == [{"name": "a"}, {"name": "b"}]


def test_set_and_merge_and_star():
    value = {"m1": {"p": {"x": 1}}, "m2": {"p": {}}}
    merged = applied(value, {"at": ["*", "p"], "merge": {"local": False}})
    assert merged == {"m1": {"p": {"x": 1, "local": False}}, "m2": {"p": {"local": False}}}
    other = {"p": {"x": 2}}
    assert applied(value, {"at": ["m1"], "set": other})["m1"] == other
    both = {"m1": other, "m2": other}
    assert applied(value, {"at": [], "set": both}) == both


@pytest.mark.parametrize(
    "rule",
    [
        {"at": ["m"], "set": 3},
        {"at": ["m"], "set": {"x": 1}},
        {"at": ["m", "x"], "set": "1"},
        {"at": ["m"], "merge": {"x": "1"}},
        {"at": ["m"], "merge": [1]},
        {"at": ["m"], "append": 1},
        {"at": ["m", "l"], "append": "x"},
        {"at": ["m", "x", "y"], "set": 1},
        {"at": ["m", "x", "*"], "set": 1},
    ],
)
def test_what_a_part_looks_like_may_not_change(rule):
    with pytest.raises(overlay.OverlayError):
        applied({"m": {"x": 1, "l": [1]}}, rule)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "Expecting property name"),
        ("[]", "not an object"),
        ('{"base": 1}', "base has to be a profile's name"),
        ('{"base": "11.1", "proposals": "local"}', "proposals has to be a list of names"),
        ('{"base": "11.1", "rules": {}}', "rules has to be a list"),
        ('{"base": "11.1", "rules": [1]}', "not a rule: 1"),
        ('{"base": "11.1", "rules": [{"part": "x", "at": [1], "set": 1}]}', "not a rule"),
        ('{"base": "11.1", "rules": [{"part": "x", "at": [], "set": 1}]}', "there is no part 'x'"),
        ('{"base": "%s/own", "rules": []}', "it is its own base"),
        ("[" * 5000, "nested too deeply"),
        ('{"base": "11.1", "rules": [{"part": "schema", "at": [{"name": "stop"}], "merge":'
         ' {"arg-type": "nope"}}]}', "what is no schema"),
    ],
)  # fmt: skip
def test_a_file_of_ones_own_that_is_wrong(tmp_path, text, complaint):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "overlay.json").write_text(text.replace("%s", str(tmp_path)))
    with pytest.raises(overlay.OverlayError, match=complaint) as caught:
        Profile.load(folder)
    assert str(folder) in str(caught.value)


def test_packed_parts_stay_packed():
    packed = Packed(pack({"a": {"b": 1}}))
    after = applied(packed, {"at": ["a"], "merge": {"c": 2}})
    assert after.get("a") == {"b": 1, "c": 2}
    assert packed.get("a") == {"b": 1}


def test_other_parts_are_passed_through():
    value: dict[str, int] = {}
    assert applied(value, {"at": ["nope"], "set": 1}, part="help") is value


@pytest.mark.parametrize(
    "at",
    [
        ["nope"],
        [{"name": "nope"}, "members"],
        [{"name": "nope"}, "->arg-type", "members"],
    ],
)
def test_a_rule_that_finds_nothing_is_an_error(at):
    value = {"x": 1} if at == ["nope"] else SCHEMA
    with pytest.raises(overlay.OverlayError):
        applied(value, {"at": at, "append": 1})


@pytest.mark.parametrize("rule", [{}, {"set": 1, "append": 2}, {"set": 1, "typo": 2}])
def test_ill_formed_rules_are_refused(rule):
    with pytest.raises(overlay.OverlayError):
        overlay.parse_rules([{"part": "x", "at": [], **rule}])


def members(profile, command, which):
    schema = {entry["name"]: entry for entry in profile.part("schema")}
    return {m["name"]: m for m in schema[schema[command][which]]["members"]}


def test_next_is_its_base_and_the_rules():
    following, base = Profile.load("next"), Profile.load("11.1")
    assert following.base is Profile.load("11.1", ["incoming-config", "local"])
    assert following.base.base is base
    assert str(following.version) == "11.1.50"
    assert following.version.package == ""
    assert "11.1.50" in following.help("-version")
    assert following.query("query-version")["return"] == following.version.reply()
    newest = {"pc-i440fx-11.2", "pc-q35-11.2"}
    assert {machine.name for machine in following.machines} - newest == {
        machine.name for machine in base.machines
    }
    assert following.commands == base.commands
    for command, which in (
        ("migrate-set-parameters", "arg-type"),
        ("query-migrate-parameters", "ret-type"),
    ):
        ours, theirs = members(following, command, which), members(base, command, which)
        assert set(ours) - set(theirs) == {"local"}
        assert ours["local"] == {
            "name": "local", "type": "bool", "default": None, "features": ["unstable"]
        }
    assert following.migration_defaults.parameters["local"] is False
    assert following.per_machine("pc-q35-11.1")["parameters"]["local"] is False
    assert "local" not in base.migration_defaults.parameters


def test_next_has_the_tap_flag():
    for name, expected in (("next", True), ("11.1", False)):
        schema = {entry["name"]: entry for entry in Profile.load(name).part("schema")}
        netdev = schema[schema["netdev_add"]["arg-type"]]
        kind = next(v["type"] for v in netdev["variants"] if v["case"] == "tap")
        names = {m["name"] for m in schema[kind]["members"]}
        assert ("local-migration-supported" in names) is expected


def test_only_the_parts_with_rules_differ():
    folder = store.schemas_dir() / "next"
    rules = json.loads((folder / store.OVERLAY).read_text())["rules"]
    for proposal in ("incoming-config", "local"):
        rules += store.read_proposal(proposal)["rules"]
    changed = {rule["part"] for rule in rules}
    following, base = Profile.load("next"), Profile.load("11.1")
    parts = {file.name.partition(".")[0] for file in base.folder.glob("*.gz")}
    assert parts - changed
    for part in parts - changed:
        assert following.part(part) is base.part(part)
