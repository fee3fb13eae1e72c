"""Default devices, added unless -nodefaults or an option for the same device is given.

Decided once the machine type is known, before any backend is made: ports and a monitor on
virtual consoles, or all on standard input and output with -nographic.

See system/vl.c: qemu_disable_default_devices(), qemu_create_default_devices() and
default_driver_check().
"""

from __future__ import annotations

from fakeqemu.boot.cmdline.commandline import CommandLine, HostFiles
from fakeqemu.boot.cmdline.options_devices import legacy_monitor
from fakeqemu.boot.error_report import EarlyExit, Messages
from fakeqemu.configuration import Configuration, OptionString
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import MachineType
from fakeqemu.qapi.errors import StartupError

#: device type -> the default device that falls away when it is asked for
_REPLACES = {
    "xen-console": "serial", "isa-serial": "serial", "isa-parallel": "parallel",
    "isa-fdc": "floppy", "floppy": "floppy",
    "ide-cd": "cdrom", "ide-hd": "cdrom", "scsi-cd": "cdrom", "scsi-hd": "cdrom",
    "VGA": "vga", "isa-vga": "vga", "cirrus-vga": "vga", "isa-cirrus-vga": "vga",
    "vmware-svga": "vga", "qxl-vga": "vga", "virtio-vga": "vga", "ati-vga": "vga",
    "vhost-user-vga": "vga", "virtio-vga-gl": "vga", "virtio-vga-rutabaga": "vga",
}  # fmt: skip

_CONSOLE = "vc:80Cx24C"
#: -vga values -> what help says of them, QOM type that has to be there (None: none)
_VGA = {
    "none": ("no graphic card", None),
    "std": ("standard VGA", "VGA"),
    "cirrus": ("Cirrus VGA", "cirrus-vga"),
    "vmware": ("VMWare SVGA", "vmware-svga"),
    "qxl": ("QXL VGA", "qxl-vga"),
    "virtio": ("Virtio VGA", "virtio-vga"),
}
#: the QOM type whose machines have a standard VGA by default
_PC = "generic-pc-machine"


def add_default_devices(
    configuration: Configuration, profile: Profile, machine: MachineType
) -> None:
    """Settle `configuration.defaults` and add default ports and monitor. Raises StartupError."""
    _settle(configuration, profile, machine)
    defaults = configuration.defaults
    if configuration.daemonize and configuration.nographic and (
        defaults.parallel or defaults.serial or defaults.monitor
    ):
        raise StartupError("-nographic cannot be used with -daemonize")
    if configuration.nographic:
        if defaults.parallel:
            _add_port(configuration, "parallel", "null")
        if defaults.serial and defaults.monitor:
            _add_port(configuration, "serial", "mon:stdio")
        elif defaults.serial:
            _add_port(configuration, "serial", "stdio")
        elif defaults.monitor:
            _add_monitor(configuration, profile, "stdio")
    else:
        if defaults.serial:
            _add_port(configuration, "serial", _CONSOLE)
        if defaults.parallel:
            _add_port(configuration, "parallel", _CONSOLE)
        if defaults.monitor:
            _add_monitor(configuration, profile, _CONSOLE)
    if configuration.vga is not None:
        check_vga(configuration.vga, profile, machine)


def _settle(configuration: Configuration, profile: Profile, machine: MachineType) -> None:
    defaults = configuration.defaults
    drivers = [str(d.values.get("driver")) for d in configuration.devices]
    drivers += [each.driver for each in configuration.globals]
    for driver in drivers:
        if driver in _REPLACES:
            setattr(defaults, _REPLACES[driver], False)
    if not configuration.has_defaults:
        for name in ("serial", "parallel", "floppy", "cdrom", "audio", "monitor", "net", "vga"):
            setattr(defaults, name, False)
    elif machine.name == "none":
        for name in ("serial", "parallel", "floppy", "cdrom"):
            setattr(defaults, name, False)
    else:
        for name in _without(profile, machine):
            setattr(defaults, name, False)


def _without(profile: Profile, machine: MachineType) -> list[str]:
    """The default devices that a machine type does not have; see include/hw/boards.h: no_serial."""
    try:
        facts = profile.per_machine(machine.name)
    except KeyError:
        return []
    # profiles of PCs, which have all of them, were recorded before there were others
    if (ports := facts.get("chardevs-defaults")) is None:
        return []
    drives = [each["device"] for each in facts["block-defaults"] or ()]
    there = {
        "serial": "serial0" in ports,
        "parallel": "parallel0" in ports,
        "floppy": any(name.startswith("floppy") for name in drives),
        "cdrom": any("-cd" in name for name in drives),
    }
    return [name for name, wanted in there.items() if not wanted]


def _add_port(configuration: Configuration, kind: str, text: str) -> None:
    configuration.serials.append(OptionString(kind, text, ""))


def _add_monitor(configuration: Configuration, profile: Profile, text: str) -> None:
    line = CommandLine(profile, configuration, Messages(), HostFiles())
    line.groups.group("chardev").given = configuration.chardevs
    line.groups.group("mon").given = configuration.monitors
    line.option = "monitor"
    line.compat_monitors = sum(m.option != "mon" for m in configuration.monitors)
    legacy_monitor(line, text, "readline", pretty=False)


def check_vga(text: str, profile: Profile, machine: MachineType) -> None:
    """Raise StartupError unless -vga takes `text`; Exit for `help`."""
    if text == "help":
        default = "std" if profile.is_a(machine.typename, _PC) else "cirrus"
        lines = [
            f"{name:<20} {about}{' (default)' if name == default else ''}"
            for name, (about, type) in _VGA.items()
            if type is None or type in profile.qom_types
        ]
        raise EarlyExit("\n".join(lines) + "\n")
    name, comma, rest = text.partition(",")
    if name not in _VGA or (comma and rest not in ("retrace=dumb", "retrace=precise")):
        raise StartupError(f"unknown vga type: {text}")
    about, type = _VGA[name]
    if type is not None and type not in profile.qom_types:
        raise StartupError(f"{about} not available. "
                           "Perhaps you want to install qemu-system-modules-spice package?")
