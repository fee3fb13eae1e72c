"""The human monitor: commands registered by name, and a line run through them.

    @hmp("info name")
    def info_name(vm: Machine) -> str: ...

    @hmp("migrate_set_parameter")
    def migrate_set_parameter(vm: Machine, parameter: str, value: str) -> None: ...

Which commands a version has, their argument letters and help come from `schemas/`; here is
only what the modelled ones do. A function gets the machine and the parsed arguments as
keywords (`-` turned into `_`, `_` appended to a Python keyword); an optional argument that was
not typed is not passed. It returns the text it prints (None: nothing), lines ended by a
newline. It raises QapiError to print `Error: TEXT`, HmpSyntaxError for a line that does not
parse after all. `monitor=True` passes the human monitor as `monitor`;
`args="parameter:s,value:s?"` overrides the recorded letters. A command that only calls a QMP
one with the same arguments is a row of `aliases`.

See monitor/hmp.c: handle_hmp_command() and monitor_parse_command().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from fakeqemu.commands.hmp.arguments import HmpSyntaxError, parse_arguments
from fakeqemu.commands.hmp.definitions import HmpDefinition, HmpTable
from fakeqemu.commands.lazy_registry import LazyRegistry
from fakeqemu.commands.registry import COMMANDS, keyword_of
from fakeqemu.dataclass import dataclass
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

F = TypeVar("F", bound=Callable[..., str | None])


class HmpMonitor:
    """What one human monitor remembers between its lines."""

    def __init__(self, outer: Any = None) -> None:
        #: the QMP monitor whose human-monitor-command made this one; None for a terminal
        self.outer = outer
        #: index of the CPU that `cpu` chose
        self.cpu_index = 0
        #: `/` format letter and size that `x` and `print` used last; all monitors share them
        self.format = "x"
        self.size = 4
        #: lines typed, for `info history`
        self.history: list[str] = []

    def take_fd(self) -> int | None:
        """A descriptor that came along; there is none with a line of text."""
        take = getattr(self.outer, "take_fd", None)
        fd: int | None = take() if take is not None else None
        return fd


@dataclass(frozen=True, slots=True)
class HmpCommand:
    """One modelled command of the human monitor."""

    name: str
    #: None for one that is a QMP command under another name
    function: Callable[..., str | None] | None
    #: argument letters in place of the recorded ones
    args: str | None
    #: whether `function` wants the keyword `monitor`
    monitor: bool
    #: the QMP command that is called with the same arguments; empty if `function` does it
    qmp: str = ""


#: output format and size that were used last, whichever monitor it was
_FORMATS: WeakKeyDictionary[Machine, tuple[str, int]] = WeakKeyDictionary()

#: first name of a command ("quit", "info status") -> what it does
HMP_COMMANDS: LazyRegistry[HmpCommand] = LazyRegistry("hmp")


def hmp(name: str, args: str | None = None, *, monitor: bool = False) -> Callable[[F], F]:
    """Register the decorated function as human monitor command `name`."""

    def register(function: F) -> F:
        HMP_COMMANDS.register(name, HmpCommand(name, function, args, monitor))
        return function

    return register


def aliases(rows: Mapping[str, str]) -> None:
    """Register commands that call a QMP command, its members named like their arguments."""
    for name, qmp in rows.items():
        HMP_COMMANDS.register(name, HmpCommand(name, None, None, monitor=False, qmp=qmp))


def run_hmp(vm: Machine, monitor: HmpMonitor | None, line: str) -> str:
    """Run one line; what it prints, lines ended by a newline."""
    monitor = monitor if monitor is not None else HmpMonitor()
    monitor.format, monitor.size = _FORMATS.get(vm, (monitor.format, monitor.size))
    try:
        text, error = vm.guard.attempt(_run, vm, monitor, line)
    finally:
        _FORMATS[vm] = monitor.format, monitor.size
    return text if error is None else error_text(error)


def _run(vm: Machine, monitor: HmpMonitor, line: str) -> str:
    vm.journal.note("hmp", line)
    try:
        entry, position = _find(vm, line)
    except HmpSyntaxError as error:
        return error.text
    if entry is None:
        return ""
    name = entry.key
    command = HMP_COMMANDS.get(name)
    letters = entry.args if command is None or command.args is None else command.args
    try:
        arguments = parse_arguments(
            *(monitor, entry.name, letters, line, position),
            traits=vm.profile.traits,
            registers=partial(_register, vm, monitor),
        )
        return _execute(vm, monitor, command, name, arguments)
    except HmpSyntaxError as error:
        typed = line[:position].rstrip()
        return f'{error.text}Try "help {typed}" for more information\n'
    except NotModelledError as error:
        vm.journal.note("not-modelled", error.name)
        return f"{error.desc}\n"
    except QapiError as error:
        return error_text(error)


def command_of(vm: Machine, line: str) -> str:
    """The command that a line names, by its first name ("quit", "info status"); "" for none."""
    try:
        entry, _ = _find(vm, line)
    except HmpSyntaxError:
        return ""
    return "" if entry is None else entry.key


def _register(vm: Machine, monitor: HmpMonitor, name: str) -> int | None:
    from fakeqemu.commands.hmp.registers import read_register  # few lines have one

    return read_register(vm, monitor, name)


def error_text(error: QapiError) -> str:
    """How the human monitor prints `error`."""
    return f"Error: {error.desc}\n" + (f"{error.hint}\n" if error.hint else "")


def _execute(
    vm: Machine,
    monitor: HmpMonitor,
    command: HmpCommand | None,
    name: str,
    arguments: dict[str, Any],
) -> str:
    if command is None:
        vm.journal.note("not-modelled", name)
        return f"{NotModelledError(name).desc}\n"
    if reads.log is not None:
        arguments = reads.log.flat(arguments, f"(hmp) {name}")
    keywords = {keyword_of(key): value for key, value in arguments.items()}
    function = command.function
    if function is None:
        qmp = COMMANDS[command.qmp]
        function = qmp.function
        keywords = {"arguments": arguments} if qmp.raw else keywords
    if reads.log is not None:
        reads.log.passed(function, keywords)
    if command.monitor:
        keywords["monitor"] = monitor
    printed = function(vm, **keywords)
    return "" if command.qmp else printed or ""


def _find(vm: Machine, line: str) -> tuple[HmpDefinition | None, int]:
    """The command that `line` names and where its arguments start."""
    table = HmpTable.of(vm.profile)
    entries = table.commands
    position = 0
    found: HmpDefinition | None = None
    while True:
        start = position + len(line[position:]) - len(line[position:].lstrip())
        if start >= len(line):
            return found, position
        end = start
        while end < len(line) and line[end] != "/" and not line[end].isspace():
            end += 1
        entry = table.find(entries, line[start:end])
        others = vm.profile.traits.hmp_commands_of_other_targets
        early = entry is not None and not (vm.process.phases.ready or entry.preconfig)
        if early or (entry is None and " ".join(line[:end].split()) in others):
            raise HmpSyntaxError(
                f"Command '{line[:end]}' not available until machine initialization has"
                " completed.\n"
            )
        if entry is None:
            raise HmpSyntaxError(f"unknown command: '{line[:end]}'\n")
        found, position = entry, end
        while position < len(line) and line[position].isspace():
            position += 1
        if entry.table is None or position >= len(line):
            return found, position
        entries = entry.table
