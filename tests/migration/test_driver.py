"""Who resumes the phases: what a phase gets, when, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from fakeqemu.formats.migration_stream.channels.return_path import Shut
from fakeqemu.migration.outgoing.driver import OutgoingDriver
from fakeqemu.migration.outgoing.phase import (
    Changed,
    ChannelBrokenError,
    CheckError,
    Continue,
    MigrationFailedError,
    Phase,
    Write,
)
from fakeqemu.migration.outgoing.return_path import SourceReturnPath
from fakeqemu.migration.phases.requests import Due, PhaseError, Sleep, Wait


class Channel:
    """Takes what is written; `on_write` is what the world does meanwhile."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.on_write: Any = None

    def write(self, data: bytes, fds: Sequence[int] = ()) -> None:
        assert not fds
        self.written.append(data)
        if self.on_write is not None:
            self.on_write()


@dataclass
class Owner:
    channel: Any = field(default_factory=Channel)
    return_path: SourceReturnPath = field(default_factory=SourceReturnPath)
    ended: list[str] = field(default_factory=list)
    failed: list[PhaseError] = field(default_factory=list)
    bugs: list[Any] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.complete = self.ended.append
        self.phase_failed = self.failed.append
        self.fail_by_bug = self.bugs.append
        self.record = self.recorded.append


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def driver(make, owner) -> OutgoingDriver:
    vm = make("10.0").machine
    return OutgoingDriver(vm.guard, vm.process, vm.profile.traits, owner)


def test_a_phase_waits_for_a_time_and_returns_the_run_state(driver, owner, clock):
    def phase() -> Phase:
        yield Sleep(5)
        assert (yield Wait(12)) == Due()
        yield Write(b"x")
        return "postmigrate"

    driver.start(phase())
    clock.advance(11)
    assert owner.channel.written == []
    clock.advance(1)
    assert owner.channel.written == [b"x"]
    assert owner.ended == ["postmigrate"]


def test_events_are_kept_while_a_phase_sleeps_but_not_those_it_sees_for_itself(
    driver, owner, clock
):
    got = []

    def phase() -> Phase:
        yield Sleep(10)
        got.append((yield Wait()))
        got.append((yield Wait()))
        return "running"

    driver.start(phase())
    driver.post(Continue())
    driver.wake(Changed())
    driver.channel_answered(Shut(0))
    assert got == []
    clock.advance(10)
    assert got == [Continue(), Shut(0)]
    assert owner.return_path.succeeded


def test_a_write_never_fails_but_its_error_is_raised_where_the_phase_asks(driver, owner):
    def phase() -> Phase:
        yield Write(b"x")
        yield Write(b"y")
        try:
            yield CheckError()
        except ChannelBrokenError as broken:
            raise MigrationFailedError(f"after all: {broken.text}") from broken
        raise AssertionError

    owner.channel.on_write = lambda: driver.channel_broken("gone", clean=False)
    driver.start(phase())
    assert owner.channel.written == [b"x", b"y"]
    assert [error.text for error in owner.failed] == ["after all: gone"]


def test_an_error_interrupts_a_wait_unless_it_keeps_errors(driver, owner, clock):
    def phase() -> Phase:
        yield Sleep(10, keeps_errors=True)
        got.append("slept")
        yield Wait(100)
        raise AssertionError

    got: list[str] = []
    driver.start(phase())
    driver.channel_broken("first", clean=True)
    driver.channel_broken("second", clean=False)
    assert (got, owner.failed) == ([], [])
    clock.advance(10)
    assert got == ["slept"]
    (error,) = owner.failed
    assert isinstance(error, ChannelBrokenError)
    assert (error.text, error.clean) == ("first", True)


def test_a_phase_that_is_stopped_by_what_it_does_goes_no_further(driver, owner, clock):
    went: list[str] = []

    def phase() -> Phase:
        try:
            driver.stop()
            yield Write(b"x")
            went.append("on")
            yield Sleep(1)
            return "running"
        finally:
            went.append("closed")

    driver.start(phase())
    clock.advance(5)
    assert went == ["closed"]
    assert (owner.channel.written, owner.ended, owner.failed) == ([], [], [])


def test_a_phase_that_is_stopped_while_it_writes_goes_no_further(driver, owner):
    def phase() -> Phase:
        yield Write(b"x")
        yield Write(b"y")
        return "running"

    owner.channel.on_write = driver.stop
    driver.start(phase())
    assert (owner.channel.written, owner.ended) == ([b"x"], [])


def test_a_bug_in_a_phase_goes_to_its_owner_once(driver, owner, clock, bugs):
    def phase() -> Phase:
        yield Sleep(1)
        raise KeyError("x")

    driver.start(phase())
    clock.advance(1)
    assert len(owner.bugs) == 1
    assert [bug.name for bug in bugs] == ["KeyError"]
    bugs.clear()
