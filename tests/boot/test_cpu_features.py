"""-cpu MODEL,+x,-y,z=v: what the CPUs have, and what is said of what TCG does not have.

Texts are those of real ones.
"""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

FIRST = "/machine/unattached/device[0]"


def machine(cpu: str, *more: str, profile: str = "10.0") -> FakeQemu:
    return FakeQemu("-machine", "q35", "-nodefaults", "-cpu", cpu, *more, profile=profile)


async def warnings(cpu: str, *more: str, profile: str = "10.0") -> list[str]:
    async with machine(cpu, *more, profile=profile) as running:
        return [line.rpartition("warning: ")[2] for line in running.stderr.getvalue().splitlines()]


PCID = "TCG doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]"


@pytest.mark.parametrize(
    ("cpu", "said"),
    [
        ("qemu64", []),
        ("qemu64,+pcid", [PCID]),
        ("qemu64,pcid=on", [PCID]),
        ("qemu64,+pcid,-pcid", []),
        ("qemu64,+pcid,check=off", []),
        ("qemu64,+vmx-vpid", ["This feature depends on other features that were not requested: "
                              "MSR(48BH).vmx-vpid [bit 5]"]),
    ],
)  # fmt: skip
async def test_what_is_said(cpu: str, said: list[str]) -> None:
    assert await warnings(cpu) == said


async def test_each_cpu_says_it_in_the_order_of_the_bits() -> None:
    said = await warnings("Skylake-Client,+ds", "-smp", "2")
    assert said[0].endswith("CPUID.01H:EDX.ds [bit 21]")
    assert said[1] == PCID
    assert said == said[: len(said) // 2] * 2


async def test_newer_versions_name_leaves_in_another_way() -> None:
    (said,) = await warnings("qemu64,+pcid", profile="11.1")
    assert said.endswith("CPUID[eax=01h].ECX.pcid [bit 17]")


async def test_what_the_cpu_has() -> None:
    async with machine("Skylake-Client,+pcid,-avx2,sse4_1=off,level=5") as running:
        for name, value in (
            ("pcid", False), ("avx2", False), ("sse4.1", False), ("sse4-1", False), ("level", 5)
        ):  # fmt: skip
            assert await running.qmp("qom-get", {"path": FIRST, "property": name}) == value
        where = {"path": FIRST, "property": "unavailable-features"}
        missing = await running.qmp("qom-get", where)
        assert missing[:2] == ["pcid", "tsc-deadline"]


@pytest.mark.parametrize(
    ("cpu", "profile", "version"),
    [
        ("max", "7.2", (15, 107, 1)),
        ("max", "10.0", (6, 6, 3)),
        ("max,+lm,model=3", "11.1", (6, 6, 3)),
        ("max,family=0,lm=on", "11.1", (15, 107, 1)),
        ("max,family=5,stepping=2", "10.0", (5, 0, 2)),
    ],
)
async def test_what_the_largest_model_says_it_is(
    cpu: str, profile: str, version: tuple[int, int, int]
) -> None:
    async with machine(cpu, profile=profile) as running:
        for name, value in zip(("family", "model", "stepping"), version, strict=True):
            assert await running.qmp("qom-get", {"path": FIRST, "property": name}) == value
        family, model, stepping = version
        edx = family << 8 | (model & 15) << 4 | model >> 4 << 16 | stepping
        assert f"EDX={edx:08x}" in await running.hmp("info registers")


@pytest.mark.parametrize(
    ("cpu", "profile", "said"),
    [
        ("qemu64,+pcid,enforce", "10.0", "TCG doesn't support requested features"),
        ("qemu64,phys-bits=99", "10.0", "phys-bits should be between 32 and 52  (but is 99)"),
        ("athlon,phys-bits=40", "10.0", "phys-bits is not user-configurable in 32 bit"),
        ("qemu64,-lm,phys-bits=40", "10.0", "phys-bits is not user-configurable in 32 bit"),
        ("qemu64,+pcid,enforce,phys-bits=99", "10.0", "TCG doesn't support requested features"),
        ("qemu64,guest-phys-bits=41", "10.0",
         "guest-phys-bits should be between 32 and 40  (but is 41)"),
        ("qemu64,phys-bits=45,guest-phys-bits=31", "10.0",
         "guest-phys-bits should be between 32 and 45  (but is 31)"),
        ("athlon,guest-phys-bits=40", "10.0",
         "guest-phys-bits is not user-configurable in 32 bit"),
        ("qemu64,core-id=9", "10.0",
         "property core-id: 9 doesn't match set apic-id: 0x0 (core-id: 0)"),
        ("qemu64,tsc-frequency=x", "7.2", "can't apply global "
         "qemu64-x86_64-cpu.tsc-frequency=x: Parameter 'tsc-frequency' expects int64"),
    ],
)  # fmt: skip
async def test_refusals(cpu: str, profile: str, said: str) -> None:
    with pytest.raises(StartupError) as caught:
        async with machine(cpu, profile=profile):
            pass
    assert caught.value.message == said


@pytest.mark.parametrize(
    ("cpu", "bits", "guest"),
    [
        ("qemu64", 40, 0),
        ("Skylake-Client,check=off", 40, 0),
        ("qemu64,phys-bits=42,guest-phys-bits=41", 42, 41),
        ("athlon", 36, 0),
        ("pentium", 32, 0),
    ],
)
async def test_bits_of_addresses(cpu: str, bits: int, guest: int) -> None:
    async with machine(cpu) as running:
        for name, value in (("phys-bits", bits), ("guest-phys-bits", guest)):
            assert await running.qmp("qom-get", {"path": FIRST, "property": name}) == value


async def test_bits_of_addresses_by_global() -> None:
    with pytest.raises(StartupError) as caught:
        async with machine("qemu64", "-global", "qemu64-x86_64-cpu.phys-bits=99"):
            pass
    assert caught.value.message == "phys-bits should be between 32 and 52  (but is 99)"


async def test_only_the_first_cpu_is_made_where_addresses_are_wrong() -> None:
    running = machine("qemu64,+pcid,phys-bits=99", "-smp", "2")
    with pytest.raises(StartupError) as caught:
        async with running:
            pass
    assert len([line for line in caught.value.lines if PCID in line]) == 1


async def test_more_cpus_than_an_old_interrupt_controller_knows() -> None:
    with pytest.raises(StartupError) as caught:
        async with machine("qemu64", "-smp", "256"):
            pass
    assert caught.value.message == (
        "APIC ID 255 requires x2APIC feature in CPU\nTry x2apic=on in -cpu."
    )


@pytest.mark.parametrize(
    ("cpu", "warns"), [("qemu64", True), ("athlon", True), ("Skylake-Client,check=off", False)]
)
async def test_amd_has_no_threads(cpu: str, warns: bool) -> None:
    async with machine(cpu, "-smp", "4,threads=2") as running:
        printed = running.stderr.getvalue().splitlines()
    lines = [line for line in printed if "hyperthreading(2)" in line]
    assert len(lines) == warns
