"""Profiles beside the real QEMU that they were recorded from."""

from __future__ import annotations

import pytest

from fakeqemu.profile import store
from fakeqemu.recorder import monitors, options, parts
from fakeqemu.recorder.board import machines
from fakeqemu.recorder.board.visits import Visits
from fakeqemu.recorder.qemu import Emulator, Qemu
from tests.support.profiles import ask

__all__ = ["ask"]


@pytest.fixture
def same_build(real_qemu, profile):
    """(emulator, profile recorded from that very build)."""
    emulator = Emulator(real_qemu.binary)
    with Qemu(emulator, *emulator.none) as process:
        version = process.value("query-version")
    if profile.part("version") != version:
        pytest.skip(f"no profile was recorded from {version}")
    return emulator, profile


def test_same_as_the_real_one(ask, same_build):
    """The same questions to both; lists compared with their order."""
    emulator, profile = same_build
    requests = [
        ("query-chardev-backends", {}),  # first: listing types loads modules that add some
        ("query-command-line-options", {"option": "machine"}),
        ("query-machines", {}),
        *(("qom-list-types", {"implements": i}) for i in ("device", "interface", "pci-device", "")),
        *(
            ("qom-list-types", {"implements": i, "abstract": True})
            for i in ("user-creatable", "bus", "hotplug-handler", "resettable", "nope")
        ),
        *(
            (f"{command}-list-properties", {"typename": name})
            for command in ("qom", "device")
            for name in ("virtio-blk-pci", "migration", "iothread", "bus", "tpm-if", "nope")
        ),
        *(
            (
                "query-cpu-model-expansion",
                {"type": kind, "model": {"name": name, "props": props}},
            )
            for kind in ("static", "full")
            for name in ("qemu64", "EPYC", "nope")
            for props in ({}, {"avx2": False, "sse4_1": True}, {"avx2": 1}, {"zz": 1})
        ),
        ("query-cpu-definitions", {}),
        ("query-tpm-models", {}),
        ("query-sev", {}),
        ("query-sgx", {}),
        ("query-sev-attestation-report", {"mnonce": "x"}),
    ]
    with Qemu(emulator, *emulator.none) as qemu:
        replies = qemu.ask_all(requests)
    for (command, arguments), reply in zip(requests, replies, strict=True):
        ours = ask(profile.name, command, **{k.replace("-", "_"): v for k, v in arguments.items()})
        error = reply.get("error")
        theirs = (error["class"], error["desc"]) if error else reply["return"]
        assert ours == theirs, (command, arguments)


@pytest.mark.timeout(300)
def test_recording_again_gives_the_same(same_build):
    emulator, profile = same_build
    recorded = {
        part: store.read_part(profile.folder, part)
        for part in ("commands", "help", "hmp-commands", "queries", "types", "cpus", "options")
    }
    assert parts.record_commands(emulator) == recorded["commands"]
    assert parts.record_help(emulator) == recorded["help"]
    assert monitors.record_hmp(emulator) == recorded["hmp-commands"]
    assert parts.record_queries(emulator, profile.part("schema")) == recorded["queries"]
    assert parts.record_types(emulator) == recorded["types"]
    assert parts.record_cpus(emulator)[0] == recorded["cpus"]
    known = {name: works for name, _, works in recorded["options"]}
    assert options.record_options(emulator, known) == recorded["options"]


def test_recording_a_machine_again_gives_the_same(same_build):
    emulator, profile = same_build
    name = profile.machine("pc").name
    data, trees = machines.record_machines(Visits(emulator), [name])
    for kind, tree in trees.items():
        assert tree[name] == profile.part("trees").get(kind, name)
    expected = profile.per_machine(name)
    # what is asked of other targets besides is not in the profiles of PCs
    assert {k: data[name][k] for k in expected if k != "warnings"} == {
        k: v for k, v in expected.items() if k != "warnings"
    }
