"""-tpmdev emulator and the devices that take it, with an emulator that is scripted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.testing import FakeQemu
from tests.support.tpm import (
    ALL,
    BUFFER_SIZE,
    CAPABILITY,
    DATA_FD,
    INIT,
    SHUTDOWN,
    STOP,
    TPM_1_2,
    ScriptedTpm,
)

Make = Callable[..., ScriptedTpm]
TIS = ("-device", "tpm-tis,tpmdev=t,id=d")
STARTUP = [(STOP,), (BUFFER_SIZE, 0), (STOP,)]


@pytest.fixture
def emulator() -> Iterator[Make]:
    made: list[ScriptedTpm] = []
    with tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp") as folder:

        def make(**options: Any) -> ScriptedTpm:
            made.append(ScriptedTpm(Path(folder), **options))
            return made[0]

        yield make
        for each in made:
            each.close()


def machine(*argv: str, profile: str = "10.0") -> FakeQemu:
    return FakeQemu("-machine", "q35", "-nodefaults", *argv, profile=profile)


async def refusal(*argv: str, profile: str = "10.0") -> list[str]:
    with pytest.raises((StartupError, QapiError)) as caught:
        async with machine(*argv, profile=profile):
            pass
    error = caught.value
    return list(error.lines) if isinstance(error, StartupError) else [error.desc]


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(("model", "buffer"), [("tpm-tis", 4096), ("tpm-crb", 3968)])
async def test_it_is_attached_started_and_ended(
    emulator: Make, profile: str, model: str, buffer: int
) -> None:
    tpm = emulator()
    argv = (*tpm.argv, "-device", f"{model},tpmdev=t,id=d")
    start = [*STARTUP, (BUFFER_SIZE, buffer), (INIT, 0)]
    async with machine(*argv, profile=profile) as vm:
        assert tpm.asked == [(DATA_FD,), (CAPABILITY,), *start]
        options = {"type": "emulator", "data": {"chardev": "c"}}
        assert await vm.qmp("query-tpm") == [{"id": "t", "model": model, "options": options}]
        assert await vm.hmp("info tpm") == (
            f"TPM device:\n tpm0: model={model}\n  \\ t: type=emulator,chardev=c\n"
        )
        (chardev,) = [c for c in await vm.qmp("query-chardev") if c["label"] == "c"]
        assert not chardev["frontend-open"]
        del tpm.asked[:]
        await vm.qmp("system_reset")
        assert tpm.asked == start
        del tpm.asked[:]
        await vm.qmp("quit")
    tpm.close()
    assert tpm.asked == [(SHUTDOWN,)]


async def test_without_a_device_it_is_not_started(emulator: Make) -> None:
    tpm = emulator()
    async with machine(*tpm.argv) as vm:
        assert await vm.qmp("query-tpm") == []
        assert await vm.hmp("info tpm") == ""
        assert tpm.asked == [(DATA_FD,), (CAPABILITY,)]


async def test_an_older_specification(emulator: Make) -> None:
    # RESET_TPMESTABLISHED is what only version 2 has to have
    tpm = emulator(tag=TPM_1_2, capabilities=ALL & ~0x80)
    async with machine(*tpm.argv, *TIS) as vm:
        assert len(await vm.qmp("query-tpm")) == 1


TPMDEV = "-tpmdev emulator,id=t,chardev=c: "


@pytest.mark.parametrize(
    ("profile", "options", "said"),
    [
        ("10.0", {"results": {DATA_FD: 9}}, [
            f"{TPMDEV}tpm-emulator: Failed to send CMD_SET_DATAFD: Operation not supported"]),
        ("11.1", {"results": {DATA_FD: 9}}, [
            f"{TPMDEV}tpm-emulator: Failed to send CMD_SET_DATAFD"]),
        ("7.2", {"hangs_up_at": DATA_FD}, [
            f"{TPMDEV}tpm-emulator: Failed to send CMD_SET_DATAFD: Operation not supported",
            f"{TPMDEV}tpm-emulator: Could not cleanly shutdown the TPM: Input/output error"]),
        ("7.2", {"hangs_up_at": CAPABILITY}, [
            f"{TPMDEV}tpm-emulator: probing failed : Operation not supported",
            f"{TPMDEV}tpm-emulator: Could not cleanly shutdown the TPM: Input/output error"]),
        ("11.1", {"hangs_up_at": CAPABILITY}, [
            f"{TPMDEV}tpm-emulator: probing failed",
            f"{TPMDEV}tpm-emulator: Could not cleanly shutdown the TPM"]),
        ("10.0", {"capabilities": 0x3001}, [
            f"{TPMDEV}tpm-emulator: TPM does not implement minimum set of required capabilities"
            " for TPM 2 (0x348f)"]),
        ("10.0", {"results": {STOP: 9}}, [
            "tpm-emulator: TPM result for CMD_STOP: 0x9 operation failed"] * 2),
        ("10.0", {"results": {BUFFER_SIZE: 0x101}}, [
            "tpm-emulator: TPM result for set buffer size : 0x101 operation failed"] * 2),
        ("10.0", {"results": {INIT: 3}}, [
            "tpm-emulator: TPM result for CMD_INIT: 0x3 a parameter is bad"]),
    ],
)  # fmt: skip
async def test_an_emulator_that_fails(
    emulator: Make, profile: str, options: dict[str, Any], said: list[str]
) -> None:
    assert await refusal(*emulator(**options).argv, *TIS, profile=profile) == said


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (["tpm-tis"], "-device tpm-tis: 'tpmdev' property is required"),
        (["tpm-tis,tpmdev=x"],
         "-device tpm-tis,tpmdev=x: Property 'tpm-tis.tpmdev' can't find value 'x'"),
        (["tpm-tis,tpmdev=t,irq=16"],
         "-device tpm-tis,tpmdev=t,irq=16: IRQ 16 is outside valid range of 0 to 15"),
        (["tpm-tis,tpmdev=t", "tpm-crb,tpmdev=t"],
         "-device tpm-crb,tpmdev=t: TPM backend 't' is already initialized"),
        (["tpm-tis,tpmdev=t", "tpm-crb"],
         "-device tpm-crb: at most one TPM device is permitted"),
    ],
)  # fmt: skip
async def test_devices_that_are_refused(emulator: Make, devices: list[str], said: str) -> None:
    argv = [argument for device in devices for argument in ("-device", device)]
    assert await refusal(*emulator().argv, *argv) == [said]


async def test_there_is_one_tpm_only(emulator: Make) -> None:
    second = "emulator,id=u,chardev=c"
    said = [f"-tpmdev {second}: Only one TPM is allowed."]
    assert await refusal(*emulator().argv, "-tpmdev", second) == said


async def test_nobody_at_the_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp") as folder:
        chardev = f"socket,id=c,path={folder}/s,server=on,wait=off"
        said = await refusal("-chardev", chardev, "-tpmdev", "emulator,id=t,chardev=c")
    assert said == [
        f"{TPMDEV}tpm-emulator: Failed to send CMD_SET_DATAFD: Input/output error",
        f"{TPMDEV}tpm-emulator: Could not cleanly shutdown the TPM: Input/output error",
    ]


@pytest.mark.parametrize("profile", ["7.2", "10.0"])
async def test_one_that_cannot_migrate(emulator: Make, profile: str) -> None:
    reason = "Migration disabled: TPM emulator does not support migration"
    async with machine(*emulator(capabilities=ALL & ~0x300).argv, *TIS, profile=profile) as vm:
        assert (await vm.qmp("query-migrate"))["blocked-reasons"] == [reason]


async def test_one_that_cannot_migrate_where_it_has_to(emulator: Make) -> None:
    reason = "Migration disabled: TPM emulator does not support migration"
    argv = emulator(capabilities=ALL & ~0x300).argv
    said = [f"{TPMDEV}disallowing migration blocker (--only-migratable) for: {reason}"]
    assert await refusal(*argv, *TIS, "-only-migratable") == said


async def test_a_presence_interface_left_out(emulator: Make) -> None:
    tpm = emulator()
    async with machine(*tpm.argv, "-device", "tpm-tis,tpmdev=t,id=d,ppi=off") as vm:
        names = {each["name"] for each in await vm.qmp("qom-list", path="/machine/peripheral/d")}
        assert "tpm-tis-mmio[0]" in names
        assert "tpm-ppi[0]" not in names
