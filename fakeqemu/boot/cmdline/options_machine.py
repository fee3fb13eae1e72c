"""Options about the machine: type and properties, accelerator, CPUs, memory, kernel.

See system/vl.c: qemu_init(); qemu-options.hx.
"""

from __future__ import annotations

from fakeqemu.boot.cmdline.commandline import CommandLine, option
from fakeqemu.boot.cmdline.error_report import Exit
from fakeqemu.boot.cmdline.help import accel_help, machine_help
from fakeqemu.boot.cmdline.option_groups import help_text
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.readers.keyval import merge


@option("machine", "M")
def _machine(line: CommandLine, text: str) -> None:
    options, help_wanted = line.keyval(text, "type")
    try:
        merge(line.configuration.machine_options, options)
    except QapiError as exc:
        line.fail_with(exc)
    if help_wanted:
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


@option("m")
def _memory(line: CommandLine, text: str) -> None:
    line.opts("memory", text)


@option("mem-path")
def _mem_path(line: CommandLine, text: str) -> None:
    line.configuration.mem_path = text


@option("mem-prealloc")
def _mem_prealloc(line: CommandLine, _text: str) -> None:
    line.configuration.mem_prealloc = True


@option("numa")
def _numa(line: CommandLine, text: str) -> None:
    line.opts("numa", text)


@option("cpu")
def _cpu(line: CommandLine, text: str) -> None:
    line.configuration.cpu = text


@option("accel")
def _accel(line: CommandLine, text: str) -> None:
    try:
        name = line.opts("accel", text).values.get("accel")
    except StartupError as exc:
        # the error is printed, then taken for a request to list the accelerators
        line.messages.lines[:] = [*exc.earlier, exc.message]
        name = None
    if name is None or name in ("help", "?"):
        raise Exit(accel_help(line.profile))


@option("enable-kvm")
def _enable_kvm(line: CommandLine, _text: str) -> None:
    line.configuration.machine_options["accel"] = "kvm"


@option("no-acpi")
def _no_acpi(line: CommandLine, _text: str) -> None:
    line.configuration.machine_options["acpi"] = "off"


@option("no-hpet")
def _no_hpet(line: CommandLine, _text: str) -> None:
    line.configuration.machine_options["hpet"] = "off"


@option("no-fd-bootchk")
def _no_fd_bootchk(line: CommandLine, _text: str) -> None:
    if line.profile.traits.fd_bootchk_is_property:
        line.configuration.machine_options["fd-bootchk"] = "off"
    else:
        line.configuration.other.append(("no-fd-bootchk", ""))


@option("usb")
def _usb(line: CommandLine, _text: str) -> None:
    line.configuration.machine_options["usb"] = "on"


@option("usbdevice")
def _usbdevice(line: CommandLine, text: str) -> None:
    line.configuration.machine_options["usb"] = "on"
    line.configuration.usb_devices.append(line.record(text, {}))


@option("kernel", "shim", "initrd", "append", "dtb")
def _file_property(line: CommandLine, text: str) -> None:
    line.configuration.machine_options[line.option] = text


@option("bios")
def _bios(line: CommandLine, text: str) -> None:
    line.configuration.machine_options["firmware"] = text


@option("option-rom")
def _option_rom(line: CommandLine, text: str) -> None:
    if "romfile" not in line.opts("option-rom", text).values:
        line.fail("Option ROM file is not specified")


@option("acpitable")
def _acpitable(line: CommandLine, text: str) -> None:
    entry = line.opts("acpi", text)
    if ("data" in entry.values) == ("file" in entry.values):
        line.fail("'-acpitable' requires one of 'data' or 'file'")


@option("semihosting", "semihosting-config", "prom-env", "old-param", "g", "xen-attach",
        "xen-domid-restrict")
def _other_target(line: CommandLine, _text: str) -> None:
    line.fail("Option not supported for this target")


@option("xen-domid")
def _xen_domid(line: CommandLine, text: str) -> None:
    if not line.profile.traits.xen_domid_with_kvm:
        line.fail("Option not supported for this target")
    line.configuration.other.append(("xen-domid", text))
