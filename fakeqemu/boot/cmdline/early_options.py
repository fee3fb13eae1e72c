"""What QEMU does with the whole command line before it goes into the background.

First the options that exclude each other, then those that affect everything that follows,
then the requests for help that had to wait for all options.

See system/vl.c: qemu_process_early_options(), qemu_process_help_options() and
qemu_maybe_daemonize().
"""

from __future__ import annotations

from fakeqemu.boot.cmdline.commandline import CommandLine
from fakeqemu.boot.cmdline.schema_values import HELP
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.configuration import OptionString
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.qemu_opts import parse_bool, parse_number
from fakeqemu.qapi.visitor import check_value

#: machine property that needs a kernel -> the option that sets it, in the order of the checks
_NEEDS_KERNEL = ("append", "shim", "initrd")

#: -sandbox keys and the values each takes, in the order of the checks
_SANDBOX = {
    "obsolete": ("allow", "deny"),
    "elevateprivileges": ("deny", "children", "allow"),
    "spawn": ("deny", "allow"),
    "resourcecontrol": ("deny", "allow"),
}

_LAST_STANDARD_FD = 2


def validate_options(line: CommandLine) -> None:
    """Options that exclude or need each other. Raises StartupError."""
    configuration = line.configuration
    if "kernel" not in configuration.machine_options:
        for name in _NEEDS_KERNEL:
            if name in configuration.machine_options:
                line.fail(f"-{name} only allowed with -kernel option")
    incoming = configuration.main_incoming
    if configuration.loadvm is not None:
        if incoming is not None:
            line.fail("'incoming' and 'loadvm' options are mutually exclusive")
        if configuration.preconfig:
            line.fail("'preconfig' and 'loadvm' options are mutually exclusive")
    if incoming is not None and configuration.preconfig and not incoming.is_defer:
        line.fail("'preconfig' supports '-incoming defer' only")
    if configuration.daemonize and configuration.display.get("type") == "curses":
        line.fail("curses display cannot be used with -daemonize")


def process_early_options(line: CommandLine) -> None:
    """-sandbox, -action, -add-fd, -d and -D. Raises StartupError."""
    for entry in line.configuration.sandbox:
        _check_sandbox(line, entry)
    _check_action(line)
    for entry in line.configuration.add_fd:
        _check_add_fd(line, entry)
    line.location = ""
    if line.configuration.log_items is not None or line.configuration.log_file is not None:
        from fakeqemu.boot.checks.log_options import open_logs

        open_logs(line)


def _check_sandbox(line: CommandLine, entry: OptionString) -> None:
    if not parse_bool("enable", entry.values.get("enable", "off")):
        return
    line.location = entry.location
    for key, accepted in _SANDBOX.items():
        if key in entry.values and entry.values[key] not in accepted:
            line.fail(f"invalid argument for {key}")


def _check_action(line: CommandLine) -> None:
    for entry in line.groups.group("action").given:
        line.location = entry.location
        kind = line.profile.schema.commands["set-action"].arg_type
        try:
            action = check_value(line.profile.schema, kind, entry.values)
            if reads.log is not None:
                action = reads.log.typed(kind, action, "set-action")
            line.configuration.action = action
        except QapiError as exc:
            line.fail_with(exc)


def _check_add_fd(line: CommandLine, entry: OptionString) -> None:
    line.location = entry.location
    if "fd" not in entry.values:
        line.fail("fd option is required and must be non-negative")
    fd = parse_number("fd", entry.values["fd"])
    if fd <= _LAST_STANDARD_FD:
        line.fail("fd cannot be a standard I/O stream")
    if not line.files.fd_inherited(fd):
        line.fail("fd is not valid or already in use")
    if "set" not in entry.values:
        line.fail("set option is required and must be non-negative")


def process_help_options(line: CommandLine) -> None:
    """`-cpu help` and `-device help`. Raises Exit."""
    if line.configuration.cpu in HELP:
        raise EarlyExit(line.profile.help("-cpu help"))
    for entry in line.configuration.devices:
        if not entry.json:
            _device_help(line, entry)


def _device_help(line: CommandLine, entry: OptionString) -> None:
    from fakeqemu.boot.cmdline.help import property_help

    driver = entry.values.get("driver")
    if driver in HELP:
        raise EarlyExit(line.profile.help("-device help"))
    if driver is None or not any(key in HELP for key, _ in entry.pairs):
        return
    known = line.profile.qom_types.get(driver)
    if known is None:
        line.messages.report(f"Device '{driver}' not found", entry.location)
        raise EarlyExit("")
    try:
        properties = line.profile.device_properties(driver)
    except KeyError:
        line.messages.report("Parameter 'typename' expects a non-abstract device type",
                             entry.location)
        raise EarlyExit("") from None
    raise EarlyExit(property_help(driver, properties,
                             json_defaults=line.profile.traits.help_defaults_json))
