"""Staged behaviour: when the machine does this, that happens.

A trigger is looked for in the journal, so anything that is written down there can be one. What
follows happens when the machine has finished what it was at, never in its middle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.validate import SchemaViolation, check_event
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.testing.faults.model import Exit, check_fault
from fakeqemu.testing.machine.guest import check_verb, guest_does
from fakeqemu.testing.names import check_name

if TYPE_CHECKING:
    from fakeqemu.journal import Entry
    from fakeqemu.profile import Profile
    from fakeqemu.testing.faults.injector import Faults

#: trigger -> the kind of journal entry whose name it gives
TRIGGERS: Mapping[str, str] = {
    "command": "command",
    "event": "event",
    "migration": "migration",
    "migration-pass": "migration-pass",
    "runstate": "runstate",
    "phase": "phase",
    "fault": "fault",
    # of the machine's clock, seconds since the stage was laid
    "time": "",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One rule of a scenario."""

    #: trigger -> name; {"migration-pass": 3}, {"time": 2.5}
    when: Mapping[str, Any]
    #: what happens, in order: a word, or a table with one of ACTIONS and its parameters
    then: tuple[Any, ...]
    #: let the trigger come so often first
    skip: int = 0
    #: how often it happens; None: each time
    times: int | None = 1
    #: where it was written, for messages
    place: str = ""


def check_stage(stage: Stage, profile: Profile) -> None:
    """Whether all it names is there. Raises ValueError."""
    if len(stage.when) != 1:
        raise ValueError(f"when takes one trigger, not {len(stage.when)}")
    (trigger, value), = stage.when.items()
    check_name("trigger", trigger, TRIGGERS)
    schema = profile.schema
    if trigger == "command":
        check_name("command", value, schema.commands)
    elif trigger == "event":
        check_name("event", value, schema.events)
    elif trigger == "migration":
        check_name("migration status", value, schema.enum_values("MigrationStatus"))
    elif trigger == "runstate":
        check_name("run state", value, schema.enum_values("RunState"))
    elif trigger in ("time", "migration-pass") and (
        not isinstance(value, int | float) or isinstance(value, bool) or value < 0
    ):
        raise ValueError(f"{trigger} takes a number, not {value!r}")
    if not stage.then:
        raise ValueError("then is empty")
    for action in stage.then:
        _check_action(action, profile)


def _check_action(action: Any, profile: Profile) -> None:
    name, value = _named(action)
    check_name("action", name, ACTIONS)
    if name == "event":
        check_name("event", value, profile.schema.events)
        _check_data(profile, value, _rest(action, "event").get("data"))
    elif name == "command":
        check_name("command", value, profile.schema.commands)
    elif name == "guest":
        check_verb(value, _rest(action, name) if isinstance(action, dict) else {})
    elif name == "fault":
        from fakeqemu.testing.scenarios.catalog import faults_named

        for fault in faults_named(value, _rest(action, "fault")):
            check_fault(fault, profile)


def _check_data(profile: Profile, event: str, data: Any) -> None:
    try:
        check_event(profile.schema, event, data)
    except SchemaViolation as violation:
        raise ValueError(str(violation)) from None


def _named(action: Any) -> tuple[str, Any]:
    if isinstance(action, str):
        return action, None
    if isinstance(action, dict):
        for name in ACTIONS:
            if name in action:
                return name, action[name]
        return next(iter(action), ""), None
    raise ValueError(f"an action is a word or a table, not {action!r}")


def _rest(action: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in action.items() if key != name}


# -- what may happen -----------------------------------------------------------------------------


def _fault(faults: Faults, value: Any, rest: dict[str, Any]) -> None:
    faults.add(str(value), **rest)


def _event(faults: Faults, value: Any, rest: dict[str, Any]) -> None:
    faults.vm.events.emit(str(value), rest.get("data"))


def _command(faults: Faults, value: Any, rest: dict[str, Any]) -> None:
    try:
        dispatcher_of(faults.vm).execute(str(value), rest.get("arguments"))
    except QapiError as error:
        faults.vm.journal.note("scenario", "refused", command=value, desc=error.desc)


def _guest(faults: Faults, value: Any, rest: dict[str, Any]) -> None:
    try:
        guest_does(faults.vm, str(value), rest)
    except QapiError as error:
        faults.vm.journal.note("scenario", "refused", guest=value, desc=error.desc)


def _exit(faults: Faults, value: Any, rest: dict[str, Any]) -> None:
    faults.leave(Exit(code=value if isinstance(value, int) else 1, signal=rest.get("signal")))


#: action -> what it does with (faults, its value, the rest of its table)
ACTIONS: Mapping[str, Callable[[Faults, Any, dict[str, Any]], object]] = {
    "fault": _fault,
    "event": _event,
    "command": _command,
    "guest": _guest,
    "exit": _exit,
    "drop-channel": lambda faults, _value, _rest: faults.drop_channels(),
    "drop-connection": lambda faults, _value, _rest: faults.drop_connections(),
    "stop-process": lambda faults, value, _rest: faults.stop(value),
    "continue-process": lambda faults, _value, _rest: faults.resume(),
    "remove-socket": lambda faults, _value, _rest: faults.remove_sockets(),
    "clear-faults": lambda faults, _value, _rest: faults.clear(),
}

@dataclass(slots=True)
class _Laid:
    stage: Stage
    seen: int = 0
    done: int = 0


@dataclass(slots=True)
class Stages:
    """The stages of one machine, watching its journal."""

    faults: Faults
    _laid: list[_Laid] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults.vm.journal.listen(self._noted)

    def lay(self, stage: Stage) -> None:
        """Have it happen when its time comes. Raises ValueError."""
        vm = self.faults.vm
        check_stage(stage, vm.profile)
        laid = _Laid(stage)
        if "time" in stage.when:
            vm.call_later(round(stage.when["time"] * SECOND), lambda: self._do(laid))
        else:
            self._laid.append(laid)

    def _noted(self, entry: Entry) -> None:
        for laid in self._laid:
            (trigger, value), = laid.stage.when.items()
            if TRIGGERS[trigger] != entry.kind or str(value) != entry.name:
                continue
            laid.seen += 1
            if laid.seen <= laid.stage.skip:
                continue
            if laid.stage.times is None or laid.done < laid.stage.times:
                laid.done += 1
                self.faults.soon(lambda laid=laid: self._do(laid))  # type: ignore[misc]

    def _do(self, laid: _Laid) -> None:
        if self.faults.vm.exit_code is None:
            carry_out(self.faults, laid.stage)


def carry_out(faults: Faults, stage: Stage) -> None:
    """What a stage says happens now."""
    faults.vm.journal.note("scenario", "stage", when=dict(stage.when))
    for action in stage.then:
        name, value = _named(action)
        rest = _rest(action, name) if isinstance(action, dict) else {}
        ACTIONS[name](faults, value, rest)
