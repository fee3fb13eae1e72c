"""Arguments against the schema: texts, order of checks, conversions, policies."""

from __future__ import annotations

import pytest

from fakeqemu.profile import Profile
from fakeqemu.qapi import qdict, validate
from fakeqemu.qapi.errors import AbortError, CommandNotFoundError, QapiError
from fakeqemu.qapi.json.writer import Fixed
from fakeqemu.qapi.policy import CompatPolicy, hide_output, hide_schema
from fakeqemu.qapi.schema import ArrayType, EnumType, ObjectType
from fakeqemu.qapi.validate import SchemaViolation, check_event, check_reply
from fakeqemu.qapi.visitor import Visitor, check_arguments, check_value, in_one_piece

VERSIONS = ["7.2", "10.0", "11.1", "next"]


def refusal(version: str, command: str, arguments: dict, policy=None) -> str:
    schema = Profile.load(version).schema
    with pytest.raises(QapiError) as caught:
        check_arguments(schema, command, arguments, policy or CompatPolicy())
    return caught.value.desc


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("query-name", {"x": 1}, "Parameter 'x' is unexpected"),
        ("query-name", {"": 1}, "Parameter '' is unexpected"),
        ("qom-get", {}, "Parameter 'path' is missing"),
        ("qom-get", {"path": 1, "x": 1}, "Invalid parameter type for 'path', expected: string"),
        ("netdev_add", {}, "Parameter 'id' is missing"),
        ("netdev_add", {"id": "n", "type": "bad"}, "Parameter 'type' does not accept value 'bad'"),
        ("block_set_io_throttle", {"bps": 1.0, "bps_rd": 0, "bps_wr": 0, "iops": 0},
         "Invalid parameter type for 'bps', expected: integer"),
        ("migrate-set-parameters", {"multifd-channels": "2"},
         "Parameter 'multifd-channels' expects uint64"),
        ("migrate-set-parameters", {"multifd-channels": 256},
         "Parameter 'multifd-channels' expects uint8_t"),
        ("migrate-set-parameters", {"x-checkpoint-delay": 2**32},
         "Parameter 'x-checkpoint-delay' expects uint32_t"),
        ("migrate-set-parameters", {"max-bandwidth": 2.0**64},
         "Parameter 'max-bandwidth' expects uint64"),
        ("migrate-set-parameters", {"tls-creds": 5},
         "Invalid parameter type for 'tls-creds', expected: StrOrNull"),
        ("migrate-set-capabilities", {"capabilities": [{"capability": "xbzrle", "state": 1}]},
         "Invalid parameter type for 'capabilities[0].state', expected: boolean"),
        ("migrate-set-capabilities", {"capabilities": [{"capability": "nope", "state": True}]},
         "Parameter 'capability' does not accept value 'nope'"),
        ("qmp_capabilities", {"enable": ["nope"]}, "Parameter 'null' does not accept value 'nope'"),
        ("blockdev-add", {"driver": "raw", "file": {"driver": "null-co", "size": "1"}},
         "Invalid parameter type for 'file.size', expected: integer"),
        ("blockdev-add", {"driver": "quorum", "vote-threshold": 1, "children": [5]},
         "Invalid parameter type for 'null', expected: BlockdevRef"),
    ],
)  # fmt: skip
def test_texts(version, command, arguments, text):
    assert refusal(version, command, arguments) == text


def test_sizes_below_zero_wrap():
    schema = Profile.load("10.0").schema
    checked = check_arguments(schema, "migrate-set-parameters", {"max-bandwidth": -1})
    assert checked == {"max-bandwidth": 2**64 - 1}


def test_what_is_handed_over_unchecked():
    schema = Profile.load("11.1").schema
    arguments = {"driver": 1, "no-such-property": {}}
    assert check_arguments(schema, "device_add", arguments) == arguments


def test_input_as_deep_as_the_parser_lets_through():
    inner: dict = {"driver": "null-co"}
    for _ in range(1000):
        inner = {"driver": "raw", "file": inner}
    schema = Profile.load("10.0").schema
    checked = check_arguments(schema, "blockdev-add", inner)
    depth = 0
    while "file" in checked:
        checked, depth = checked["file"], depth + 1
    assert depth == 1000


def test_an_unexpected_member_is_chosen_as_qemu_does():
    # seen on a real QEMU: growing and shrinking tables of names
    names = ["bps", "zz13", "bps_max", "zz8", "zz7", "zz9"]
    assert refusal("7.2", "query-name", dict.fromkeys(names, 1)) == (
        f"Parameter '{in_one_piece(qdict.first_unvisited(dict.fromkeys(names), []))}' is unexpected"
    )
    assert in_one_piece(qdict.first_unvisited({"b": None, "a": 1}, [])) == "b"
    many = {
        "device": "y", "d2": 1, "driver": 1, "top": "", "zz17": 1, "zz8": 1, "auto-finalize": True,
        "base": "x", "job-id": "y", "on-error": "auto",
    }  # fmt: skip
    del many["d2"], many["driver"]
    visited = ["job-id", "device", "base", "top", "on-error", "auto-finalize"]
    assert in_one_piece(qdict.first_unvisited(many, visited)) == "zz17"


def test_policy_refuses_input():
    reject = CompatPolicy(deprecated_input="reject", unstable_input="reject")
    assert (
        refusal(
            "10.0",
            "object-add",
            {"id": "g", "qom-type": "throttle-group", "x-iops-total": 5},
            reject,
        )
        == "Unstable parameter x-iops-total disabled by policy"
    )
    feature = Profile.load("10.0").schema.commands["drive-backup"].feature
    with pytest.raises(CommandNotFoundError, match="Deprecated command drive-backup disabled"):
        reject.check_input(feature, "command", "drive-backup", CommandNotFoundError)
    crash = CompatPolicy.from_members({"deprecated-input": "crash"})
    with pytest.raises(AbortError):
        crash.check_input(feature, "command", "drive-backup")


def test_policy_hides_output():
    profile = Profile.load("11.1")
    hide = CompatPolicy(deprecated_output="hide")
    enum = profile.schema.commands["query-qmp-schema"].ret_type
    assert isinstance(enum, ArrayType)
    shown = hide_schema(hide_output(enum, profile.part("schema"), hide), hide)
    names = {entry["name"] for entry in shown}
    assert "drive-backup" not in names
    assert "blockdev-backup" in names
    assert not any("values" in entry for entry in shown)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schema_has_its_real_names_back(version):
    schema = Profile.load(version).schema
    assert "completed" in schema.enum_values("MigrationStatus")
    assert "prelaunch" in schema.enum_values("RunState")
    assert isinstance(schema.named("InetSocketAddress"), ObjectType)
    with pytest.raises(KeyError):
        schema.enum_values("InetSocketAddress")
    status = schema.commands["query-migrate"].ret_type
    assert isinstance(status, ObjectType)
    assert status.name == "MigrationInfo"
    members = {m.name: m.type for m in schema.object("MigrationParameters").members}
    assert members["multifd-channels"].name == "uint8"
    assert members["max-bandwidth"].name == "size"
    assert isinstance(members["multifd-compression"], EnumType)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_type_resolves(version):
    schema = Profile.load(version).schema
    for name in schema.types:
        found = schema.types[name]
        if isinstance(found, ObjectType):
            assert all(member.type is not None for member in found.members)
            assert all(isinstance(found.variant(case), ObjectType) for case in found.variants)
    assert all(schema.commands[name].arg_type is not None for name in schema.commands)


def test_replies_are_checked():
    schema = Profile.load("10.0").schema
    check_reply(schema, "query-status", {"running": True, "status": "running"})
    for bad, path in (
        ({"running": True, "status": "walking"}, r"query-status: return\.status"),
        ({"running": 1, "status": "running"}, r"return\.running is no bool"),
        ({"status": "running"}, r"return\.running is missing"),
        ({"running": True, "status": "running", "x": 1}, r"return\.x is not in the schema"),
    ):
        with pytest.raises(SchemaViolation, match=path):
            check_reply(schema, "query-status", bad)
    check_event(schema, "STOP", None)
    check_event(schema, "RESET", {"guest": False, "reason": "host-qmp-system-reset"})
    with pytest.raises(SchemaViolation):
        check_event(schema, "RESET", {})


def test_what_never_changes_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    schema, other = Profile.load("10.0").schema, Profile.load("11.1").schema
    looks = []
    check = validate._check
    monkeypatch.setattr(validate, "_check", lambda *given: (looks.append(given), check(*given)))
    commands = Fixed([{"name": "a"}] * 3)
    for _ in range(3):
        check_reply(schema, "query-commands", commands)
        check_reply(schema, "query-commands", [*commands])
    assert sum(path.endswith(": return") for _, _, path in looks) == 1 + 3
    check_reply(other, "query-commands", commands)
    assert sum(path.endswith(": return") for _, _, path in looks) == 2 + 3
    for _ in range(2):
        with pytest.raises(SchemaViolation, match="query-name: return"):
            check_reply(schema, "query-name", commands)
        with pytest.raises(SchemaViolation, match=r"return\[0\].name is missing"):
            check_reply(schema, "query-commands", Fixed([{}]))


def test_a_named_value():
    schema = Profile.load("10.0").schema
    with pytest.raises(QapiError, match=r"'a.host' is missing"):
        check_value(schema, schema.named("InetSocketAddress"), {"port": "1"}, "a")


def test_long_lists_are_checked_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"qom-type": "memory-backend-ram", "id": "m", "size": 1}
    good = {**numbers, "host-nodes": [*range(3000), 65535]}
    count, visit = 0, Visitor.visit

    def counted(*args: object) -> object:
        nonlocal count
        count += 1
        return visit(*args)

    monkeypatch.setattr(Visitor, "visit", counted)
    assert check_arguments(Profile.load("10.0").schema, "object-add", good) == good
    names = {"interfaces": ["x"] * 3000, "initial": 1, "max": 1, "rounds": 1, "step": 1}
    assert check_arguments(Profile.load("10.0").schema, "announce-self", names) == names
    assert count < 30
    for bad, text in ((65536, "expects uint16_t"), (True, "uint64"), ("x", "uint64")):
        wrong = {**numbers, "host-nodes": [*range(3000), bad]}
        assert text in refusal("10.0", "object-add", wrong)
    # below zero it wraps, which only a look at each element tells
    assert "uint16_t" in refusal("10.0", "object-add", {**numbers, "host-nodes": [0] * 3000 + [-1]})


def test_so_many_unexpected_members_that_the_table_grows_far() -> None:
    members = {str(number): number for number in range(40_000)}
    text = refusal("10.0", "query-name", members)
    assert text.startswith("Parameter '") and text.endswith("' is unexpected")
