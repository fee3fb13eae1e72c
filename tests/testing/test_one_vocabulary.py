"""A fault has one name, and one set of parameters, in all places where it can be said.

The places are walked for every fault and parameter there is, with a value that is right and one
that is wrong: the same fault is made, or the same words are said.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest

from fakeqemu.dataclass import fields
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.testing.control.commands import Control
from fakeqemu.testing.faults.api import FaultsApi
from fakeqemu.testing.faults.model import FAULTS, Fault
from fakeqemu.testing.faults.typed import ScenarioName, TypedFaults
from fakeqemu.testing.fleet.file import parse_fleet
from fakeqemu.testing.machine.verification import Verifier
from fakeqemu.testing.scenarios.catalog import SCENARIOS
from fakeqemu.testing.scenarios.file import ScenarioError, ScenarioFile, parse
from fakeqemu.testing.scenarios.stages import ACTIONS, Stage, build_stage
from fakeqemu.testing.verbs.table import VERBS, Prepared, prepare
from tests.support.machines import Booted

PROFILE = Profile.load("10.0")
MACHINE = Booted(profile="10.0")
#: parameter -> a value that every fault with it takes
RIGHT: Mapping[str, Any] = {
    "command": "query-status", "event": "STOP", "greeting": True, "connection": "compat_monitor0",
    "channel": False, "migration": "active", "runstate": "paused", "skip": 1, "count": 2,
    "probability": 0.5, "seed": 3, "seconds": 1.5, "until_migration": "completed",
    "until_runstate": "running", "converge": True, "desc": "Invalid argument",
    "error_class": "DeviceNotFound", "place": "middle", "size": 7, "gap": 0.5, "messages": 3,
    "wait": 0.25, "id": 9, "copies": 4, "before": "reply", "stale": "RESUME",
    "data": {"action": "none"}, "at": "before-socket", "code": 5, "signal": "TERM",
    "file": True, "device": "vd", "operation": "read", "errno": "ENOSPC", "access": True,
    "job": "j", "percent": 50, "section": "timer", "text": "no memory",
}  # fmt: skip
#: what goes with a parameter that has an effect with another one only
WITH: Mapping[str, Mapping[str, Any]] = {"text": {"at": "before-socket"}}
#: verbs that do what a fault of that name does, at once, with what they leave out and why
VERBS_OF_FAULTS: Mapping[str, Mapping[str, str]] = {
    "exit": {"at": "a verb is for now", "text": "is said by a process that has not started"},
    "stop-process": {},
    "remove-socket": {},
}

Outcome = list[Fault] | str
Place = Callable[[str, dict[str, Any]], Outcome]


def built(prepared: Prepared) -> list[Fault]:
    return list(prepared.arguments["faults"])


def by_the_handle(name: str, parameters: dict[str, Any]) -> Outcome:
    made: list[Fault] = []

    def call(verb: str, /, **arguments: Any) -> Any:
        made.extend(built(prepare(verb, arguments, PROFILE)))
        return []

    keywords = {key.replace("-", "_"): value for key, value in parameters.items()}
    FaultsApi(call, Verifier(PROFILE.schema)).add(name, **keywords)  # type: ignore[call-overload]
    return made


def of(file: ScenarioFile) -> list[Fault]:
    file.check(PROFILE)
    (prepared,) = file._prepared[PROFILE]
    return built(prepared)


def of_stage(stage: Stage) -> list[Fault]:
    (prepared,) = stage.actions(PROFILE)
    return built(prepared)


def in_a_scenario_file(name: str, parameters: dict[str, Any]) -> Outcome:
    return of(parse({"faults": [{"name": name, **parameters}]}, "f"))


WHEN = {"command": "query-name"}


def in_a_stage(name: str, parameters: dict[str, Any]) -> Outcome:
    return of_stage(build_stage({"when": WHEN, "then": [{"fault": name, **parameters}]}))


def in_a_rule_of_a_fleet(name: str, parameters: dict[str, Any]) -> Outcome:
    rule = {"machines": "vm-*", "faults": [{"name": name, **parameters}]}
    fleet = parse_fleet({"profile": "10.0", "machines": [{}], "rules": [rule]}, "f")
    return of(fleet.members[0].scenarios[1])


def in_a_stage_of_a_fleet(name: str, parameters: dict[str, Any]) -> Outcome:
    stage = {"when": WHEN, "machines": "vm-*", "then": [{"fault": name, **parameters}]}
    fleet = parse_fleet({"profile": "10.0", "machines": [{}], "stages": [stage]}, "f")
    return of_stage(fleet.stages[0].stage)


def by_the_control_socket(name: str, parameters: dict[str, Any]) -> Outcome:
    control = Control({"vm": MACHINE.vm})
    made: list[Fault] = []
    # whether there is such a disk or character device is a matter of the machine
    def note(faults: list[Fault]) -> None:
        made.extend(faults)

    control._controller("vm").fault = note  # type: ignore[assignment, method-assign]
    control.execute("fault", {"name": name, "parameters": parameters})
    return made


PLACES: Mapping[str, Place] = {
    "faults.add": by_the_handle,
    "scenario file": in_a_scenario_file,
    "stage": in_a_stage,
    "rule of a fleet": in_a_rule_of_a_fleet,
    "stage of a fleet": in_a_stage_of_a_fleet,
    "control socket": by_the_control_socket,
}


def outcome(place: Place, name: str, parameters: dict[str, Any]) -> Outcome:
    """The faults, or what is said without the place in a file."""
    try:
        return place(name, parameters)
    except ScenarioError as error:
        return str(error).rsplit("]: ", 1)[-1]
    except (ValueError, QapiError) as error:
        return str(error)


def everywhere(name: str, parameters: dict[str, Any]) -> Outcome:
    """What all places make of it, which is one thing."""
    found = {each: outcome(place, name, parameters) for each, place in PLACES.items()}
    first = found["faults.add"]
    assert found == dict.fromkeys(PLACES, first)
    return first


@cache
def typed() -> dict[str, set[str]]:
    """Fault -> the keywords that a type checker knows of `faults.add`."""
    known: dict[str, set[str]] = {}
    for each in typing.get_overloads(TypedFaults.add):
        hints = typing.get_type_hints(each)
        if typing.get_origin(hints["what"]) is typing.Literal and hints["what"] != ScenarioName:
            (name,) = typing.get_args(hints["what"])
            (keywords,) = typing.get_args(hints["parameters"])
            known[name] = set(typing.get_type_hints(keywords))
    return known


def parameters_of(name: str) -> list[str]:
    return [field.name for field in fields(FAULTS[name])]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_and_each_of_its_parameters(name: str) -> None:
    (plain,) = everywhere(name, {})
    assert plain == FAULTS[name]()
    for key in parameters_of(name):
        value, others = RIGHT[key], WITH.get(key, {})
        for spelling in {key, key.replace("_", "-")}:
            made = everywhere(name, {spelling: value, **others})
            assert isinstance(made, list), f"{key}: {made}"
            assert getattr(made[0], key) == value
        said = everywhere(name, {f"{key}x": value})
        assert isinstance(said, str)
        assert said.startswith(f"no parameter of fault {name!r} called '{key}x'; did you mean")


def test_there_is_a_value_for_every_parameter_and_no_other() -> None:
    assert {key for name in FAULTS for key in parameters_of(name)} == set(RIGHT)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario(name: str) -> None:
    made = everywhere(name, {})
    assert isinstance(made, list) and len(made) == len(SCENARIOS[name].faults)


def test_a_word_that_is_none() -> None:
    assert everywhere("lost-evnt", {}) == (
        "no fault or scenario 'lost-evnt'; did you mean 'lost-event'?"
    )


def test_type_checkers_know_the_same_words() -> None:
    assert typed() == {name: set(parameters_of(name)) for name in FAULTS}
    assert set(typing.get_args(ScenarioName)) == set(SCENARIOS) - set(FAULTS)


def test_a_verb_that_is_called_as_a_fault_does_the_same() -> None:
    assert set(VERBS_OF_FAULTS) == {name for name in VERBS if name in FAULTS}
    scope = {field.name for field in fields(Fault)}
    for name, left_out in VERBS_OF_FAULTS.items():
        own = set(parameters_of(name)) - scope
        assert set(VERBS[name].arguments) == own - set(left_out)
        assert name in ACTIONS and VERBS[name].control and VERBS[name].handle


def test_what_has_no_effect_is_not_taken() -> None:
    said = everywhere("exit", {"text": "no memory"})
    assert said == "text of fault 'exit' is said before-socket only: at = 'before-socket'"
