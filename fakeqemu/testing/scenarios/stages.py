"""Staged behaviour: when the machine does this, that happens.

A trigger is looked for in the journal, so anything that is written down there can be one. What
happens are verbs of `testing.verbs.table`, when the machine has finished what it was at, never in
its middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError
from fakeqemu.testing.clock.duration import LONGEST, is_duration
from fakeqemu.testing.names import check_name
from fakeqemu.testing.verbs.table import VERBS, Prepared, prepare

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.profile import Profile
    from fakeqemu.testing.verbs.controller import MachineController

#: trigger -> the kind of journal entry whose name it gives
TRIGGERS: Mapping[str, str] = {
    "command": "command",
    "event": "event",
    "migration": "migration",
    "migration-pass": "migration-pass",
    "runstate": "runstate",
    "phase": "phase",
    "fault": "fault",
    # of the machine's clock, seconds since the stage was added
    "time": "",
}
#: what may happen: a word, or a table with one of these and the verb's arguments
ACTIONS = tuple(name for name, verb in VERBS.items() if verb.stage)


@dataclass(frozen=True, slots=True)
class Stage:
    """One rule of a scenario."""

    #: trigger -> name; {"migration-pass": 3}, {"time": 2.5}
    when: Mapping[str, Any]
    #: what happens, in order
    then: tuple[Any, ...]
    #: let the trigger come so often first
    skip: int = 0
    #: how often it happens; None: each time
    times: int | None = 1
    #: where it was written, for messages
    place: str = ""
    #: by profile, what happens as verbs with their arguments built
    _actions: dict[Profile, tuple[Prepared, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def actions(self, profile: Profile) -> tuple[Prepared, ...]:
        """What happens, checked and built once for a profile. Raises ValueError."""
        if profile not in self._actions:
            _check_trigger(self.when, profile)
            if not self.then:
                raise ValueError("then is empty")
            self._actions[profile] = tuple(_action(each, profile) for each in self.then)
        return self._actions[profile]

    def spoken(self) -> list[tuple[str, dict[str, Any]]]:
        """What happens, as verbs with the arguments that were written, for a machine elsewhere."""
        return [_spoken(each) for each in self.then]


def build_stage(table: Mapping[str, Any], place: str = "") -> Stage:
    """A stage from what a file or the control socket says. Raises ValueError."""
    for key in table:
        check_name("key", key, ("when", "then", "skip", "times"))
    when, then = table.get("when"), table.get("then")
    if not isinstance(when, dict):
        raise ValueError("when must be a table such as { migration-pass = 3 }")
    if isinstance(then, str | dict):
        then = [then]
    if not isinstance(then, list):
        raise ValueError("then must be a list of actions")
    # 0 stands for "each time": TOML has no null
    times = table.get("times", 1)
    return Stage(when, tuple(then), int(table.get("skip", 0)), times or None, place)


def _check_trigger(when: Mapping[str, Any], profile: Profile) -> None:
    if len(when) != 1:
        raise ValueError(f"when takes one trigger, not {len(when)}")
    (trigger, value), = when.items()
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
    elif trigger in ("time", "migration-pass") and not is_duration(value):
        raise ValueError(f"{trigger} takes a number from 0 to {LONGEST}, not {value!r}")


def _action(action: Any, profile: Profile) -> Prepared:
    return prepare(*_spoken(action), profile)


def _spoken(action: Any) -> tuple[str, dict[str, Any]]:
    """"exit", { exit = 5 } or { event = "STOP", data = {...} } as a verb with arguments."""
    if isinstance(action, str):
        return check_name("action", action, ACTIONS), {}
    if not isinstance(action, dict):
        raise ValueError(f"an action is a word or a table, not {action!r}")
    # a fault's scope may say `command` and `event`, too: the first verb of the table counts
    named = next((each for each in ACTIONS if each in action), next(iter(action), ""))
    name = check_name("action", named, ACTIONS)
    verb, given = VERBS[name], dict(action)
    value = given.pop(name)
    if verb.value:
        arguments: dict[str, Any] = {verb.value: value}
    elif value is True:
        arguments = {}
    else:
        raise ValueError(f"{name} takes no value")
    if verb.rest:
        arguments[verb.rest] = given
    else:
        arguments |= given
    return name, arguments


@dataclass(slots=True)
class _Armed:
    stage: Stage
    seen: int = 0
    done: int = 0


class Stages:
    """The stages of one machine, watching its journal."""

    def __init__(self, controller: MachineController) -> None:
        self._controller = controller
        self._armed: list[_Armed] = []
        controller.vm.journal.listen(self._noted)

    def add(self, stage: Stage) -> None:
        """Have it happen when its time comes. Raises ValueError."""
        vm = self._controller.vm
        stage.actions(vm.profile)
        if "time" in stage.when:
            delay = round(stage.when["time"] * SECOND)
            vm.process.call_later(delay, lambda: carry_out(self._controller, stage))
        else:
            self._armed.append(_Armed(stage))

    def _noted(self, entry: JournalEntry) -> None:
        for armed in self._armed:
            stage = armed.stage
            (trigger, value), = stage.when.items()
            if TRIGGERS[trigger] != entry.kind or str(value) != entry.name:
                continue
            armed.seen += 1
            if armed.seen <= stage.skip:
                continue
            if stage.times is None or armed.done < stage.times:
                armed.done += 1
                self._controller.faults.soon(
                    lambda stage=stage: carry_out(self._controller, stage)  # type: ignore[misc]
                )


def carry_out(controller: MachineController, stage: Stage) -> None:
    """What a stage says happens now, if the machine lives."""
    vm = controller.vm
    if vm.process.exit_code is not None:
        return
    vm.journal.note("scenario", "stage", when=dict(stage.when))
    for action in stage.actions(vm.profile):
        try:
            controller.carry_out(action)
        except (QapiError, ValueError) as error:
            vm.journal.note("scenario", "refused", action=action.verb, desc=str(error))
