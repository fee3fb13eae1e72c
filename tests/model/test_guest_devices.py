"""Queries that show devices which only a guest would use: as a real QEMU with them answers."""

from __future__ import annotations

import re

import pytest

from fakeqemu.qapi.errors import StartupError

GUID = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"
CRYPTO = [
    *("-object", "cryptodev-backend-builtin,id=c0"),
    *("-device", "virtio-crypto-pci,cryptodev=c0"),
]


def test_the_generation_id_is_the_one_given_in_small_letters(start):
    machine = start("-M", "pc", "-device", f"vmgenid,guid={GUID.upper()}")
    assert machine.ask("query-vm-generation-id") == {"guid": GUID}
    text = machine.ask("human-monitor-command", command_line="info vm-generation-id")
    assert text == f"{GUID}\r\n"


def test_without_one_it_is_chosen_and_without_a_device_there_is_none(start):
    machine = start("-M", "pc", "-device", "vmgenid")
    guid = machine.ask("query-vm-generation-id")["guid"]
    assert re.fullmatch(r"[0-9a-f-]{36}", guid)
    assert (
        machine.ask("qom-get", path="/machine/peripheral-anon/device[0]", property="guid") == guid
    )
    assert (
        start("-M", "pc").error("query-vm-generation-id")[1] == "VM Generation ID device not found"
    )


@pytest.mark.parametrize(
    ("machine", "devices", "text"),
    [
        ("pc", ["vmgenid", "vmgenid"], "at most one vmgenid device is permitted"),
        ("pc", ["vmgenid,guid=x"], "Property 'vmgenid.guid' doesn't take value 'x'"),
        ("pc", [f"vmgenid,guid={GUID.replace('-', '')}"], "doesn't take value"),
        ("pc-i440fx-2.4", ["vmgenid"], "vmgenid requires DMA write support in fw_cfg"),
        ("none", ["vmgenid"], "vmgenid requires DMA write support in fw_cfg"),
    ],
)
def test_a_generation_id_that_cannot_be(start, machine, devices, text):
    with pytest.raises(StartupError, match=text):
        words = [word for each in devices for word in ("-device", each)]
        start("-M", machine, *words, profile="10.0")


def test_virtio_devices_are_listed_by_their_virtio_names(start):
    options = ["-device", "virtio-balloon-pci,id=b", "-device", "virtio-keyboard-pci,id=k"]
    older = start("-M", "pc", *options, "-device", "virtio-gpu-pci,id=g", profile="7.2")
    assert older.ask("x-query-virtio") == [
        {"name": "virtio-gpu", "path": "/machine/peripheral/g/virtio-backend"},
        {"name": "virtio-input", "path": "/machine/peripheral/k/virtio-backend"},
        {"name": "virtio-balloon", "path": "/machine/peripheral/b/virtio-backend"},
    ]
    newer = start("-M", "pc", *options, profile="11.1")
    names = {device["name"] for device in newer.ask("x-query-virtio")}
    assert names == {"virtio-balloon", "virtio-input"}
    text = newer.ask("human-monitor-command", command_line="info virtio")
    assert "/machine/peripheral/b/virtio-backend [virtio-balloon]\r\n" in text


def test_without_virtio_devices(start):
    assert start("-M", "none", profile="7.2").ask("x-query-virtio") == []
    refused = start("-M", "none", profile="10.0").error("x-query-virtio")
    assert refused == ("GenericError", "No virtio devices found")


def test_cryptodev_backends_and_what_they_count(start):
    machine = start("-M", "pc", *CRYPTO, profile="10.0")
    assert machine.ask("query-cryptodev") == [
        {
            "id": "c0",
            "service": ["mac", "hash", "cipher"],
            "client": [{"queue": 0, "type": "builtin"}],
        }
    ]
    text = machine.ask("human-monitor-command", command_line="info cryptodev")
    assert text == "c0: service=[mac|hash|cipher]\r\n    queue 0: type=builtin\r\n"
    [result] = machine.ask("query-stats", target="cryptodev")
    assert (result["provider"], result["qom-path"]) == ("cryptodev", "/objects/c0")
    assert result["stats"][0] == {"name": "sym-decrypt-bytes", "value": 0}
    for provider in ({"provider": "kvm"}, {"provider": "cryptodev", "names": []}):
        assert machine.ask("query-stats", target="cryptodev", providers=[provider]) == []
    assert machine.ask("query-stats", target="vm") == []
