"""The commands of the control socket: those about the socket itself, and the table of verbs.

Everything that is asked for goes through the same checks as QMP's commands, and a client may
read the schema there as it would read QEMU's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from fakeqemu import __version__
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.registry import Deferred
from fakeqemu.guard import Guard
from fakeqemu.journal import Journal
from fakeqemu.qapi.errors import CommandNotFoundError, FakeQemuError, QapiError
from fakeqemu.qapi.plainschema import entries_of, plain_schema
from fakeqemu.qapi.texts import command_not_found
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.qapi.visitor import check_arguments
from fakeqemu.testing.names import check_name
from fakeqemu.testing.scenarios.catalog import SCENARIOS
from fakeqemu.testing.verbs.controller import MachineController
from fakeqemu.testing.verbs.table import VERBS, Verb

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: command -> (argument -> type, with "?" where it may be left out; what it is for)
OWN: Mapping[str, tuple[dict[str, str], str]] = {
    "qmp_capabilities": (
        {"enable": "any?", "token": "str?"}, "negotiate, as in QMP, and show the token"
    ),
    "query-version": ({}, "fakeqemu's version"),
    "query-commands": ({}, "the commands there are"),
    "query-qmp-schema": ({}, "this schema"),
    "help": ({"command": "str?"}, "what the commands, or one of them, are for"),
    "query-machines": ({}, "the machines behind this socket"),
    "query-scenarios": ({}, "the named scenarios"),
}


def _members(verb: Verb) -> dict[str, str]:
    own = {name: kind for name, kind in verb.arguments.items() if name not in verb.private}
    return {"machine": "str?", **own}


#: the same for every command of the socket; `machine` is a name or a pattern
COMMANDS: Mapping[str, tuple[dict[str, str], str]] = {
    **OWN,
    **{name: (_members(verb), verb.does) for name, verb in VERBS.items() if verb.control},
}
_MEMBERS = {command: members for command, (members, _) in COMMANDS.items()}


def entries() -> list[dict[str, Any]]:
    """The schema as query-qmp-schema shows one."""
    return entries_of(_MEMBERS)


class Control:
    """Carries out the commands on `machines`, by name."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self.machines = machines
        self._schema = plain_schema(_MEMBERS)
        self._controllers: dict[str, MachineController] = {}
        #: name -> how many machines have had it, and the last of them
        self._runs: dict[str, tuple[int, ref[Machine] | None]] = {}
        #: bugs of the commands here are in the journal of the machine, in a fleet in the first's
        self.guard = next(
            (vm.guard for vm in machines.values()),
            Guard(Journal(VirtualClock()), lambda _: None),
        )

    def execute(self, name: str, arguments: dict[str, Any]) -> Any:
        """One command; a value or a Deferred. Raises QapiError."""
        if name not in COMMANDS:
            raise CommandNotFoundError(command_not_found(name))
        checked = check_arguments(self._schema, name, _with_numbers(name, arguments))
        try:
            if name in OWN:
                return getattr(self, "_" + name.replace("-", "_"))(**checked)
            pattern = checked.pop("machine", None)
            chosen = self._chosen(pattern)
            if pattern is None or pattern in self.machines:
                return self._controller(chosen[0]).call(name, checked)
            return _together(
                {each: self._controller(each).call(name, checked) for each in chosen}
            )
        except (ValueError, LookupError, SchemaViolation, FakeQemuError) as error:
            if isinstance(error, QapiError):
                raise
            raise QapiError(str(error)) from None

    # -- about the socket --------------------------------------------------------------------

    def _query_version(self) -> Any:
        return {"version": __version__}

    def _query_commands(self) -> Any:
        return [{"name": name} for name in COMMANDS]

    def _query_qmp_schema(self) -> Any:
        return entries()

    def _help(self, command: str | None = None) -> Any:
        names = COMMANDS if command is None else [check_name("command", command, COMMANDS)]
        return [
            {"name": name, "arguments": COMMANDS[name][0], "help": COMMANDS[name][1]}
            for name in names
        ]

    def _query_machines(self) -> Any:
        return [
            {
                "name": name,
                "run": self._run_of(name, vm),
                "profile": vm.profile.name,
                "status": vm.runstate.current,
                "journal-dropped": vm.journal.dropped,
                "sockets": [
                    chardev.address["path"]
                    for chardev in vm.chardevs.values()
                    if chardev.address.get("type") == "unix"
                ],
                **({"exit-code": vm.process.exit_code} if vm.process.exit_code is not None else {}),
            }
            for name, vm in self.machines.items()
        ]

    def _run_of(self, name: str, vm: Machine) -> int:
        """Which machine of that name it is, of those that this client was shown."""
        run, before = self._runs.get(name, (0, None))
        if before is None or before() is not vm:
            run += 1
            self._runs[name] = run, ref(vm)
        return run

    def _query_scenarios(self) -> Any:
        return [{"name": name, "symptom": each.symptom} for name, each in SCENARIOS.items()]

    # -- inside ------------------------------------------------------------------------------

    def _chosen(self, pattern: str | None) -> list[str]:
        if pattern is None:
            if len(self.machines) != 1:
                raise ValueError(f"say which of {len(self.machines)} machines is meant")
            return list(self.machines)
        if pattern in self.machines:
            return [pattern]
        found = [name for name in self.machines if fnmatchcase(name, pattern)]
        if not found:
            check_name("machine", pattern, self.machines)
        return found

    def _controller(self, machine: str) -> MachineController:
        vm = self.machines[machine]
        known = self._controllers.get(machine)
        if known is None or known.vm is not vm:  # a machine of a fleet may be started again
            known = self._controllers[machine] = MachineController(vm)
        return known


def _together(values: dict[str, Any]) -> Any:
    """The values of several machines, once those that come later are there; the first error."""
    later = {name: value for name, value in values.items() if isinstance(value, Deferred)}
    if not later:
        return values
    joined = Deferred()

    def finished(name: str, done: Deferred) -> None:
        if joined.done:
            return
        if done.error is not None:
            joined.fail(done.error)
            return
        values[name] = done.value
        later.pop(name)
        if not later:
            joined.resolve(values)

    for name, value in tuple(later.items()):
        value.then(partial(finished, name))
    return joined


def _with_numbers(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """qmp-shell knows whole numbers only and sends "1.5" as a string."""
    found = dict(arguments)
    for key, type in COMMANDS[name][0].items():
        if type.startswith("number") and isinstance(found.get(key), str):
            with contextlib.suppress(ValueError):
                found[key] = float(found[key])
    return found
