"""Options about the process and the start: name, clock, actions, sandbox, incoming, globals.

See system/vl.c: qemu_init(); os-posix.c: os_set_runas(); qemu-options.hx.
"""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.boot.cmdline.commandline import (
    CommandLine,
    ToConfiguration,
    ToGroup,
    no_effect,
    option,
    options,
)
from fakeqemu.boot.cmdline.schema_values import HELP, checked_members
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.configuration import GlobalProperty, IncomingOption
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.qemu_opts import parse_bool

_GLOBAL = re.compile(r"([^.=]{1,63})\.([^=]{1,63})=(.*)\Z", re.DOTALL)
_SET = re.compile(r"([^.]{1,63})\.([^.]{1,63})\.([^=]{1,63})=(.*)\Z", re.DOTALL)
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z"

#: -compat's members and what each accepts
_POLICY = {
    "deprecated-input": ("accept", "reject", "crash"),
    "deprecated-output": ("accept", "hide"),
    "unstable-input": ("accept", "reject", "crash"),
    "unstable-output": ("accept", "hide"),
}


@option("incoming")
def _incoming(line: CommandLine, text: str) -> None:
    from fakeqemu.migration.incoming.incoming_option import (
        CONFIG_PREFIX,
        fault_of_second,
        parse_incoming,
    )

    incoming = IncomingOption(text, line.location)
    second = any(
        each.early_values is not None and each.option == line.option
        for each in line.configuration.incoming
    )
    if second and line.profile.traits.incoming_config and text.startswith(CONFIG_PREFIX):
        line.fail(fault_of_second(text, line.profile))
    if line.profile.traits.incoming_parsed_with_options:
        try:
            incoming.parsed = parse_incoming(text, line.profile)
        except QapiError as exc:
            line.fail_with(exc)
    if incoming.channel_type == "main":
        for each in line.configuration.incoming:
            if each.option != "incoming":
                line.fail(f"-{each.option} and a main channel by -incoming are mutually exclusive")
    if second and incoming.early_values is not None:
        line.fail(fault_of_second(text, line.profile))
    line.configuration.incoming.append(incoming)


@option("migrate-incoming")
def _migrate_incoming(line: CommandLine, text: str) -> None:
    _incoming_command(line, text, "migrate-incoming")


@option("migrate-prepare")
def _migrate_prepare(line: CommandLine, text: str) -> None:
    values = _incoming_command(line, text, "migrate_prepare")
    line.configuration.prepare = line.record(text, values)


def _incoming_command(line: CommandLine, text: str, command: str) -> dict[str, Any]:
    """A proposed option that has the members of a command, which they give it.

    Nobody settled what it means besides a main channel by -incoming, or twice: refused.
    """
    from fakeqemu.migration.incoming.incoming_option import parse_command

    incoming = line.configuration.incoming
    if any(each.option == line.option for each in incoming):
        line.fail(f"Only one -{line.option} is allowed.")
    if (other := line.configuration.main_incoming) is not None:
        line.fail(f"-{line.option} and a main channel by -{other.option} are mutually exclusive")
    try:
        parsed, arguments = parse_command(command, text, line.profile)
    except QapiError as exc:
        line.fail_with(exc)
    exits: bool = arguments.get("exit-on-error", True)
    incoming.append(IncomingOption(text, line.location, parsed, line.option, exits))
    return arguments


@option("migration-parameters")
def _migration_parameters(line: CommandLine, text: str) -> None:
    """The proposed option of its own; given again it adds to what was said."""
    try:
        values = schemainfo.parse_parameters(line.profile, text)
    except QapiError as exc:
        line.fail_with(exc)
    line.configuration.early_parameters.append(line.record(text, values))


@option("global")
def _global(line: CommandLine, text: str) -> None:
    short = _GLOBAL.match(text)
    if short:
        driver, name, value = short.groups()
    else:
        values = line.opts("global", text, implied=False).values
        if not {"driver", "property", "value"} <= values.keys():
            line.fail("options 'driver', 'property', and 'value' are required")
        driver, name, value = values["driver"], values["property"], values["value"]
    line.configuration.globals.append(GlobalProperty(driver, name, value, line.location))


@option("set")
def _set(line: CommandLine, text: str) -> None:
    from fakeqemu.boot.cmdline.readconfig import NOT_LISTS

    parts = _SET.match(text)
    if not parts:
        line.fail(f'can\'t parse: "{text}"')
    name, id, key, value = parts.groups()
    if name in NOT_LISTS:
        line.fail(f"-set is not supported with {name}")
    if name not in line.groups:
        line.fail(f"There is no option group '{name}'")
    group = line.groups.group(name)
    entry = group.find(id)
    if entry is None:
        line.fail(f'there is no {name} "{id}" defined')
    try:
        line.groups.set(group, entry, key, value)
    except QapiError as exc:
        line.fail_with(exc)


@option("readconfig")
def _readconfig(line: CommandLine, text: str) -> None:
    from fakeqemu.boot.cmdline.readconfig import read_config_file

    read_config_file(line, text)


@option("uuid")
def _uuid(line: CommandLine, text: str) -> None:
    if not re.match(_UUID, text):
        line.fail("failed to parse UUID string: wrong format")
    line.configuration.uuid = text.lower()


@option("msg")
def _msg(line: CommandLine, text: str) -> None:
    values = line.opts("msg", text, implied=False).values
    message = line.configuration.message
    message.timestamp = parse_bool("timestamp", values.get("timestamp", "off"))
    message.guest_name = parse_bool("guest-name", values.get("guest-name", "off"))


@option("watchdog-action")
def _watchdog_action(line: CommandLine, text: str) -> None:
    group = line.groups.group("action")
    entry = line.groups.create(group, None, line.option, line.location)
    line.groups.set(group, entry, "watchdog", text)


@option("overcommit")
def _overcommit(line: CommandLine, text: str) -> None:
    values = line.opts("overcommit", text, implied=False).values
    lock = values.get("mem-lock")
    kind = (line.groups.group("overcommit").types or {}).get("mem-lock")
    if kind == "string" and lock is not None and lock not in ("on", "off", "on-fault"):
        line.fail("parameter 'mem-lock' expects one of 'on', 'off', 'on-fault'")
    line.configuration.overcommit.update(values)


@option("compat")
def _compat(line: CommandLine, text: str) -> None:
    try:
        line.configuration.compat_policy = checked_members(
            text, _POLICY, line.profile, "-compat"
        )
    except QapiError as exc:
        line.fail_with(exc)


@option("run-with")
def _run_with(line: CommandLine, text: str) -> None:
    values = line.opts("run-with", text, implied=False).values
    configuration = line.configuration
    configuration.run_with.update(values)
    configuration.chroot = values.get("chroot", configuration.chroot)
    if "user" in values:
        _run_as(line, values["user"], text)


@option("runas")
def _runas(line: CommandLine, text: str) -> None:
    _run_as(line, text, text)


def _run_as(line: CommandLine, user: str, blamed: str) -> None:
    if not line.files.user_exists(user) and not re.match(r"[0-9]+:[0-9]+\Z", user):
        line.fail(f'User "{blamed}" doesn\'t exist (and is not <uid>:<gid>)')
    line.configuration.runas = user


@option("L")
def _data_directory(line: CommandLine, text: str) -> None:
    if text in HELP:
        from fakeqemu.model.host_files import DATA_DIRECTORIES

        raise EarlyExit("".join(f"{folder}\n" for folder in DATA_DIRECTORIES))
    line.configuration.data_directories.append(text)


@option("dump-vmstate")
def _dump_vmstate(line: CommandLine, text: str) -> None:
    try:
        line.files.create(text)
    except OSError as error:
        line.fail(f"open {text}: {error.strerror}")
    line.fail(NotModelledError("-dump-vmstate").desc)


@option("echr")
def _escape_character(line: CommandLine, text: str) -> None:
    number = re.match(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", text)
    if number is None:
        line.configuration.printed.append("Bad argument to echr\n")
        line.configuration.escape = 0
        return
    line.configuration.escape = int(number[1] + _c_number(number[2])) & 0xFF


def _c_number(digits: str) -> str:
    """An integer as C's strtol() with base 0 reads it, in decimal."""
    base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") else 10
    return str(int(digits, base))


@option("trace")
def _trace(line: CommandLine, text: str) -> None:
    from fakeqemu.boot.checks.log_options import enable_trace

    enable_trace(line, line.opts("trace", text))


options(
    {
        "S": ToConfiguration("autostart", False),
        "preconfig": ToConfiguration("preconfig", True),
        "daemonize": ToConfiguration("daemonize", True),
        "pidfile": ToConfiguration("pidfile"),
        "loadvm": ToConfiguration("loadvm"),
        "only-migratable": ToConfiguration("only_migratable", True),
        "no-user-config": ToConfiguration("no_user_config", True),
        "snapshot": ToConfiguration("snapshot", True),
        "name": ToGroup("name"),
        "rtc": ToGroup("rtc", implied=False),
        "action": ToGroup("action", implied=False),
        "no-reboot": ToGroup("action", implied=False, text="reboot=shutdown"),
        "no-shutdown": ToGroup("action", implied=False, text="shutdown=pause"),
        "sandbox": ToGroup("sandbox"),
        "chroot": ToConfiguration("chroot"),
        "async-teardown": no_effect,
        "add-fd": ToGroup("add-fd", implied=False),
        "d": ToConfiguration("log_items"),
        "D": ToConfiguration("log_file"),
        "icount": ToGroup("icount"),
        "qtest": ToConfiguration("qtest"),
        "qtest-log": ToConfiguration("qtest_log"),
    }
)
