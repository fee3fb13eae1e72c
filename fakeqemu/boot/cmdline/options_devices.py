"""Options that ask for backends, devices, monitors and displays.

See system/vl.c: qemu_init(); qemu-options.hx.
"""

from __future__ import annotations

from typing import Any

from fakeqemu.boot.chardevs import legacy_chardev
from fakeqemu.boot.cmdline.commandline import (
    CommandLine,
    ToConfiguration,
    ToGroup,
    option,
    options,
)
from fakeqemu.boot.cmdline.schema_values import HELP, typed_argument
from fakeqemu.configuration import OptionString
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.streamer import parse_json
from fakeqemu.qapi.readers.opts_visitor import visit_options
from fakeqemu.qapi.readers.qemu_opts import pairs_of
from fakeqemu.qapi.schema import ObjectType

#: -netdev types that have only the newer syntax
_MODERN_NETDEVS = ("stream", "dgram")

#: option -> interface, index (None: next free) and media of the drive it makes
_DRIVES: dict[str, tuple[str | None, int | None, str | None]] = {
    "hda": (None, 0, "disk"), "hdb": (None, 1, "disk"),
    "hdc": (None, 2, "disk"), "hdd": (None, 3, "disk"),
    "cdrom": (None, 2, "cdrom"),
    "fda": ("floppy", 0, None), "fdb": ("floppy", 1, None),
    "sd": ("sd", None, None), "pflash": ("pflash", None, None), "mtdblock": ("mtd", None, None),
}


# -- objects and devices -------------------------------------------------------------------------


@option("object")
def _object(line: CommandLine, text: str) -> None:
    profile = line.profile
    kind = profile.schema.commands["object-add"].arg_type
    try:
        if text.startswith("{"):
            values = typed_argument(text, kind, None, profile, "object-add")
            entry = line.record(text, values, json=True)
        else:
            parsed = line.opts("object", text)
            type_name = parsed.values.get("qom-type")
            if type_name is None:
                line.fail("Parameter 'qom-type' is missing")
            _object_help(line, type_name, parsed, kind)
            values = visit_options(
                parsed.pairs, parsed.id, kind, profile.traits, "object-add"
            )
            entry = OptionString("object", text, line.location, values, parsed.pairs)
    except QapiError as exc:
        line.fail_with(exc)
    line.configuration.objects.append(entry)


def _object_help(
    line: CommandLine, type_name: str, parsed: OptionString, kind: ObjectType
) -> None:
    if type_name in HELP:
        line.exit(line.profile.help("-object help"))
    wanted = any(key in HELP for key, _ in parsed.pairs)
    if wanted and type_name in kind.variants:
        from fakeqemu.boot.cmdline.help import property_help

        properties = line.profile.qom_properties(type_name)
        line.exit(property_help(type_name, [p for p in properties if p["name"] != "type"]))


@option("device")
def _device(line: CommandLine, text: str) -> None:
    if not text.startswith("{"):
        line.opts("device", text)
        return
    try:
        values = parse_json(text, line.profile.traits)
    except QapiError as exc:
        line.fail_with(exc)
    line.configuration.devices.append(line.record(text, values, json=True))


# -- character devices and monitors --------------------------------------------------------------


@option("mon")
def _mon(line: CommandLine, text: str) -> None:
    if line.profile.traits.mon_deprecated and not line.mon_warned:
        line.mon_warned = True
        line.messages.warn("'-mon' is deprecated, use '-object' with 'monitor-hmp' or "
                           "'monitor-qmp' types instead", line.location)
    line.opts("mon", text)
    line.configuration.defaults.monitor = False


@option("qmp")
def _qmp(line: CommandLine, text: str) -> None:
    legacy_monitor(line, text, "control", pretty=False)


@option("qmp-pretty")
def _qmp_pretty(line: CommandLine, text: str) -> None:
    legacy_monitor(line, text, "control", pretty=True)


@option("monitor")
def _monitor(line: CommandLine, text: str) -> None:
    line.configuration.defaults.monitor = False
    if not text.startswith("none"):
        legacy_monitor(line, text, "readline", pretty=False)


def legacy_monitor(line: CommandLine, text: str, mode: str, *, pretty: bool) -> None:
    """A monitor on a legacy address. Raises StartupError."""
    line.configuration.defaults.monitor = False
    if text.startswith("chardev:"):
        label = text.removeprefix("chardev:")[:31]
    else:
        label = f"compat_monitor{line.compat_monitors}"
        try:
            legacy_chardev(line.groups, label, text, line.option, line.location)
        except QapiError as exc:
            if exc.desc:
                line.messages.report(exc.desc, line.location, exc.hint)
            line.fail(f"parse error: {text}")
    group = line.groups.group("mon")
    try:
        entry = line.groups.create(group, label, line.option, line.location)
    except QapiError as exc:
        line.fail(exc.desc)
    entry.text = text
    line.groups.set(group, entry, "mode", mode)
    line.groups.set(group, entry, "chardev", label)
    if mode == "control":
        line.groups.set(group, entry, "pretty", "on" if pretty else "off")
    line.compat_monitors += 1


@option("serial", "parallel", "debugcon")
def _serial(line: CommandLine, text: str) -> None:
    line.configuration.serials.append(line.record(text, {}))
    if line.option != "debugcon":
        setattr(line.configuration.defaults, line.option, False)
        if text.startswith("mon:"):
            line.configuration.defaults.monitor = False


# -- network -------------------------------------------------------------------------------------


@option("netdev")
def _netdev(line: CommandLine, text: str) -> None:
    line.configuration.defaults.net = False
    if not _is_modern_netdev(text):
        line.opts("netdev", text)
        return
    kind = line.profile.schema.commands["netdev_add"].arg_type
    try:
        values = typed_argument(text, kind, "type", line.profile, "netdev_add")
    except QapiError as exc:
        line.fail_with(exc)
    line.configuration.netdevs.append(line.record(text, values, json=True))


def _is_modern_netdev(text: str) -> bool:
    if text.startswith("{"):
        return True
    types = [value for key, value in pairs_of(text, "type") if key == "type"]
    return bool(types) and types[-1] in _MODERN_NETDEVS


@option("nic", "net")
def _nic(line: CommandLine, text: str) -> None:
    line.configuration.defaults.net = False
    line.opts(line.option, text)


# -- block ---------------------------------------------------------------------------------------


@option("blockdev")
def _blockdev(line: CommandLine, text: str) -> None:
    kind = line.profile.schema.commands["blockdev-add"].arg_type
    try:
        values = typed_argument(text, kind, "driver", line.profile, "blockdev-add")
    except QapiError as exc:
        line.fail_with(exc)
    line.configuration.blockdevs.append(line.record(text, values, json=True))


@option(*_DRIVES)
def _image(line: CommandLine, text: str) -> None:
    interface, index, media = _DRIVES[line.option]
    add_image(line, text, interface, index, media)


def add_image(
    line: CommandLine, path: str, interface: str | None, index: int | None, media: str | None
) -> None:
    """A drive from one of the short options, or from a positional argument."""
    group = line.groups.group("drive")
    entry = line.groups.create(group, None, line.option or "drive", line.location)
    entry.text = path
    given: dict[str, Any] = {"media": media, "if": interface, "index": index, "file": path}
    for key, value in given.items():
        if value is not None:
            line.groups.set(group, entry, key, str(value))


# -- display -------------------------------------------------------------------------------------


@option("display")
def _display(line: CommandLine, text: str) -> None:
    if text in HELP:
        line.exit(line.profile.help("-display help"))
    if text.startswith("vnc"):
        if not text.startswith("vnc="):
            line.fail("VNC requires a display argument vnc=<display>")
        line.opts("vnc", text.removeprefix("vnc="))
        return
    kind = line.profile.schema.commands["query-display-options"].ret_type
    try:
        line.configuration.display = typed_argument(
            text, kind, "type", line.profile, "-display"
        )
    except QapiError as exc:
        line.fail_with(exc)


@option("vnc")
def _vnc(line: CommandLine, text: str) -> None:
    if text in HELP:
        from fakeqemu.boot.cmdline.help import group_help

        line.exit(group_help("vnc", line.profile))
    line.opts("vnc", text)


@option("spice")
def _spice(line: CommandLine, text: str) -> None:
    if line.profile.traits.spice_group_missing:
        line.messages.report("There is no option group 'spice'", line.location)
        line.fail("Perhaps you want to install qemu-system-modules-spice package?")
    line.configuration.spice.append(line.opts("spice", text, implied=False))


@option("vga")
def _vga(line: CommandLine, text: str) -> None:
    line.configuration.vga = text
    line.configuration.defaults.vga = False


@option("nographic")
def _nographic(line: CommandLine, _text: str) -> None:
    line.configuration.machine_options["graphics"] = "off"
    line.configuration.nographic = True
    line.configuration.display["type"] = "none"


@option("full-screen")
def _full_screen(line: CommandLine, _text: str) -> None:
    line.configuration.display["full-screen"] = True


# -- the rest ------------------------------------------------------------------------------------


@option("smbios", judged=True)
def _smbios(line: CommandLine, text: str) -> None:
    from fakeqemu.boot.checks.firmware_tables import add_smbios

    entry = line.opts("smbios", text, implied=False)
    values = entry.values
    if "file" not in values and "type" not in values:
        line.fail("Must specify type= or file=")
    if "type" in values and not values["type"].isdigit():
        line.fail("Parameter 'type' expects a number")
    add_smbios(line, entry)


@option("tpmdev")
def _tpmdev(line: CommandLine, text: str) -> None:
    from fakeqemu.boot.checks.host_devices import TPM_HELP

    if text == "help":
        line.messages.report(TPM_HELP)
        line.exit("", line.profile.traits.tpm_help_code)
    line.opts("tpmdev", text)


@option("virtfs")
def _virtfs(line: CommandLine, text: str) -> None:
    values = line.opts("virtfs", text).values
    if "fsdriver" not in values or "mount_tag" not in values:
        line.fail("Usage: -virtfs fsdriver,mount_tag=tag")
    _add_virtfs(line, values)


def _add_virtfs(line: CommandLine, values: dict[str, str]) -> None:
    """The -fsdev and the -device that a -virtfs stands for. See system/vl.c: qemu_init()."""
    fsdev_id = values.get("id", values["mount_tag"])
    group = line.groups.group("fsdev")
    try:
        fsdev = line.groups.create(group, fsdev_id, line.option, line.location)
        for key, value in values.items():
            if key not in ("id", "mount_tag"):
                line.groups.set(group, fsdev, key, value)
        devices = line.groups.group("device")
        device = line.groups.create(devices, None, line.option, line.location)
        for key, value in (
            ("driver", "virtio-9p-pci"), ("fsdev", fsdev_id), ("mount_tag", values["mount_tag"])
        ):  # fmt: skip
            line.groups.set(devices, device, key, value)
    except QapiError as exc:
        line.fail_with(exc)


@option("iscsi", judged=True)
def _iscsi(line: CommandLine, text: str) -> None:
    line.opts("iscsi", text, implied=False)


@option("plugin")
def _plugin(line: CommandLine, text: str) -> None:
    entry = line.opts("plugin", text)
    if "file" in entry.values:
        line.configuration.plugins.append(entry)
    elif entry.pairs and not line.configuration.plugins:
        line.fail("missing earlier '-plugin file=' option")


@option("gdb")
def _gdb(line: CommandLine, text: str) -> None:
    line.configuration.gdb.append(line.record(text, {}))


@option("s")
def _gdb_default(line: CommandLine, _text: str) -> None:
    line.configuration.gdb.append(line.record("tcp::1234", {}))


options(
    {
        "chardev": ToGroup("chardev"),
        "drive": ToGroup("drive", implied=False),
        "nodefaults": ToConfiguration("has_defaults", False),
        "fw_cfg": ToGroup("fw_cfg"),
        "fsdev": ToGroup("fsdev"),
    }
)
