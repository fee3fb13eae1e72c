"""Programs as somebody new writes them, each wrong once: the message says what to write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.testing import FakeQemu, Fleet, GroupClock, Template
from fakeqemu.testing.machine.sync import SyncFakeQemu

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
Program = Callable[[], Awaitable[object]]

#: program, its error, what the error says
PROGRAMS: list[tuple[Program, type[BaseException], str]] = []


def says(kind: type[BaseException], text: str) -> Callable[[Program], Program]:
    """The program below is wrong, and is told so."""

    def note(program: Program) -> Program:
        PROGRAMS.append((program, kind, text))
        return program

    return note


def machine(*options: str, **settings: Any) -> FakeQemu:
    return FakeQemu(*(options or NONE), **{"profile": "10.0", "deadline": 5, **settings})


async def ended(**settings: Any) -> FakeQemu:
    async with machine(**settings) as vm:
        pass
    return vm


# -- when a machine is there ----------------------------------------------------------------------


@says(RuntimeError, r"not started: use `async with` or await it first")
async def forgets_to_start() -> None:
    await machine().qmp("stop")


@says(RuntimeError, r"event STOP never came: the machine is not started: use `async with`")
async def waits_before_the_start() -> None:
    await machine().wait_event("STOP")


@says(RuntimeError, r"the machine has not ended: the machine is not started")
async def waits_for_the_end_before_the_start() -> None:
    await machine().wait_exit()


@says(RuntimeError, r"starts once, and this one has ended: make another one")
async def starts_again() -> None:
    await (await ended()).start()


@says(RuntimeError, r"has been stopped: make another one, and use it before its block ends")
async def asks_after_the_block() -> None:
    await (await ended()).qmp("stop")


@says(RuntimeError, r"has been stopped")
async def adds_a_fault_after_the_block() -> None:
    (await ended()).faults.add("late")


@says(RuntimeError, r"has been stopped")
async def uses_the_guest_after_the_block() -> None:
    (await ended()).guest.shutdown()


@says(RuntimeError, r"has been stopped")
async def uses_the_client_after_the_block() -> None:
    await (await ended()).client.execute("stop")


@says(RuntimeError, r"has been stopped")
async def moves_time_after_the_block() -> None:
    await (await ended(clock="virtual")).advance(1)


@says(RuntimeError, r"event STOP never came: the machine has been stopped")
async def waits_after_the_block() -> None:
    await (await ended()).wait_event("STOP")


@says(RuntimeError, r"has been stopped")
async def asks_a_process_after_the_block() -> None:
    await (await ended(runner="process", deadline=60)).qmp("stop")


@says(ConnectionError, r"no reply to stop: the machine has ended, exit status 0")
async def asks_after_quit() -> None:
    async with machine() as vm:
        await vm.qmp("quit")
        await vm.qmp("stop")


@says(AttributeError, r"vm lives in the thread .*qmp\(\.\.\.\)")
async def reaches_into_a_synchronous_machine() -> None:
    with FakeQemu.sync(*NONE, profile="10.0") as vm:
        vm.vm  # type: ignore[attr-defined]  # noqa: B018


@says(AttributeError, r"a machine has no 'wait_evnt'; did you mean 'wait_event'")
async def misspells_a_method() -> None:
    SyncFakeQemu(*NONE).wait_evnt("STOP")  # type: ignore[attr-defined]


@says(RuntimeError, r"runs in a thread; ask it with qmp")
async def reaches_into_a_thread() -> None:
    async with machine(runner="thread") as vm:
        vm.vm  # noqa: B018


@says(RuntimeError, r"client=False: leave that out, or use qmp")
async def wants_a_client_that_it_refused() -> None:
    async with machine(client=False) as vm:
        vm.client  # noqa: B018


# -- what is given to it --------------------------------------------------------------------------


@says(TypeError, r"profile is one version, such as '10.0'.*GroupClock")
async def pairs_two_versions() -> None:
    await FakeQemu.pair(profile=("10.0", "11.1"))  # type: ignore[arg-type]


@says(ValueError, r"destination has its own -incoming: leave it out")
async def pairs_with_incoming() -> None:
    await FakeQemu.pair(*NONE, "-incoming", "defer", profile="10.0")


@says(LookupError, r"no profile '9.9' \(there are .*10\.0")
async def names_a_version_that_is_none() -> None:
    machine(profile="9.9")


@says(ValueError, r"in a process has a clock of its own: clock='virtual', or .* GroupClock\(\)")
async def gives_a_process_a_clock_of_this_one() -> None:
    machine(runner="process", clock=VirtualClock())


@says(ValueError, r"in a thread has a clock of its own")
async def gives_a_thread_a_clock_of_this_one() -> None:
    machine(runner="thread", clock=VirtualClock())


@says(TypeError, r"clock is 'virtual', 'real', or a clock for several, not 5")
async def gives_a_number_as_clock() -> None:
    machine(clock=5)


@says(TypeError, r"allow is a list: allow=\['query-\*'\], not 'x-\*'")
async def gives_a_word_for_a_list() -> None:
    machine(allow="x-*")


@says(TypeError, r"proposals is a list: proposals=\['local'\]")
async def gives_a_proposal_for_a_list() -> None:
    machine(proposals="local")


@says(TypeError, r"guest is a dict such as \{'memory': '4G'\}")
async def gives_a_size_for_a_guest() -> None:
    machine(guest="4G")


@says(ValueError, r"deadline is seconds, a number above 0, not '3'")
async def gives_a_deadline_in_words() -> None:
    machine(deadline="3")


@says(TypeError, r"strict is True or False, not 'yes'")
async def says_yes() -> None:
    machine(strict="yes")


@says(TypeError, r"socket is True, False or a path, not 5")
async def gives_a_socket_by_number() -> None:
    machine(socket=5)


@says(ValueError, r"lat: No such file or directory; did you mean the scenario 'late'")
async def misspells_a_scenario() -> None:
    machine(scenario="lat")


@says(Exception, r"^-device nope: 'nope' is not a valid device model name$")
async def names_a_device_that_is_none() -> None:
    await machine(*NONE, "-device", "nope").start()


@says(Exception, r"prints what its options ask for and ends \(exit 0\): there is no machine")
async def starts_a_help_text() -> None:
    await machine("-machine", "help").start()


# -- what it is asked -----------------------------------------------------------------------------


@says(TypeError, r"a command is its name, and its arguments beside it: qmp\('stop'\)")
async def sends_a_message() -> None:
    async with machine() as vm:
        await vm.qmp({"execute": "stop"})  # type: ignore[arg-type]


@says(TypeError, r"arguments are a dict, or keywords: 'device_del'")
async def gives_an_argument_by_place() -> None:
    async with machine() as vm:
        await vm.qmp("device_del", "rng")  # type: ignore[arg-type]


@says(Exception, r"has not been found; did you mean 'query-status'\?")
async def misspells_a_command() -> None:
    async with machine() as vm:
        await vm.qmp("query-statu")


@says(Exception, r"has not been found \(11\.1, next have it\)")
async def uses_a_command_of_a_later_version() -> None:
    async with machine() as vm:
        await vm.qmp("query-firmware-log")


@says(Exception, r"unexpected; did you mean \{\"multifd-channels\": 3\}\?")
async def misspells_an_argument() -> None:
    async with machine() as vm:
        await vm.qmp("migrate-set-parameters", multifd_chanels=3)


@says(ValueError, r"no command 'query-firmware-log' in this version: 11\.1, next have it")
async def has_a_later_command_go_wrong() -> None:
    async with machine() as vm:
        vm.faults.add("error", command="query-firmware-log")


@says(ValueError, r"no command 'query-firmware-log' in this version: 11\.1, next have it")
async def replaces_a_later_command() -> None:
    async with machine() as vm:
        vm.stubs.replace("query-firmware-log", {})


@says(ValueError, r"no event 'VFIO_MIGRATION' in this version: .*10\.0, 11\.1")
async def waits_for_an_event_of_a_later_version() -> None:
    async with machine(profile="7.2") as vm:
        await vm.wait_event("VFIO_MIGRATION")


@says(ValueError, r"no member of event SHUTDOWN 'reson'; did you mean 'reason'")
async def waits_for_a_member_that_no_event_has() -> None:
    async with machine() as vm:
        await vm.wait_event("SHUTDOWN", reson="host-qmp-quit")


@says(ValueError, r"no migration status 'complete'; did you mean 'completed'")
async def runs_until_a_word_that_is_none() -> None:
    async with machine(clock="virtual") as vm:
        await vm.run_until("migration", "complete")


@says(ValueError, r"no run state 'pause'; did you mean 'paused'")
async def waits_for_a_state_that_is_none() -> None:
    async with machine() as vm:
        await vm.journal.wait_for("runstate", "pause")


@says(TypeError, r"advance takes seconds, a number, not '1s'")
async def advances_by_words() -> None:
    async with machine(clock="virtual") as vm:
        await vm.advance("1s")  # type: ignore[arg-type]


@says(AssertionError, r"expected cont after stop; these came: cont, stop")
async def does_it_in_the_wrong_order() -> None:
    async with machine(strict=True) as vm:
        vm.expect_in_order("stop", "cont")
        await vm.client.execute("cont")
        await vm.client.execute("stop")


@says(TypeError, r"each step stands for itself.*expect_in_order\('stop', \('cont'")
async def expects_a_list() -> None:
    async with machine() as vm:
        vm.expect_in_order(["stop", "cont"])  # type: ignore[arg-type]


@says(ValueError, r"no argument of migrate-set-parameters 'multifd-chanels'; did you mean 'multi")
async def expects_an_argument_that_is_none() -> None:
    async with machine() as vm:
        vm.expect("migrate-set-parameters", {"multifd-chanels": 4})


@says(TypeError, r"faults.add\('late', command='query-status'\), not 'late' and 'query-status'")
async def gives_a_faults_command_by_place() -> None:
    async with machine() as vm:
        vm.faults.add("late", "query-status")  # type: ignore[call-overload]


@says(TypeError, r"a fault is its name, then parameters by name")
async def gives_a_fault_as_a_table() -> None:
    async with machine() as vm:
        vm.faults.add({"name": "late"})  # type: ignore[call-overload]


# -- templates and fleets -------------------------------------------------------------------------


@says(Exception, r"^-device nope: 'nope' is not a valid device model name$")
async def prepares_a_machine_that_does_not_boot() -> None:
    await Template(*NONE, "-device", "nope", profile="10.0")().start()


@says(TypeError, r"a template makes copies: `async with template\(\) as vm`")
async def takes_a_template_for_a_machine() -> None:
    async with Template(*NONE, profile="10.0"):
        pass


@says(TypeError, r"a copy has the options of its template")
async def gives_a_copy_options() -> None:
    Template(*NONE, profile="10.0")("-S")  # type: ignore[arg-type]


@says(ValueError, r"runner='loop' or 'thread', not 'process'")
async def wants_a_copy_in_a_process() -> None:
    Template(*NONE, profile="10.0")(runner="process")  # type: ignore[arg-type]


@says(TypeError, r"prepare is a function of the machine, not 'stop'")
async def prepares_by_a_word() -> None:
    Template(*NONE, prepare="stop")  # type: ignore[arg-type]


@says(TypeError, r"a fleet is a file, or Fleet.of\(2, ...\)")
async def makes_a_fleet_of_a_number() -> None:
    Fleet(2)  # type: ignore[arg-type]


@says(TypeError, r"how many there are, then the options.*not '-machine'")
async def forgets_how_many() -> None:
    Fleet.of(*NONE)  # type: ignore[arg-type]


@says(ValueError, r"at least one machine, not 0")
async def makes_a_fleet_of_none() -> None:
    Fleet.of(0, *NONE)


@says(ValueError, r"no runner 'proces'; did you mean 'process'")
async def misspells_where_a_fleet_runs() -> None:
    Fleet.of(2, *NONE, runner="proces")  # type: ignore[arg-type]


@says(TypeError, r"machines of a fleet have names: fleet\['vm-0'\]")
async def counts_a_fleet() -> None:
    async with Fleet.of(1, *NONE, profile="10.0") as fleet:
        fleet[0]  # type: ignore[index]


@says(RuntimeError, r"'vm-0' does not run: use `async with` or start\(\) first")
async def forgets_to_start_a_fleet() -> None:
    Fleet.of(1, *NONE, profile="10.0")["vm-0"]


@says(TypeError, r"a fleet is asynchronous: `async with Fleet.of\(...\) as fleet`")
async def waits_for_no_fleet() -> None:
    with Fleet.of(1, *NONE, profile="10.0"):
        pass


@pytest.mark.parametrize(
    ("program", "kind", "text"),
    [pytest.param(*each, id=each[0].__name__) for each in PROGRAMS],
)
async def test_a_wrong_program(
    program: Program, kind: type[BaseException], text: str
) -> None:
    with pytest.raises(kind, match=text):
        async with asyncio.timeout(70):
            await program()


FIXTURE = """
import pytest

@pytest.mark.fakeqemu(profile="9.9")
def test_a_version_that_is_none(fakeqemu):
    fakeqemu.sync("-machine", "none").start()

@pytest.mark.fakeqemu(profil="10.0")
def test_a_setting_that_is_none(fakeqemu):
    fakeqemu.sync("-machine", "none").start()

def test_a_template_for_a_machine(fakeqemu):
    with fakeqemu.template("-machine", "none") as vm:
        vm.qmp("stop")
"""


def test_wrong_uses_of_the_fixture(tmp_path: Path) -> None:
    from tests.testing.test_plugin import run_tests

    said = run_tests(tmp_path, FIXTURE)
    assert "no profile '9.9' (there are" in said
    assert "no setting 'profil'; did you mean 'profile'?" in said
    assert "a template makes copies: `async with template() as vm`" in said


async def test_what_is_right() -> None:
    """The machines that the messages lead to."""
    clock = GroupClock()
    async with machine(profile="10.0", clock=clock) as one:  # noqa: SIM117
        async with machine(profile="11.1", clock=clock, runner="thread") as other:
            await one.advance(1)
            assert one.now() == other.now() == 1
    assert "exit" not in {entry.kind for entry in one.journal}
    fleet = await Fleet.of(1, *NONE, profile="10.0")
    assert len(fleet) == 1
    await fleet.stop()
