"""What options that need a device of the host say where there is none; as real ones say it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.testing import FakeQemu, QmpError


async def refusal(*argv: str, profile: str = "10.0") -> str:
    machine = FakeQemu("-machine", "q35", "-nodefaults", *argv, profile=profile)
    with pytest.raises((StartupError, QapiError)) as caught:
        async with machine:
            pass
    error = caught.value
    if isinstance(error, StartupError):
        return "\n".join(error.lines)
    return str(error)


@pytest.mark.parametrize(
    ("profile", "driver", "said"),
    [
        ("7.2", "jack", "qemu: module audio-audio-jack not found, do you want to install "
         "qemu-system-gui package?\naudio: Unknown audio driver `jack'"),
        ("10.0", "spice", "Unknown audio driver `spice'. Perhaps you want to install "
         "qemu-system-modules-spice package?"),
        ("7.2", "spice", "audio: Could not init `spice' audio driver"),
        ("10.0", "oss,in.dev=/nosuch", "/nosuch not accessible: No such file or directory"),
        ("7.2", "oss,out.dev=/nosuch", "audio: Could not init `oss' audio driver"),
        ("10.0", "nosuch", "-audiodev nosuch,id=a: Parameter 'driver' does not accept value "
         "'nosuch'"),
    ],
)  # fmt: skip
async def test_sound_drivers(profile: str, driver: str, said: str) -> None:
    assert await refusal("-audiodev", f"{driver},id=a", profile=profile) == said


async def test_a_terminal_for_curses() -> None:
    assert await refusal("-display", "curses") == "We need a terminal output"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("emulator,id=t,chardev=nosuch", ["tpm-emulator: tpm chardev 'nosuch' not found"]),
        ("emulator,id=t,chardev=c", [
            "tpm-emulator: Failed to send CMD_SET_DATAFD: Success",
            "tpm-emulator: Could not cleanly shutdown the TPM: Success",
        ]),
        ("passthrough,id=t,path=/nosuch", [
            "Cannot access TPM device using '/nosuch': No such file or directory"]),
        (f"passthrough,id=t,path={__file__}", [f"'{__file__}' is not a TPM device."]),
    ],
)  # fmt: skip
async def test_security_chips(given: str, said: list[str]) -> None:
    text = await refusal("-chardev", "null,id=c", "-tpmdev", given)
    assert text.splitlines() == [f"-tpmdev {given}: {line}" for line in said]


@pytest.mark.parametrize(
    ("fd", "said"),
    [
        ("nosuch", "Unable to parse FD number nosuch"),
        ("99999999999", "Unable to parse FD number 99999999999: Numerical result out of range"),
    ],
)
async def test_a_number_that_is_no_descriptor(fd: str, said: str) -> None:
    given = f"socket,id=c,fd={fd}"
    assert await refusal("-chardev", given) == f"-chardev {given}: {said}"


async def test_nobody_is_at_the_end_of_null(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with FakeQemu("-machine", "none", "-qtest", "null", "-qtest-log", str(log)):
        assert "OPENED" not in log.read_text()
    text = await refusal("-qtest", "mon:null")
    assert text.splitlines() == [
        "mon: isn't supported in this context",
        'Failed to initialize device for qtest: "mon:null"',
    ]


@pytest.mark.parametrize(
    ("profile", "smp", "said"),
    [
        ("10.0", "99999999999", "Invalid SMP CPUs 1215752191. The max CPUs supported by machine"
         " 'pc-q35-10.0' is 4096"),
        ("10.0", "1,sockets=-1", "Invalid CPU topology: product of the hierarchy must match "
         "maxcpus: sockets (4294967295) * dies (1) * modules (1) * cores (0) * threads (1) != "
         "maxcpus (1)"),
        ("7.2", "1,maxcpus=256", "current -smp configuration requires kernel irqchip and X2APIC "
         "API support."),
    ],
)  # fmt: skip
async def test_numbers_of_cpus(profile: str, smp: str, said: str) -> None:
    assert await refusal("-smp", smp, profile=profile) == said


async def test_numbers_of_cpus_have_32_bits() -> None:
    async with FakeQemu("-machine", "q35", "-nodefaults", "-smp", "4294967298") as machine:
        assert len(await machine.qmp("query-cpus-fast")) == 2


@pytest.mark.parametrize("given", ["order=abcd", "order=a,once=abcd"])
async def test_boot_devices_that_the_cmos_has_no_room_for(given: str) -> None:
    assert await refusal("-boot", given) == "Too many boot devices for PC"


async def test_a_host_without_enclaves() -> None:
    said = await refusal("-accel", "nitro", profile="11.1")
    assert said.splitlines() == [
        "-accel nitro: nitro: failed to open /dev/nitro_enclaves: No such file or directory",
        "-accel nitro: failed to initialize nitro: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("x", "Device 'x' not found"),
        ("s", "Invalid parameter type for 'confidential-guest-support', expected: "
         "confidential-guest-support"),
    ],
)  # fmt: skip
async def test_what_guards_a_guest(id: str, said: str) -> None:
    words = ("-object", "secret,id=s,data=x", "-machine", f"confidential-guest-support={id}")
    assert await refusal(*words) == said


async def test_a_release_has_two_numbers() -> None:
    said = await refusal("-smbios", "type=0,release=x")
    assert said == "-smbios type=0,release=x: Invalid release"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("input-linux,id=o,evdev=/nosuch", "Could not open '/nosuch': No such file or directory"),
        ("input-linux,id=o,evdev=/etc", "Could not open '/etc': Is a directory"),
        ("input-linux,id=o,evdev=/dev/null", "/dev/null: is not an evdev device"),
        ("pr-manager-helper,id=o,path=/nosuch",
         "Failed to connect to '/nosuch': No such file or directory"),
        ("pr-manager-helper,id=o,path=/dev/null",
         "Failed to connect to '/dev/null': Connection refused"),
    ],
)  # fmt: skip
async def test_objects_that_need_something_of_the_host(given: str, said: str) -> None:
    assert await refusal("-object", given) == said


async def test_a_helper_that_is_there_has_no_model(tmp_path: Path) -> None:
    path = str(tmp_path / "helper")
    with socket.socket(socket.AF_UNIX) as helper:
        helper.bind(path)
        helper.listen()
        said = await refusal("-object", f"pr-manager-helper,id=o,path={path}")
    assert said == "fakeqemu does not model 'object pr-manager-helper'"


@pytest.mark.parametrize(
    ("profile", "device", "said"),
    [
        ("10.0", "vhost-vsock-pci,guest-cid=4,vhostfd=6789",
         "vhost-vsock: unable to set non-blocking mode: Bad file descriptor"),
        ("11.1", "vhost-vsock-pci,guest-cid=4,vhostfd=6789",
         "Can't set file descriptor 6789 non-blocking: Bad file descriptor: Bad file descriptor"),
        ("10.0", "vhost-vsock-pci,guest-cid=4,vhostfd=x",
         "vhost-vsock: unable to parse vhostfd: Invalid file descriptor number 'x'"),
        ("10.0", "vhost-scsi-pci,wwpn=naa.1,vhostfd=6789",
         "vhost_set_owner failed: Bad file descriptor"),
        ("10.0", "vhost-scsi-pci,wwpn=naa.1,vhostfd=99999999999",
         "vhost-scsi: unable to parse vhostfd: Invalid file descriptor number '99999999999'"),
    ],
)  # fmt: skip
async def test_descriptors_that_are_no_vhost(profile: str, device: str, said: str) -> None:
    assert await refusal("-device", device, profile=profile) == f"-device {device}: {said}"


async def test_a_name_for_a_vhost_has_no_model() -> None:
    async with FakeQemu("-machine", "q35", "-nodefaults", "-device", "pcie-root-port,id=rp") as vm:
        with pytest.raises(QmpError, match=r"does not model 'vhost-scsi-pci\.vhostfd'"):
            await vm.qmp("device_add", driver="vhost-scsi-pci", bus="rp", wwpn="naa.1", vhostfd="x")


async def test_a_file_is_no_vhost(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w") as file:
        device = f"vhost-scsi-pci,wwpn=naa.1,vhostfd={file.fileno()}"
        said = "vhost_set_owner failed: Inappropriate ioctl for device"
        assert await refusal("-device", device) == f"-device {device}: {said}"
