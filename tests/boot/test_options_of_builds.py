"""What options name that a program has or lacks: displays, sound, shared folders. As real ones."""

from __future__ import annotations

import errno

import pytest

from fakeqemu.model.null_host import NullHost, NullMemory
from fakeqemu.qapi.errors import QapiError, StartupError
from tests.support.machines import Booted

NO_NODE = "egl: no drm render node available\negl: render node init failed"
FIXED = "You can't use frequency, channels or format with fixed-settings=off"
LOCAL = "local,id=x,path=.,security_model="
PROXY = "proxy,id=x"


class Host(NullHost):
    """One without any file."""

    def list_folder(self, path: str) -> list[str]:
        raise FileNotFoundError(path)

    def file_error(self, path: str) -> str | None:
        return "No such file or directory"

    def path_error(self, path: str) -> str | None:
        return "No such file or directory"


def said(argv: str, profile: str, *common: str) -> str:
    """What a start that fails prints, without the option that it blames."""
    with pytest.raises((StartupError, QapiError)) as caught:
        Booted(*argv.split(), profile=profile, host=Host(), common=("-nodefaults", *common))
    error = caught.value
    if isinstance(error, QapiError):
        return error.desc
    lines = [
        line.removeprefix(f"{argv}: ").removeprefix(f"{error.location}: ") for line in error.lines
    ]
    return "\n".join([*filter(None, [error.heading]), *lines])


@pytest.mark.parametrize(
    ("profile", "display", "text"),
    [
        ("7.2", "egl-headless", NO_NODE),
        ("7.2", "egl-headless,rendernode=/nosuch,gl=on", NO_NODE),
        ("7.2", "gtk", "qemu: module ui-ui-gtk not found, do you want to install qemu-system-gui"
         " package?\nDisplay 'gtk' is not available."),
        ("10.0", "gtk", "Display 'gtk' is not available. Perhaps you want to install"
         " qemu-system-gui package?"),
        ("7.2", "spice-app", "fakeqemu does not model '-display spice-app'"),
    ],
)  # fmt: skip
def test_displays(profile: str, display: str, text: str) -> None:
    assert said(f"-display {display}", profile) == text


def test_a_render_node_is_not_modelled() -> None:
    class Rendering(Host):
        def list_folder(self, path: str) -> list[str]:
            return ["card0", "renderD128"]

        def file_error(self, path: str) -> str | None:
            return None if path == "/dev/dri/renderD128" else "Permission denied"

    with pytest.raises(StartupError) as caught:
        Booted("-display", "egl-headless", profile="7.2", host=Rendering(), common=())
    assert "-display egl-headless" in caught.value.text


@pytest.mark.parametrize(
    ("profile", "device", "text"),
    [
        ("7.2", "pipewire,id=a", "Parameter 'driver' does not accept value 'pipewire'"),
        ("7.2", "coreaudio,id=a,out.frequency=x", "Parameter 'out.frequency' expects integer"),
        ("10.0", "coreaudio,id=a", "Parameter 'driver' does not accept value 'coreaudio'"),
        ("10.0", "wav,id=a,out.mixing-engine=off,out.channels=3", FIXED),
        ("11.1", "jack,id=a,in.fixed-settings=off,in.format=s16", FIXED),
        ("7.2", "pa,id=a,in.mixing-engine=off,in.fixed-settings=on",
         "You can't use fixed-settings without mixeng"),
    ],
)  # fmt: skip
def test_sound(profile: str, device: str, text: str) -> None:
    assert said(f"-audiodev {device}", profile, "-display", "none") == text


@pytest.mark.parametrize(
    ("profile", "folder", "text"),
    [
        ("10.0", f"{PROXY},socket=q", "fsdev: fsdriver proxy not found"),
        ("7.2", PROXY, "both socket and sock_fd properties are missing"),
        ("7.2", f"{PROXY},socket=q,sock_fd=3", "both socket and sock_fd properties are set"),
        ("7.2", f"{PROXY},path=.", "'path' is invalid for fsdriver 'proxy'"),
        ("7.2", f"{PROXY},socket=q -device virtio-9p-pci,fsdev=x,mount_tag=t",
         "cannot initialize fsdev 'x': failed to connect to 'q': No such file or directory"),
        ("7.2", "synth,id=x,writeout=immediate", "'writeout' is invalid for fsdriver 'synth'"),
        ("11.1", f"{LOCAL}none,socket=s", "'socket' is invalid for fsdriver 'local'"),
        ("11.1", f"{LOCAL}none,multidevs=x",
         "invalid multidevs property 'x'\nValid options are: multidevs=[remap|forbid|warn]"),
        ("11.1", f"{LOCAL}none,fmode=9", "fmode is only valid for mapped security modes"),
        ("11.1", "local,id=x,security_model=none", "path property not set"),
        ("11.1", f"{LOCAL}none,throttling.bps-total=-1", "invalid throttle configuration:"
         " bps/iops/max values must be within [0, 1000000000000000]"),
    ],
)  # fmt: skip
def test_shared_folders(profile: str, folder: str, text: str) -> None:
    assert said(f"-fsdev {folder}", profile, "-display", "none") == text


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_the_accelerator_for_tests_is_there(profile):
    """QEMU's own test programs start with it; docs/fidelity.md says so."""
    Booted("-accel", "qtest", profile=profile, common=("-nodefaults", "-display", "none"))


@pytest.mark.parametrize(
    ("argv", "warnings"),
    [
        ("-m 0x40", ["0x40M"]),
        ("-m 0x40M", ["-m 0x40M: 0x40M", "0x40M"]),
        ("-machine pc,memory.size=0x40M", ["0x40M"]),
        ("-m 64M", []),
        ("-m size=0x4000000b", []),
    ],
)
def test_hexadecimal_sizes_with_units(argv: str, warnings: list[str]) -> None:
    host = Host()
    Booted(*argv.split(), profile="7.2", host=host)
    text = "warning: Using a multiplier suffix on hex numbers is deprecated: "
    assert [line.replace(text, "") for line in host.warnings] == warnings


@pytest.mark.parametrize("profile", ["7.2", "11.1"])
def test_the_first_of_two_cache_modes_is_an_option_of_the_driver(profile: str) -> None:
    drive = "-drive if=none,driver=null-co,{}"
    text = "Block protocol 'null-co' doesn't support the option '{}'"
    both = drive.format("cache=none,cache=writeback")
    assert said(both, profile, "-display", "none") == text.format("cache")
    interval = drive.format("stats-intervals=1")
    assert said(interval, profile, "-display", "none") == text.format("stats-intervals")
    bad = drive.format("cache=none,cache=bad")
    assert said(bad, profile, "-display", "none") == "invalid cache option"


def test_the_container_of_objects_is_made_when_it_is_needed() -> None:
    """Before 10.0; a machine's own memory is the first that needs it."""

    def there(*argv: str, profile: str = "7.2") -> Booted:
        return Booted("-machine", *argv, profile=profile)

    def shown(machine: Booted) -> bool:
        return "objects" in [each["name"] for each in machine.ask("qom-list", path="/")]

    bare = there("none")
    assert not shown(bare)
    assert bare.error("qom-list", path="/objects")[0] == "DeviceNotFound"
    assert bare.ask("query-memdev") == []
    assert shown(bare)
    assert shown(there("none", "-object", "iothread,id=i"))
    assert shown(there("pc"))
    assert shown(there("none", profile="10.0"))


@pytest.mark.parametrize(("profile", "printed"), [("7.2", 1), ("10.0", 0)])
def test_rdma_code_prints_for_itself(profile: str, printed: int) -> None:
    class Heard(Host):
        lines: list[str]

        def say(self, text: str) -> None:
            self.lines.append(text)

    host = Heard()
    host.lines = []
    with pytest.raises(StartupError):
        Booted("-machine", "none", "-incoming", "rdma:x:1", profile=profile, host=host)
    assert host.lines == ["RDMA ERROR: could not create rdma event channel"] * printed
    assert not host.warnings


def test_memory_for_code_at_two_addresses() -> None:
    class Small(NullMemory):
        def shared_error(self, size: int) -> int:
            return errno.EFBIG if size > 64 << 20 else 0

    host = Host()
    host.memory = Small()
    argv = ("-machine", "none", "-accel", "tcg,split-wx=on")
    with pytest.raises(StartupError) as caught:
        Booted(*argv, host=host, common=())
    assert caught.value.text == "failed to allocate shared memory: File too large"
    Booted(*argv[:3], f"{argv[3]},tb-size=64", host=host, common=())
    Booted(*argv[:3], "tcg", host=host, common=())
