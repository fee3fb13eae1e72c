"""An API that cannot be held wrong: what is mistaken is said, with what to write instead."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.model.guest.guest import CHOICES
from fakeqemu.testing import FakeQemu, SyncFakeQemu, UnknownNameError
from fakeqemu.testing.machine.guest import WORDS
from fakeqemu.testing.machine.settings import AsyncSettings, GuestSettings
from tests.testing.test_plugin import run_tests

NONE = ("-machine", "none", "-nodefaults", "-display", "none")


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: FakeQemu("-machine none -S"), ValueError, "write '-machine', 'none', '-S'"),
        (lambda: FakeQemu(["-machine", "none"]), TypeError, r"put a \* before it"),
        (lambda: FakeQemu("-m", 64), TypeError, "an option is a string, not 64"),
        (lambda: FakeQemu(*NONE, profil="10.0"), ValueError, "did you mean 'profile'"),
        (lambda: SyncFakeQemu(*NONE, sedd=1), ValueError, "did you mean 'seed'"),
        (lambda: FakeQemu(*NONE, thread=None), ValueError, "no setting 'thread'"),
        (lambda: FakeQemu(*NONE, clock="virtal"), ValueError, "did you mean 'virtual'"),
        (lambda: FakeQemu(*NONE, runner="proces"), ValueError, "did you mean 'process'"),
        (lambda: FakeQemu(*NONE, speed=0), ValueError, "speed is a number above 0, not 0"),
        (lambda: FakeQemu(*NONE, clock="virtual", speed=2), ValueError, "speed has no effect on"),
        (lambda: FakeQemu(*NONE, seed="1"), TypeError, "seed is a whole number, not '1'"),
        (lambda: FakeQemu(*NONE).__enter__(), TypeError, "async with"),
        (lambda: SyncFakeQemu(*NONE).__await__(), TypeError, "not asynchronous"),
    ],
)
def test_what_is_given(make: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        make()


def test_what_is_typed_is_what_is_taken() -> None:
    """A type checker knows the names that are looked up when a machine is made."""
    parameters = inspect.signature(FakeQemu).parameters.values()
    taken = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert set(AsyncSettings.__annotations__) == taken
    assert set(GuestSettings.__annotations__) == {*WORDS, *CHOICES}


async def test_with_where_it_is_async_with() -> None:
    with pytest.raises(TypeError, match=r"FakeQemu.sync"), FakeQemu(*NONE):
        pass
    with pytest.raises(TypeError, match="not asynchronous"):
        async with SyncFakeQemu(*NONE):
            pass


def test_a_loop_that_is_not_of_asyncio() -> None:
    starting = FakeQemu(*NONE).start()
    with pytest.raises(RuntimeError, match=r"fakeqemu.sync.*trio.to_thread"):
        starting.send(None)


async def test_names_are_checked(fakeqemu: Any, tmp_path: Path) -> None:
    async with fakeqemu(*NONE, profile="10.0", clock="virtual") as vm:
        for wrong, text in (
            (lambda: vm.wait_event("STPO"), "did you mean 'STOP'"),
            (lambda: vm.wait_for("runstat"), "did you mean 'runstate'"),
            (lambda: vm.run_until("migraton"), "did you mean 'migration'"),
        ):
            with pytest.raises(UnknownNameError, match=text):
                await wrong()
        with pytest.raises(UnknownNameError, match="did you mean 'stop'"):
            vm.journal.commands("stpo")
        with pytest.raises(UnknownNameError, match="did you mean 'event'"):
            vm.journal.of("evnt")
        assert repr(vm) == "<FakeQemu machine 10.0 loop, running>"


async def test_an_event_is_not_seen_twice(fakeqemu: Any) -> None:
    async with fakeqemu(*NONE, profile="10.0", deadline=0.3) as vm:
        await vm.qmp("stop")
        first = await vm.wait_event("STOP")
        with pytest.raises(TimeoutError, match="event STOP never came again"):
            await vm.wait_event("STOP")
        mark = vm.mark()
        for command in ("cont", "stop", "cont", "stop"):
            await vm.qmp(command)
        second = await vm.wait_event("STOP", nth=2)
        assert second is not first and vm.events[-1] is second
        # what has another name was not waited for yet
        assert vm.events.index(await vm.wait_event("RESUME")) < mark
        # looking back is asked for
        assert await vm.wait_event("STOP", since=0) is first
        assert vm.events.index(await vm.wait_event("STOP", since=mark)) == mark + 1
        with pytest.raises(ValueError, match="nth is at least 1"):
            await vm.wait_event("STOP", nth=0)


async def test_run_until_waits_for_who_has_not_acted_yet(fakeqemu: Any) -> None:
    async with fakeqemu(*NONE, profile="10.0", clock="virtual", deadline=5) as vm:

        async def acts_late() -> None:
            late = asyncio.Event()
            asyncio.get_running_loop().call_later(0.1, late.set)
            await late.wait()
            await vm.qmp("stop")

        acting = asyncio.ensure_future(acts_late())
        await vm.run_until("runstate", "paused")
        await acting
        vm.deadline = 0.2
        with pytest.raises(TimeoutError, match="no timer is left, and nobody acted"):
            await vm.run_until("runstate", "running", old="prelaunch-nope")
    async with fakeqemu(*NONE, profile="10.0") as vm:
        with pytest.raises(ValueError, match="clock='virtual', or wait by the wall with wait_for"):
            await vm.run_until("runstate", "paused")


NEVER_STARTED = """
def test_sync(fakeqemu):
    fakeqemu.sync("-machine", "none")

async def test_async(fakeqemu):
    fakeqemu("-machine", "none")

def test_started(fakeqemu):
    fakeqemu.sync("-machine", "none").start()
"""


def test_a_machine_that_was_never_started(tmp_path: Path) -> None:
    said = run_tests(tmp_path, NEVER_STARTED)
    assert "3 passed, 2 errors" in said
    assert said.count("machine: made and never started: `async with` or await it") == 2


async def test_a_report_is_not_all_start(fakeqemu: Any) -> None:
    async with fakeqemu(*NONE, profile="10.0") as vm:
        await vm.qmp("stop")
        whole, short = vm.journal.timeline(), vm.journal.timeline(60, start=False)
        assert " boot " in whole and " boot " not in short
        steps = len(vm.journal.of("boot")) + len(vm.journal.of("phase"))
        assert short.startswith(f"({steps} steps of the start)\n")
        assert short.splitlines()[-1] == whole.splitlines()[-1]
