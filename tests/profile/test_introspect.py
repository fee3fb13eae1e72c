"""Introspection commands: their answers and QEMU's refusals."""

from __future__ import annotations

import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.commands.registry import COMMANDS
from fakeqemu.configuration import Configuration
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.validate import check_reply

EVERY = ["7.2", "8.2", "10.0", "11.1", "next"]
GENERIC = "GenericError"


@pytest.mark.parametrize("name", EVERY)
def test_version_and_lists(ask, name):
    profile = Profile.load(name)
    assert ask(name, "query-version") == profile.part("version")
    assert [c["name"] for c in ask(name, "query-commands")] == list(profile.commands)
    assert ask(name, "query-qmp-schema") == profile.part("schema")
    assert ask(name, "query-target") == {"arch": "x86_64"}


@pytest.mark.parametrize("name", EVERY)
def test_option_groups(ask, name):
    assert ask(name, "query-command-line-options", option="nope") == (
        GENERIC,
        "invalid option name: nope",
    )
    assert ask(name, "query-command-line-options", option="netdev") == [
        {"option": "netdev", "parameters": []}
    ]
    assert ask(name, "query-command-line-options", option="") == [{"option": "", "parameters": []}]
    assert len(ask(name, "query-command-line-options")) > 30


@pytest.mark.parametrize(
    ("command", "arguments", "others"),
    [
        ("query-qmp-schema", {}, {}), ("query-commands", {}, {}),
        ("query-command-line-options", {}, {"option": "netdev"}), ("query-cpu-definitions", {}, {}),
        ("query-machines", {}, {"compat_props": True}),
        ("qom-list-types", {}, {"abstract": True}),
        ("qom-list-types", {"implements": "device"}, {"implements": "machine"}),
    ],
)  # fmt: skip
def test_what_never_changes_is_made_once(ask, command, arguments, others):
    once = ask("10.0", command, **arguments)
    assert ask("10.0", command, **arguments) is once
    assert ask("11.1", command, **arguments) != once
    if others:
        assert ask("10.0", command, **others) != once


def test_types_of_no_kind_are_not_kept(ask):
    before = len(Profile.load("10.0").replies)
    assert [ask("10.0", "qom-list-types", implements=f"none-{n}") for n in range(9)] == [[]] * 9
    assert len(Profile.load("10.0").replies) == before


@pytest.mark.parametrize("name", ["10.0", "11.1"])
def test_machines(ask, name):
    plain = ask(name, "query-machines")
    full = ask(name, "query-machines", compat_props=True)
    assert [{k: v for k, v in m.items() if k != "compat-props"} for m in full] == plain
    assert full == Profile.load(name).part("machines").get("entries")
    assert all("compat-props" not in machine for machine in plain)


def test_machine_types_that_are_added_are_like_the_newest_recorded_ones(ask):
    before = {machine["name"]: machine for machine in ask("11.1", "query-machines")}
    now = {machine["name"]: machine for machine in ask("next", "query-machines")}
    for name, like in (("pc-q35-11.2", "pc-q35-11.1"), ("pc-i440fx-11.2", "pc-i440fx-11.1")):
        assert now.pop(name) == {**before[like], "name": name}
        only_newest = ("alias", "is-default")
        assert now[like] == {k: v for k, v in before[like].items() if k not in only_newest}
        before[like] = now[like]
    assert now == before
    types = {entry["name"] for entry in ask("next", "qom-list-types")}
    assert {"pc-q35-11.2-machine", "pc-q35-11.1-machine"} <= types
    ours = {"name": "pc-q35-11.2-machine", "parent": "generic-pc-machine"}
    for kind in ("machine", "nmi", "hotplug-handler"):
        assert ours in ask("next", "qom-list-types", implements=kind)
    newest, like = (
        ask(name, "qom-list-properties", typename=typename)
        for name, typename in (("next", "pc-q35-11.2-machine"), ("11.1", "pc-q35-11.1-machine"))
    )
    assert newest == like


def test_machines_without_compat(ask):
    """7.2 cannot tell them, though the profile knows some."""
    assert all("compat-props" not in machine for machine in ask("7.2", "query-machines"))


@pytest.mark.parametrize("name", EVERY)
def test_types(ask, name):
    every = ask(name, "qom-list-types", abstract=True)
    concrete = ask(name, "qom-list-types")
    assert [t for t in every if not t.get("abstract")] == concrete
    assert {"name": "device", "abstract": True, "parent": "object"} in every
    assert {"name": "object", "abstract": True} in every
    assert ask(name, "qom-list-types", implements="nope") == []
    assert ask(name, "qom-list-types", implements="") == []
    assert ask(name, "qom-list-types", implements="tpm-if") == [
        {"name": "tpm-crb", "parent": "device"},
        {"name": "tpm-tis", "parent": "isa-device"},
    ]
    bridges = ask(name, "qom-list-types", implements="pci-bridge", abstract=True)
    assert [t["name"] for t in bridges] == ["pci-bridge", "pci-bridge-seat"]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("command", "typename", "error"),
    [
        ("qom-list-properties", "nope", ("DeviceNotFound", "Class 'nope' not found")),
        (
            "qom-list-properties",
            "user-creatable",
            (GENERIC, "Parameter 'typename' expects a QOM type"),
        ),
        ("qom-list-properties", "interface", (GENERIC, "Parameter 'typename' expects a QOM type")),
        ("device-list-properties", "", ("DeviceNotFound", "Device '' not found")),
        *(
            (
                "device-list-properties",
                typename,
                (GENERIC, "Parameter 'typename' expects a non-abstract device type"),
            )
            for typename in ("iothread", "pci-device", "interface", "device")
        ),
    ],
)
def test_refused_types(ask, name, command, typename, error):
    assert ask(name, command, typename=typename) == error


def test_properties(ask):
    assert {"name": "iobase", "type": "uint32", "default-value": 233} in ask(
        "10.0", "device-list-properties", typename="isa-debugcon"
    )
    assert {"name": "type", "type": "string"} in ask(
        "10.0", "qom-list-properties", typename="pci-device"
    )


def test_a_type_that_could_not_be_recorded_is_not_modelled(ask):
    assert ask("7.2", "qom-list-properties", typename="colo-compare") == (
        GENERIC,
        "fakeqemu does not model 'qom-list-properties colo-compare'",
    )


@pytest.mark.parametrize("name", EVERY)
def test_cpu_expansion(ask, name):
    plain = ask(name, "query-cpu-model-expansion", type="static", model={"name": "qemu64"})
    assert plain["model"]["name"] == "base"
    assert plain["model"]["props"]["sse4.1"] is False
    changed = ask(
        name,
        "query-cpu-model-expansion",
        type="static",
        model={"name": "qemu64", "props": {"sse4_1": True, "family": 6}},
    )["model"]["props"]
    differing = {k for k, v in changed.items() if plain["model"]["props"][k] != v}
    assert differing == {"sse4.1", "family"}
    full = ask(name, "query-cpu-model-expansion", type="full", model={"name": "qemu64"})
    assert full["model"]["name"] == "qemu64"
    assert ask(name, "query-cpu-model-expansion", type="full", model={"name": "nope"}) == (
        GENERIC,
        "CPU model 'nope' not found",
    )


@pytest.mark.parametrize(
    ("props", "old", "new"),
    [
        ({"nope": 1}, "Property 'qemu64-x86_64-cpu.nope' not found", None),
        ({"type": "x"}, "Property 'qemu64-x86_64-cpu.type' is not writable", None),
        (
            {"sse4.1": "maybe"},
            "Invalid parameter type for 'sse4.1', expected: boolean",
            "Invalid parameter type for 'model.props.sse4.1', expected: boolean",
        ),
        (
            {"level": "x"},
            "Parameter 'level' expects uint64",
            "Parameter 'model.props.level' expects uint64",
        ),
        ({"level": -1}, "Parameter 'level' expects uint32_t", None),
        (
            {"family": "x"},
            "Invalid parameter type for 'family', expected: integer",
            "Parameter 'model.props.family' expects uint64",
        ),
        (
            {"family": 1000},
            "Property .family doesn't take value 1000 (minimum: 0, maximum: 270)",
            "parameter 'family' can be at most 270",
        ),
        (
            {"vendor": "x"},
            "Property '.vendor' doesn't take value 'x'",
            "value of property 'vendor' must consist of exactly 12 characters",
        ),
        (
            {"tsc-frequency": "x"},
            "Invalid parameter type for 'tsc-frequency', expected: integer",
            "Invalid parameter type for 'model.props.tsc-frequency', expected: integer",
        ),
    ],
)
def test_cpu_properties_are_checked(ask, props, old, new):
    for name, text in (("7.2", old), ("10.0", new or old), ("11.1", new or old)):
        model = {"name": "qemu64", "props": props}
        reply = ask(name, "query-cpu-model-expansion", type="static", model=model)
        assert reply == (GENERIC, text)


def test_commands_of_other_targets(ask):
    assert ask("11.1", "query-gic-capabilities") == (
        GENERIC,
        "GIC hardware is not available on this target",
    )
    assert ask("11.1", "query-cpu-model-baseline", modela={}, modelb={}) == (
        GENERIC,
        "CPU model baseline is not supported on this target",
    )
    assert "query-gic-capabilities" not in Profile.load("10.0").commands


@pytest.mark.parametrize("name", EVERY)
def test_built_in(ask, name):
    assert ask(name, "query-tpm-types") == ["passthrough", "emulator"]
    assert {"name": "socket"} in ask(name, "query-chardev-backends")
    assert ask(name, "query-sev-capabilities") == (GENERIC, "KVM not enabled")


@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
def test_accelerator_in_use(accelerator):
    vm = Machine(Profile.load("11.1"), Configuration(), VirtualClock(), NullHost())
    vm.state.accelerator = accelerator
    in_use = accelerator == "kvm"
    assert COMMANDS["query-kvm"].function(vm) == {"enabled": in_use, "present": True}
    assert COMMANDS["query-accelerators"].function(vm) == {
        "enabled": accelerator,
        "present": ["kvm", "mshv", "qtest", "tcg"],
    }
    with pytest.raises(QapiError, match=r"not enabled in KVM" if in_use else "KVM not enabled"):
        COMMANDS["query-sev-capabilities"].function(vm)


@pytest.mark.parametrize("name", EVERY)
def test_replies_have_the_type_of_the_schema(ask, name):
    for command in (
        *("query-version", "query-commands", "query-qmp-schema", "query-command-line-options"),
        *("query-machines", "query-target", "qom-list-types", "query-cpu-definitions"),
        *("query-chardev-backends", "query-tpm-models", "query-tpm-types", "query-kvm"),
        "query-sev",
    ):
        check_reply(Profile.load(name).schema, command, ask(name, command))
