"""argv to `Configuration`: the walk over the command line and what follows it.

Two passes, as in QEMU: the first only finds options that do not exist (so that these win over
every other fault), the second lets each option do its part, left to right. Then come the
checks that need all options, what has to be known before daemonizing, and requests for help
that wait for the end.

See system/vl.c: qemu_init() and lookup_opt().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fakeqemu.boot.cmdline import (  # noqa: F401
    options_devices,
    options_machine,
    options_process,
    options_translation,
    options_ui,
)
from fakeqemu.boot.cmdline.commandline import HANDLERS, CommandLine, Files, HostFiles
from fakeqemu.boot.cmdline.early_options import (
    process_early_options,
    process_help_options,
    validate_options,
)
from fakeqemu.boot.cmdline.options_devices import add_image
from fakeqemu.boot.error_report import EarlyExit, Messages
from fakeqemu.configuration import Configuration, OptionString
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import NotModelledError, StartupError
from fakeqemu.qapi.readers.qemu_opts import parse_bool

__all__ = ["EarlyExit", "parse_command_line"]

HELP_OPTIONS = ("h", "help")
VERSION_OPTION = "version"


def parse_command_line(
    argv: Sequence[str],
    profile: Profile,
    program: str = "qemu-system-x86_64",
    files: Files | None = None,
    passes: list[str] | None = None,
) -> Configuration:
    """Everything `argv` (without the program's name) says.

    `program` is argv[0]. `passes` gets the names of what was done, up to the one that failed.
    Raises StartupError for what QEMU refuses before it makes a machine, Exit for help and the
    like; what went to standard error before is in their `earlier`, and in
    `Configuration.warnings` otherwise.
    """
    messages = Messages()
    configuration = Configuration(
        argv=list(argv), program=program.rpartition("/")[2], warnings=messages.lines,
        passes=[] if passes is None else passes,
    )
    line = CommandLine(profile, configuration, messages, files or HostFiles())
    try:
        for name, work in PASSES:
            configuration.passes.append(name)
            work(line)
    except (StartupError, EarlyExit) as exc:
        exc.earlier = tuple(messages.lines)
        raise
    return configuration


def _walk(line: CommandLine, argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option's name ("" for a disk image) and argument, its location set.

    Raises StartupError for one that does not exist or lacks its argument.
    """
    known = {option.name: option.takes_argument for option in line.profile.command_line_options}
    position = 0
    while position < len(argv):
        given = argv[position]
        position += 1
        line.location = given
        if not given.startswith("-"):
            line.option = ""
            yield "", given
            continue
        name = given[2:] if given.startswith("--") else given[1:]
        line.option = name
        if name not in known:
            line.fail("invalid option")
        text = ""
        if known[name]:
            if position == len(argv):
                line.fail("requires an argument")
            text = argv[position]
            position += 1
            line.location = f"{given} {text}"
        yield name, text


def _process(line: CommandLine, name: str, text: str) -> None:
    if not name:
        add_image(line, text, None, 0, "disk")
    elif name in HELP_OPTIONS:
        from fakeqemu.boot.cmdline.help import program_help

        raise EarlyExit(program_help(line.profile, line.configuration.program))
    elif name == VERSION_OPTION:
        from fakeqemu.boot.cmdline.help import version

        raise EarlyExit(version(line.profile))
    elif name in HANDLERS:
        HANDLERS[name](line, text)
    else:
        line.fail(NotModelledError(f"-{name}").desc)


def _collect(line: CommandLine) -> None:
    """Hand what the option groups hold to the configuration."""

    def given(group: str) -> list[OptionString]:
        return line.groups.group(group).given

    def merged(group: str) -> dict[str, str]:
        return dict(given(group)[0].values) if given(group) else {}

    configuration = line.configuration
    configuration.machine_type = configuration.machine_options.pop("type", None)
    configuration.accelerators = given("accel")
    configuration.memory = next(iter(given("memory")), None)
    configuration.numa = given("numa")
    configuration.rtc = merged("rtc")
    configuration.icount = next(iter(given("icount")), None)
    configuration.action = merged("action")
    configuration.sandbox = given("sandbox")
    configuration.add_fd = given("add-fd")
    configuration.chardevs = given("chardev")
    configuration.monitors = given("mon")
    configuration.devices = given("device") + configuration.devices
    configuration.netdevs += given("netdev")
    configuration.nics = given("nic")
    configuration.nets = given("net")
    configuration.drives = given("drive")
    configuration.fw_cfg = given("fw_cfg")
    configuration.option_roms = given("option-rom")
    configuration.tpmdevs = given("tpmdev")
    configuration.fsdevs = given("fsdev")
    configuration.vnc = given("vnc")
    name = merged("name")
    configuration.name.guest = name.get("guest")
    configuration.name.process = name.get("process")
    configuration.name.debug_threads = parse_bool(
        "debug-threads", name.get("debug-threads", "off")
    )


def _find_options(line: CommandLine) -> None:
    """Every option is one, and has its argument. Raises StartupError."""
    for _ in _walk(line, line.configuration.argv):
        pass


def _process_options(line: CommandLine) -> None:
    """Each option does its part. Raises StartupError, Exit."""
    names = set()
    for name, text in _walk(line, line.configuration.argv):
        names.add(name)
        _process(line, name, text)
    if line.profile.traits.monitor_before_backends and names == {"qmp"}:
        line.configuration.preconfig = True  # the whole rest of the start is QMP's
    line.option = line.location = ""
    _collect(line)


#: what is done with the command line before there is a machine, in order
PASSES: tuple[tuple[str, Callable[[CommandLine], None]], ...] = (
    ("option names", _find_options),
    ("options", _process_options),
    ("option validation", validate_options),
    ("early options", process_early_options),
    ("help options", process_help_options),
)
