"""Profiles beside the real QEMU that they were recorded from."""

from __future__ import annotations

import pytest

from fakeqemu.profile import store
from tests.support.profiles import ask, recording

__all__ = ["ask", "recording"]


@pytest.fixture
def same_build(real_qemu, profile, recording):
    """(binary, profile recorded from that very build)."""
    qemu = recording["qemu"]
    with qemu.Qemu(real_qemu.binary, *recording["parts"].NONE) as process:
        version = process.value("query-version")
    if profile.part("version") != version:
        pytest.skip(f"no profile was recorded from {version}")
    return real_qemu.binary, profile


def test_same_as_the_real_one(ask, same_build, recording):
    """The same questions to both; lists compared with their order."""
    binary, profile = same_build
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
    with recording["qemu"].Qemu(binary, *recording["parts"].NONE) as qemu:
        replies = qemu.ask_all(requests)
    for (command, arguments), reply in zip(requests, replies, strict=True):
        ours = ask(profile.name, command, **{k.replace("-", "_"): v for k, v in arguments.items()})
        error = reply.get("error")
        theirs = (error["class"], error["desc"]) if error else reply["return"]
        assert ours == theirs, (command, arguments)


@pytest.mark.timeout(300)
def test_recording_again_gives_the_same(same_build, recording):
    binary, profile = same_build
    parts = recording["parts"]
    recorded = {
        part: store.read_part(profile.folder, part)
        for part in ("commands", "help", "hmp-commands", "queries", "types", "cpus", "options")
    }
    assert parts.record_commands(binary) == recorded["commands"]
    assert parts.record_help(binary) == recorded["help"]
    assert recording["hmp"].record_hmp(binary, profile.name) == recorded["hmp-commands"]
    assert parts.record_queries(binary, profile.part("schema")) == recorded["queries"]
    assert parts.record_types(binary) == recorded["types"]
    assert parts.record_cpus(binary)[0] == recorded["cpus"]
    known = [name for name, *_ in recorded["options"]]
    assert recording["options"].record_options(binary, known) == recorded["options"]


def test_recording_a_machine_again_gives_the_same(same_build, recording):
    binary, profile = same_build
    name = profile.machine("pc").name
    data, trees = recording["machines"].record_machines(binary, [name])
    for kind, tree in trees.items():
        assert tree[name] == profile.part("trees").get(kind, name)
    expected = profile.per_machine(name)
    assert {k: v for k, v in data[name].items() if k != "warnings"} == {
        k: v for k, v in expected.items() if k != "warnings"
    }
