"""Profiles without a program: composed of a recorded probe and of recorded versions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.profile import Profile, store
from fakeqemu.profile.packing import Packed
from fakeqemu.recorder.composed import compose, texts
from fakeqemu.recorder.composed.cut import Cut, UnfitError
from fakeqemu.recorder.composed.properties import Family, compose_listed, with_old_defaults
from fakeqemu.recorder.composed.trees import TreeCut

#: release -> recorded version that it is composed on
COMPOSED = {"6.2": "7.2", "7.0": "7.2", "7.1": "7.2", "8.0": "8.2", "8.1": "8.2", "9.0": "10.0",
            "9.1": "10.0", "9.2": "10.0"}


# -- what comes along ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPOSED)
def test_releases_come_along(name: str) -> None:
    profile = Profile.load(name)
    assert str(profile.version) == f"{name}.0"
    how = store.how_composed(profile.folder)
    assert how is not None and how["bases"][0] == COMPOSED[name]
    assert how["file"] == f"caps_{name}.0_x86_64"
    there = {part for part in how["parts"] if (profile.folder / part).exists()}
    assert not there.intersection(how["shared"])
    size = sum(file.stat().st_size for file in profile.folder.iterdir())
    assert size < 400_000


def test_recorded_ones_are_not_composed() -> None:
    recorded = Profile.names(composed=False)
    assert recorded == ["7.2", "8.2", "10.0", "11.1", "next"]
    assert set(Profile.names()) == {*recorded, *COMPOSED}


@pytest.mark.parametrize("name", COMPOSED)
def test_nothing_is_beyond_what_the_version_has(name: str) -> None:
    profile = Profile.load(name)
    commands = {each["name"] for each in profile.part("schema") if each["meta-type"] == "command"}
    assert set(profile.commands) == commands
    assert set(profile.part("queries")) <= commands
    types = profile.qom_types
    assert set(profile.part("devices").keys()) <= set(types)
    assert set(profile.part("properties").keys("device")) <= set(types)
    for machine in profile.machines:
        assert machine.typename in types
        assert machine.version is None or machine.version <= _release(name)
    newest = profile.machine("q35")
    assert newest.version == _release(name)
    root = profile.object_tree(newest.name, defaults=True)
    nodes = [root]
    for node in nodes:
        assert node.type in types
        nodes.extend(node.children.values())
    listed = {each["name"] for each in profile.qom_properties(newest.typename)}
    assert {n for n, s in root.at("machine").properties if not s.startswith("child<")} >= {"type"}
    assert "smp" in listed


@pytest.mark.parametrize("name", COMPOSED)
def test_what_is_recorded_of_a_machine_fits_the_schema(name: str) -> None:
    profile = Profile.load(name)
    cut = Cut(profile.part("schema"))
    fresh = profile.per_machine(profile.machine("q35").name)
    for command, member in (("query-cpus-fast", "cpus"), ("query-pci", "pci-defaults"),
                            ("query-migrate-parameters", "parameters")):
        assert cut.reply(command, fresh[member]) == fresh[member]
    assert [each["capability"] for each in fresh["capabilities"]] == list(
        profile.migration_defaults.capabilities
    )


def _release(name: str) -> tuple[int, int]:
    major, minor = name.split(".")
    return int(major), int(minor)


# -- composing -----------------------------------------------------------------------------------


def replies_of(profile: Profile, change: dict[str, Any]) -> str:
    """A probe as `profile` would have answered it, with other replies in places."""
    asked: dict[str, Any] = {
        "query-version": profile.part("version"),
        "query-target": profile.query("query-target")["return"],
        "query-qmp-schema": profile.part("schema"),
        "qom-list-types": [
            {"name": each.name, "parent": each.parent}
            for each in profile.qom_types.values()
            if not each.abstract
        ],
        "query-machines": [machine.entry for machine in profile.machines],
        "query-command-line-options": profile.option_groups,
        "query-cpu-definitions": profile.cpu_definitions,
        "query-migrate-capabilities": profile.per_machine("none")["capabilities"],
        **change,
    }
    rows = []
    for number, (command, value) in enumerate(asked.items()):
        rows += [{"execute": command, "id": f"libvirt-{number}"},
                 {"id": f"libvirt-{number}", "return": value}]
    rows += [
        {"execute": "device-list-properties", "arguments": {"typename": "e1000"}},
        {"return": profile.device_properties("e1000")},
    ]
    return "\n\n".join(json.dumps(row, indent=2) for row in rows)


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11.1 composed of its own replies, but as 11.0 and without some things."""
    folder = tmp_path_factory.mktemp("composed")
    real = Profile.load("11.1")
    types = [{"name": t.name, "parent": t.parent} for t in real.qom_types.values()
             if not t.abstract and t.name != "e1000e"]
    schema = [e for e in real.part("schema") if e["name"] != "query-kvm"]
    machines = [m.entry for m in real.machines if m.name != "pc-q35-9.2"]
    change = {"qom-list-types": types, "query-qmp-schema": schema, "query-machines": machines,
              "query-version": {"qemu": {"major": 11, "minor": 0, "micro": 0}, "package": ""}}
    (folder / "caps.replies").write_text(replies_of(real, change))
    out = io.StringIO()
    assert compose(folder / "caps.replies", folder / "mine", "11.1", out) == 0
    assert "27 parts" in out.getvalue()
    return folder / "mine"


def test_cut_to_what_the_file_has(composed: Path) -> None:
    profile, real = Profile.load(str(composed)), Profile.load("11.1")
    assert str(profile.version) == "11.0.0"
    assert "query-kvm" in real.commands and "query-kvm" not in profile.commands
    assert "query-kvm" not in profile.part("queries")
    assert "e1000e" not in profile.qom_types
    assert "e1000e" not in profile.part("devices")
    assert 'name "e1000e"' not in profile.help("-device help")
    with pytest.raises(KeyError):
        profile.machine("pc-q35-9.2")
    assert "pc-q35-9.2" not in profile.help("-machine help")
    assert "version 11.0.0\nCopyright (c) 2003-2026" in profile.help("-version")
    tree = profile.object_tree("pc-q35-11.1", defaults=True)
    kinds = [shape for _, shape in tree.at("machine/unattached").properties]
    assert "child<e1000e>" not in kinds


def test_all_else_is_as_recorded(composed: Path) -> None:
    profile, real = Profile.load(str(composed)), Profile.load("11.1")
    ours, theirs = ([row["name"] for row in each.part("hmp-commands")["info"]]
                    for each in (profile, real))
    # what the human monitor shows by a command that is not there
    assert set(theirs) - set(ours) == {"kvm"}
    for part in ("options", "block-drivers", "cpus", "option-groups",
                 "cpu-features", "gdb-features"):
        ours, theirs = ((v.get() if isinstance(v, Packed) else v)
                        for v in (profile.part(part), real.part(part)))
        assert (sorted(ours) if part == "options" else ours) == theirs, part
    assert profile.device_properties("virtio-blk-pci") == real.device_properties("virtio-blk-pci")
    assert profile.per_machine("pc-q35-11.1") == real.per_machine("pc-q35-11.1")
    assert {t: real.qom_types[t] for t in profile.qom_types} == profile.qom_types


def test_what_is_the_same_is_not_stored_again(composed: Path) -> None:
    how = store.how_composed(composed)
    assert how is not None and "gdb-features" in how["shared"]
    assert not (composed / "gdb-features.json.gz").exists()
    assert {"version", "inferred", "schema"}.isdisjoint(how["shared"])


def test_the_same_bytes_again(composed: Path, tmp_path: Path) -> None:
    compose(composed.parent / "caps.replies", tmp_path / "mine", "11.1", io.StringIO())
    names = {file.name for file in composed.iterdir()}
    assert names == {file.name for file in (tmp_path / "mine").iterdir()}
    for name in names:
        assert (tmp_path / "mine" / name).read_bytes() == (composed / name).read_bytes(), name


def test_a_part_that_no_version_has(composed: Path) -> None:
    with pytest.raises(store.MissingPartError, match="does not model 'nothing'"):
        Profile.load(str(composed)).part("nothing")


def test_unusable(tmp_path: Path) -> None:
    file = tmp_path / "x.replies"
    for text, reason in (("{", "no requests"), ("[1]", "query-version"), ("{}", "query-version")):
        file.write_text(text)
        with pytest.raises(ValueError, match=reason):
            compose(file, tmp_path / "mine", "10.0", io.StringIO())
    real = Profile.load("10.0")
    file.write_text(replies_of(real, {}))
    for base in ("9.0", "next", "10.0+config-argument"):
        with pytest.raises(LookupError, match="not a recorded version"):
            compose(file, tmp_path / "mine", base, io.StringIO())
    file.write_text(replies_of(real, {"query-target": {"arch": "s390x"}}))
    with pytest.raises(LookupError, match=r"10\.0 is of x86_64, and the file of s390x"):
        compose(file, tmp_path / "mine", "10.0", io.StringIO())
    assert not (tmp_path / "mine").exists()


# -- the pieces ----------------------------------------------------------------------------------


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "bool", **more}


def test_what_changed_of_relatives() -> None:
    family = Family({"pci": None, "net": "pci", "a": "net", "b": "net", "c": "net", "d": "pci",
                     "e": "pci"})
    known = {
        "a": [entry("ext"), entry("old"), entry("own")],
        "b": [entry("ext"), entry("old")],
        "c": [entry("ext"), entry("old")],
        "d": [entry("ext"), entry("other")],
        "e": [entry("ext")],
    }
    said = {"a": [entry("old", default=1), entry("new")], "b": [entry("old", default=1),
            entry("new")], "e": []}
    found = compose_listed(said, known, family)
    # `old` and `new` are those of all NICs, `ext` of all PCI devices, `own` of one
    assert found["c"] == [entry("old", default=1), entry("new")]
    assert found["d"] == [entry("other")]
    assert found["a"] == said["a"]


def test_one_type_may_have_got_a_property_of_its_own() -> None:
    family = Family({"disk": None, "hd": "disk", "cd": "disk"})
    known = {"hd": [entry("x"), entry("y")], "cd": [entry("x")]}
    assert compose_listed({"hd": [entry("x"), entry("n")]}, known, family)["cd"] == [entry("x")]
    assert compose_listed({"hd": [entry("y")]}, known, family)["cd"] == []


def test_old_defaults() -> None:
    family = Family({"virtio": None, "blk": "virtio"})
    listed = {"blk": [{**entry("a"), "default-value": True},
                      {"name": "n", "type": "int", "default-value": 4}, entry("z")]}
    compat = [("virtio", "a", "off"), ("blk", "n", "0x10"), ("blk", "z", "on"), ("other", "a", "1")]
    with_old_defaults(listed, compat, family, {})
    assert [each.get("default-value") for each in listed["blk"]] == [False, 16, None]


def test_replies_of_another_schema() -> None:
    cut = Cut([
        {"name": "query-x", "meta-type": "command", "arg-type": "0", "ret-type": "[1]"},
        {"name": "1", "meta-type": "object", "tag": "kind", "members": [
            {"name": "kind", "type": "2"}, {"name": "more", "type": "int", "default": None}],
         "variants": [{"case": "a", "type": "3"}, {"case": "b", "type": "4"}]},
        {"name": "2", "meta-type": "enum", "values": ["a", "b"], "members": []},
        {"name": "3", "meta-type": "object", "members": [{"name": "of-a", "type": "str"}]},
        {"name": "4", "meta-type": "object", "members": []},
    ])
    value = [{"kind": "a", "of-a": "x", "new": 1}, {"kind": "c"}, {"kind": "a"},
             {"of-b": 1, "kind": "b", "more": 2}]
    assert cut.reply("query-x", value) == [{"kind": "a", "of-a": "x"}, {"kind": "b", "more": 2}]
    with pytest.raises(UnfitError):
        cut.reply("query-y", [])


def test_trees_share_what_was_cut() -> None:
    leaf = {"type": "irq", "properties": [["type", "string"]], "values": {}, "errors": {},
            "children": {}}
    node = {"type": "nic", "properties": [["type", "string"], ["gone", "bool"], ["i", "child<irq>"],
            ["n", "child<new>"]], "values": {"gone": True}, "errors": {},
            "children": {"i": leaf, "n": {**leaf, "type": "new"}}}
    changes = {"nic": {"gone": None, "added": {"type": "int", "default-value": 3}, "b": entry("b")}}
    cut = TreeCut({"nic", "irq"}, lambda name: changes.get(name, {}))
    found = cut.cut(node)
    assert found["properties"] == [["type", "string"], ["i", "child<irq>"], ["added", "int"]]
    assert found["values"] == {"added": 3} and found["children"] == {"i": leaf}
    assert cut.cut(node) is found and found["children"]["i"] is leaf


@pytest.mark.parametrize("name", ["7.2", "8.2", "10.0", "11.1"])
def test_texts_of_all_that_a_version_has_are_its_own(name: str) -> None:
    profile = Profile.load(name)
    text = profile.help("-cpu help")
    assert texts.cpus(text, {each["name"] for each in profile.cpu_definitions}, None) == text
    text = profile.help("-machine help")
    entries = [machine.entry for machine in profile.machines]
    assert texts.machine_help(text, entries, texts.descriptions(text)) == text
    text = profile.help("-device help")
    assert texts.devices(text, set(profile.qom_types)) == text
    assert texts.version(profile.help("-version"), profile.part("version")).startswith(
        f"QEMU emulator version {profile.version} ({profile.version.package})\n"
    )


def test_a_machine_type_from_elsewhere_has_its_place() -> None:
    text = "Supported machines are:\nb-3 X\nb-1 X (default)\nnone empty\n"
    entries = [{"name": n} for n in ("b-3", "b-1", "none", "b-2")]
    lines = texts.machine_help(text, entries, {"b-2": "two"}).split("\n")
    assert [line.split(" ")[0] for line in lines[1:-1]] == ["b-3", "b-2", "b-1", "none"]


@pytest.mark.parametrize(
    ("option", "first", "last"),
    [
        ("audio", "7.1", None),
        ("async-teardown", "7.2", "8.2"),
        ("run-with", "8.1", None),
        ("chroot", None, "8.2"),
        ("portrait", None, "9.1"),
        ("runas", None, "9.2"),
        ("shim", "10.0", None),
    ],
)
def test_an_option_is_there_from_its_first_release_to_its_last(
    option: str, first: str | None, last: str | None
) -> None:
    """What -help lists at the releases, see qemu-options.hx of each."""
    releases = [name for name in Profile.names() if name != "next"]
    there = [
        name
        for name in releases
        if any(row[0] == option for row in Profile.load(name).part("options"))
    ]
    begin = releases.index(first) if first else 0
    end = releases.index(last) + 1 if last else len(releases)
    assert there == releases[begin:end]
