"""-m maxmem and -cpu phys-bits: what the CPUs cannot address; texts are those of real ones."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu


def machine(type: str, memory: str, *more: str, profile: str = "10.0") -> FakeQemu:
    return FakeQemu("-machine", type, "-nodefaults", "-m", memory, *more, profile=profile)


@pytest.mark.parametrize(
    ("profile", "type", "memory", "more", "said"),
    [
        ("7.2", "pc", "64,maxmem=3T,slots=2", (), "0xffffffffff < 0x400ffffffff|40"),
        ("10.0", "pc", "64,maxmem=3T,slots=2", (), "0xffffffffff < 0x400ffffffff|40"),
        ("10.0", "pc", "64,maxmem=1T,slots=2", ("-cpu", "qemu64,phys-bits=39"),
         "0x7fffffffff < 0x200ffffffff|39"),
        ("7.2", "q35", "64,maxmem=2T,slots=2", ("-cpu", "Skylake-Client,check=off"),
         "0xffffffffff < 0x2097fffffff|40"),
        ("7.2", "q35", "64,maxmem=2T,slots=2", ("-cpu", "athlon"),
         "0xfffffffff < 0x3087fffffff|36"),
        ("10.0", "q35", "64,maxmem=2T,slots=2", ("-cpu", "athlon"),
         "0xfffffffff < 0x3007bffffff|36"),
        ("10.0", "pc", "4G", ("-cpu", "qemu64,phys-bits=32"), "0xffffffff < 0x1bfffffff|32"),
        ("10.0", "pc", "5G", ("-cpu", "pentium"), "0xffffffff < 0x17fffffff|32"),
        ("11.1", "q35", "4G", ("-cpu", "486"), "0xffffffff < 0x17fffffff|32"),
    ],
)  # fmt: skip
async def test_memory_too_far_away(
    profile: str, type: str, memory: str, more: tuple[str, ...], said: str
) -> None:
    with pytest.raises(StartupError) as caught:
        async with machine(type, memory, *more, profile=profile):
            pass
    numbers, _, bits = said.partition("|")
    text = f"Address space limit {numbers} phys-bits too low ({bits})"
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("profile", "type", "memory", "more"),
    [
        # an AMD CPU of an older machine has nothing in the way below 1 TiB
        ("10.0", "pc-i440fx-7.0", "64,maxmem=1012G,slots=1", ("-cpu", "qemu64")),
        ("7.2", "pc", "64", ("-cpu", "qemu64,phys-bits=32")),
        ("10.0", "pc-q35-8.1", "64,maxmem=10G,slots=2", ("-cpu", "pentium")),
        ("10.0", "microvm", "64", ("-cpu", "qemu64,phys-bits=32")),
    ],
)
async def test_memory_within_reach(
    profile: str, type: str, memory: str, more: tuple[str, ...]
) -> None:
    async with machine(type, memory, *more, profile=profile) as running:
        assert (await running.qmp("query-status"))["status"] == "running"


async def test_the_size_of_the_hole_is_the_bridges() -> None:
    size = ("-global", "q35-pcihost.pci-hole64-size=256G")
    with pytest.raises(StartupError, match="0xfffffffff < 0x40ffffffff phys-bits"):
        async with machine("q35", "64", "-cpu", "qemu64,phys-bits=36", *size):
            pass


@pytest.mark.parametrize(("cpu", "start"), [("qemu64", 1 << 40), ("Skylake-Client", 1 << 32)])
async def test_memory_devices_lie_out_of_the_way_of_amd(cpu: str, start: int) -> None:
    words = ("-cpu", f"{cpu},phys-bits=45,check=off",
             "-object", "memory-backend-ram,id=m,size=128M", "-device", "pc-dimm,memdev=m")
    async with machine("pc", "64,maxmem=2T,slots=2", *words) as running:
        (device,) = await running.qmp("query-memory-devices")
        assert device["data"]["addr"] == start
