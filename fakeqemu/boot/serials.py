"""-serial, -parallel and -debugcon: what an address asks for, and the ports that are made of it.

See system/vl.c: serial_parse(), parallel_parse() and debugcon_parse().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.boot.chardevs import devices_of, legacy_chardev
from fakeqemu.boot.cmdline.option_groups import Groups
from fakeqemu.boot.error_report import Messages
from fakeqemu.boot.requests import AttachMonitor, Work
from fakeqemu.boot.steps import create_chardev
from fakeqemu.configuration import Configuration, MonitorOptions, OptionString
from fakeqemu.dataclass import dataclass, field
from fakeqemu.model.boards.machine_state import Port
from fakeqemu.model.chardev.chardev import ChardevOptions
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState

#: -debugcon, and what its device and character device are called
_DEBUGCON = "debugcon"
_PARALLEL_PORTS = 3


@dataclass(frozen=True, slots=True)
class LegacyDevice:
    """What one -serial, -parallel or -debugcon asks for."""

    #: "serial", "parallel" or "debugcon"
    kind: str
    location: str
    #: what to make first; empty for "none" and "chardev:"
    make: list[ChardevOptions] = field(default_factory=list)
    #: the character device the port sits on; None for "none"
    chardev: str | None = None
    #: whether a human monitor shares it ("mon:")
    monitor: bool = False
    #: what QEMU prints, after the reason, when the character device cannot be made
    failure: str = ""


def legacy_device(
    entry: OptionString, index: int, configuration: Configuration, profile: Profile
) -> LegacyDevice:
    """What the `index`th port of its kind asks for. Raises StartupError.

    A caller that fails to make a device reports why and then fails with `failure`.
    """
    kind, text = entry.option, entry.text
    failure = (
        f"invalid character backend '{text}'" if kind == "debugcon"
        else f"could not connect {kind} device to character backend '{text}'"
    )
    if text == "none" and kind != "debugcon":
        return LegacyDevice(kind, entry.location)
    if kind == "parallel" and index >= _PARALLEL_PORTS:
        raise StartupError("too many parallel ports", location=entry.location)
    if text.startswith("chardev:"):
        return LegacyDevice(kind, entry.location, chardev=text.removeprefix("chardev:"),
                            failure=failure)
    label = kind if kind == "debugcon" else f"{kind}{index}"
    messages = Messages()
    groups = Groups(profile, messages)
    groups.group("chardev").given.extend(configuration.chardevs)
    try:
        opts = legacy_chardev(groups, label, text, kind, entry.location)
        make = devices_of(opts, profile)
    except QapiError as exc:
        if exc.desc:
            messages.report(exc.desc, entry.location, exc.hint)
        messages.fail(failure, entry.location)
    return LegacyDevice(kind, entry.location, make, label, text.startswith("mon:"), failure)


def create_ports(boot: BootState) -> Work:
    """Make the ports' character devices, and have the board find them."""
    counts: dict[str, int] = {}
    for entry in boot.configuration.serials:
        index = counts.get(entry.option, 0)
        counts[entry.option] = index + 1
        device = legacy_device(entry, index, boot.configuration, boot.profile)
        try:
            for options in device.make:
                yield from create_chardev(boot, options)
        except QapiError as exc:
            boot.messages.report(exc.desc, device.location)
            boot.messages.fail(device.failure, device.location)
        if device.chardev is not None and device.chardev not in boot.vm.chardevs:
            boot.messages.fail(device.failure, device.location)
        if device.chardev is not None and device.monitor:
            shared = MonitorOptions(device.chardev, "readline", device.location)
            yield AttachMonitor(shared, boot.vm.chardevs[device.chardev])
        if device.kind == _DEBUGCON:
            _add_debugcon(boot, device.location)
        elif device.chardev is not None:
            boot.vm.ports.append(Port(device.kind, device.chardev, index))


def _add_debugcon(boot: BootState, location: str) -> None:
    """The -device that -debugcon stands for. See system/vl.c: debugcon_parse()."""
    devices = boot.configuration.devices
    if any(each.id == _DEBUGCON and not each.json for each in devices):
        boot.messages.fail("already have a debugcon device", location)
    # whatever character device was named, it is the one of this id that the device looks for
    values = {"driver": "isa-debugcon", "chardev": _DEBUGCON, "id": _DEBUGCON}
    text = ",".join(f"{name}={value}" for name, value in values.items())
    place = sum(not each.json for each in devices)
    devices.insert(place, OptionString("device", text, location, values))
