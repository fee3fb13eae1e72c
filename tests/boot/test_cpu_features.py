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
    ("cpu", "profile", "said"),
    [
        ("qemu64,+pcid,enforce", "10.0", "TCG doesn't support requested features"),
        ("qemu64,phys-bits=99", "10.0", "phys-bits should be between 32 and 52  (but is 99)"),
        ("athlon,phys-bits=40", "10.0", "phys-bits is not user-configurable in 32 bit"),
        ("qemu64,-lm,phys-bits=40", "10.0", "phys-bits is not user-configurable in 32 bit"),
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


async def test_more_cpus_than_an_old_interrupt_controller_knows() -> None:
    with pytest.raises(StartupError) as caught:
        async with machine("qemu64", "-smp", "256"):
            pass
    assert caught.value.message == (
        "APIC ID 255 requires x2APIC feature in CPU\nTry x2apic=on in -cpu."
    )
