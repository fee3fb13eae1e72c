"""Options about the machine: type and properties, accelerator, CPUs, memory, kernel.

See system/vl.c: qemu_init(); qemu-options.hx.
"""

from __future__ import annotations

from fakeqemu.boot.checks.machine_properties import check_named
from fakeqemu.boot.cmdline.commandline import (
    CommandLine,
    ToConfiguration,
    ToGroup,
    ToMachine,
    option,
    options,
)
from fakeqemu.boot.cmdline.option_groups import help_text
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.readers.keyval import merge


@option("machine", "M")
def _machine(line: CommandLine, text: str) -> None:
    options, help_wanted = line.keyval(text, "type")
    try:
        check_named(options, line.profile)
        merge(line.configuration.machine_options, options, parsed=True)
    except QapiError as exc:
        line.fail_with(exc)
    if help_wanted:
        from fakeqemu.boot.cmdline.help import machine_help

        line.exit(machine_help(line.profile, line.configuration.machine_options.get("type")))


def _property_option(line: CommandLine, text: str, group: str, name: str) -> None:
    uses = line.groups.group(group)
    options, help_wanted = line.keyval(text, uses.use.implied)
    if help_wanted:
        line.exit(help_text(uses))
    try:
        merge(line.configuration.machine_options, {name: options})
    except QapiError as exc:
        line.fail_with(exc)


@option("smp")
def _smp(line: CommandLine, text: str) -> None:
    _property_option(line, text, "smp-opts", "smp")


@option("boot")
def _boot(line: CommandLine, text: str) -> None:
    _property_option(line, text, "boot-opts", "boot")


@option("accel")
def _accel(line: CommandLine, text: str) -> None:
    try:
        name = line.opts("accel", text).values.get("accel")
    except StartupError as exc:
        # the error is printed, then taken for a request to list the accelerators
        line.messages.lines[:] = [*exc.earlier, exc.message]
        name = None
    if name is None or name in ("help", "?"):
        from fakeqemu.boot.cmdline.help import accel_help

        raise EarlyExit(accel_help(line.profile))


@option("no-fd-bootchk")
def _no_fd_bootchk(line: CommandLine, _text: str) -> None:
    if line.profile.traits.fd_bootchk_is_property:
        line.configuration.machine_options["fd-bootchk"] = "off"


@option("usbdevice")
def _usbdevice(line: CommandLine, text: str) -> None:
    line.configuration.machine_options["usb"] = "on"
    line.configuration.usb_devices.append(line.record(text, {}))


@option("option-rom")
def _option_rom(line: CommandLine, text: str) -> None:
    if "romfile" not in line.opts("option-rom", text).values:
        line.fail("Option ROM file is not specified")


@option("acpitable")
def _acpitable(line: CommandLine, text: str) -> None:
    from fakeqemu.boot.checks.firmware_tables import acpi_table

    entry = line.opts("acpi", text)
    if ("data" in entry.values) == ("file" in entry.values):
        line.fail("'-acpitable' requires one of 'data' or 'file'")
    line.configuration.acpi_tables.append(acpi_table(line, entry))


@option("semihosting", "semihosting-config", "prom-env", "old-param", "g", "xen-attach",
        "xen-domid-restrict")
def _other_target(line: CommandLine, _text: str) -> None:
    line.fail("Option not supported for this target")


@option("xen-domid", judged=True)
def _xen_domid(line: CommandLine, _text: str) -> None:
    if not line.profile.traits.xen_domid_with_kvm:
        line.fail("Option not supported for this target")


options(
    {
        "m": ToGroup("memory"),
        "mem-path": ToConfiguration("mem_path"),
        "mem-prealloc": ToConfiguration("mem_prealloc", True),
        "numa": ToGroup("numa"),
        "cpu": ToConfiguration("cpu"),
        "enable-kvm": ToMachine("accel", "kvm"),
        "no-acpi": ToMachine("acpi", "off"),
        "no-hpet": ToMachine("hpet", "off"),
        "usb": ToMachine("usb", "on"),
        "kernel": ToMachine("kernel"),
        "shim": ToMachine("shim"),
        "initrd": ToMachine("initrd"),
        "append": ToMachine("append"),
        "dtb": ToMachine("dtb"),
        "bios": ToMachine("firmware"),
    }
)
