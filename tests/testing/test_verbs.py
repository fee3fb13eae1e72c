"""The one table of verbs, and what reads it."""

from __future__ import annotations

import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.profile import Profile
from fakeqemu.testing import FakeQemu, UnknownNameError
from fakeqemu.testing.control.commands import COMMANDS
from fakeqemu.testing.faults.build import build_fault, build_faults, named
from fakeqemu.testing.faults.model import Delay
from fakeqemu.testing.machine.sync import SyncFakeQemu
from fakeqemu.testing.scenarios.file import ScenarioError, parse
from fakeqemu.testing.scenarios.stages import ACTIONS
from fakeqemu.testing.verbs.controller import MachineController
from fakeqemu.testing.verbs.table import VERBS, prepare

ROOT = Path(__file__).parents[2]
PROFILE = Profile.load("10.0")
NONE = ("-machine", "none", "-nodefaults", "-display", "none")


def test_what_is_made_from_the_table_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_testing_api", "--check"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", VERBS)
def test_the_controller_has_a_method_for_every_verb(name: str) -> None:
    assert callable(getattr(MachineController, name.replace("-", "_")))


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.handle])
def test_both_handles_have_the_verb_where_the_table_says(name: str) -> None:
    for made in (FakeQemu(*NONE), SyncFakeQemu(*NONE)):
        first, _, rest = VERBS[name].handle.partition(".")
        assert hasattr(type(made), first) or hasattr(made, first)
        if rest:
            assert callable(attrgetter(VERBS[name].handle)(made))


def test_the_control_socket_and_stages_have_no_words_of_their_own() -> None:
    verbs = {name for name in COMMANDS if "machine" in COMMANDS[name][0]}
    assert verbs == {name for name, verb in VERBS.items() if verb.control}
    assert set(ACTIONS) == {name for name, verb in VERBS.items() if verb.stage}
    assert "function" not in COMMANDS["stub"][0], "there is nobody to call"


#: a mistake in a fault: its name, its parameters, what is said of it
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("lat", {}, "no fault or scenario 'lat'; did you mean 'late'?"),
    ("error", {"command": "stp"}, "no command 'stp'; did you mean 'stop'?"),
    ("drop", {"place": "midle"}, "no place 'midle'; did you mean 'middle'?"),
    ("exit", {"signal": "KIL"}, "no signal 'KIL'; did you mean 'KILL'?"),
    ("exit", {"signal": 99}, "signal of fault 'exit' must be a signal, not 99"),
    ("split", {"size": 0}, "size of fault 'split' must be at least 1"),
    ("delay", {"seconds": "3"}, "seconds of fault 'delay' must be float, not '3'"),
]


@pytest.mark.parametrize(("name", "parameters", "text"), MISTAKES)
async def test_a_mistake_in_a_fault_is_told_with_the_same_words_everywhere(
    name: str, parameters: dict[str, Any], text: str
) -> None:
    async with FakeQemu(*NONE, profile="10.0", client=False) as machine:
        with pytest.raises(ValueError) as caught:
            machine.faults.add(name, **parameters)
        assert str(caught.value) == text
        with pytest.raises(ValueError) as caught:
            MachineController(machine.vm).call("fault", {"name": name, "parameters": parameters})
        assert str(caught.value) == text
    fault = {"name": name, **parameters}
    stage = {"when": {"event": "STOP"}, "then": [{"fault": name, **parameters}]}
    for place, data in (("faults[1]", {"faults": [fault]}), ("stages[1]", {"stages": [stage]})):
        with pytest.raises(ScenarioError) as told:
            parse(data, "x").check(PROFILE)
        assert str(told.value) == f"x: {place}: {text}"


@pytest.mark.parametrize("runner", ["loop", "thread", "fork"])
async def test_a_mistake_is_the_same_exception_wherever_the_machine_runs(runner: str) -> None:
    async with FakeQemu(*NONE, profile="10.0", client=False, runner=runner) as machine:
        with pytest.raises(UnknownNameError) as caught:
            machine.faults.add("lat")
        assert (caught.value.name, caught.value.nearest) == ("lat", "late")
        with pytest.raises(UnknownNameError, match="did you mean 'STOP'"):
            machine.send_event("STOPP")
        with pytest.raises(LookupError, match="no fault with number 9"):
            machine.faults.remove(9)
        with pytest.raises(ValueError, match="Invalid parameter type for 'seconds'"):
            machine.faults.stop_process("3")  # type: ignore[arg-type]
        assert machine.faults.list() == []


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ({"exit": 1, "signl": "KILL"}, "Parameter 'signl' is unexpected"),
        ({"exit": "one"}, "Invalid parameter type for 'code', expected: integer"),
        ({"event": "STOPP"}, "no event 'STOPP'; did you mean 'STOP'?"),
        ({"qmp": "stp"}, "no command 'stp'; did you mean 'stop'?"),
        ({"drop-channels": 3}, "drop-channels takes no value"),
        ({"advance": 3}, "no action 'advance'"),
        ("fault", "Parameter 'name' is missing"),
        (3, "an action is a word or a table, not 3"),
    ],
)
def test_a_mistake_in_a_stage_is_told_before_anything_starts(action: Any, text: str) -> None:
    stage = {"when": {"event": "STOP"}, "then": [action]}
    with pytest.raises(ScenarioError) as caught:
        parse({"stages": [stage]}, "x").check(PROFILE)
    assert str(caught.value).startswith(f"x: stages[1]: {text}")


async def test_the_synchronous_handle_ends_the_process_as_the_fault_does() -> None:
    async with FakeQemu(*NONE, profile="10.0", client=False) as machine:
        machine.faults.exit(7)
        assert await machine.wait_exit() == 7
        assert machine.journal.of("fault", "exit")


def test_a_ready_made_fault_is_its_name_and_what_differs_from_the_default() -> None:
    fault = Delay(command="stop", seconds=3)
    name, parameters = named(fault, {})
    assert (name, parameters) == ("delay", {"command": "stop", "seconds": 3})
    assert build_fault(name, parameters, PROFILE) == fault
    with pytest.raises(ValueError, match="takes no parameters"):
        named(fault, {"skip": 1})


def test_parameters_of_a_scenario_go_to_those_of_its_faults_that_have_them() -> None:
    first, second = build_faults("stale-events", {"stale": "STOP", "skip": 1}, PROFILE)
    assert (first.skip, second.skip) == (1, 1)
    (delay,) = build_faults("late", {"command": "stop"}, PROFILE)
    assert delay == Delay(command="stop", seconds=180.0)
    with pytest.raises(UnknownNameError, match="parameter of scenario 'late' called 'secnds'"):
        build_faults("late", {"secnds": 1}, PROFILE)


def test_none_means_that_an_argument_is_left_out() -> None:
    assert prepare("stop-process", {"seconds": None}, PROFILE).arguments == {}
