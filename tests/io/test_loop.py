"""The process's own event loop behaves as asyncio's does, as far as it goes."""

from __future__ import annotations

import os

import pytest

from fakeqemu.clock import MILLISECOND
from fakeqemu.io.clock import LoopClock
from fakeqemu.io.loop import PollLoop


def test_calls_run_in_order_and_a_cancelled_one_not() -> None:
    loop, seen = PollLoop(), []
    loop.call_later(0.002, seen.append, "later")
    loop.call_soon(seen.append, "first")
    loop.call_soon(seen.append, "second")
    loop.call_soon(seen.append, "never").cancel()
    loop.call_later(0.0, seen.append, "never").cancel()
    assert loop.run_until(lambda: "later" in seen, 5)
    assert seen == ["first", "second", "later"]


def test_a_call_made_by_a_call_waits_for_the_next_turn() -> None:
    loop, seen = PollLoop(), []

    def again() -> None:
        seen.append("again")
        loop.call_soon(seen.append, "next")

    loop.call_soon(again)
    loop.turn(0)
    assert seen == ["again"]
    loop.turn(0)
    assert seen == ["again", "next"]


def test_readers_and_writers_of_one_descriptor() -> None:
    loop, seen = PollLoop(), []
    read_end, write_end = os.pipe()
    loop.add_writer(write_end, seen.append, "writable")
    loop.turn(0)
    assert seen == ["writable"]
    assert loop.remove_writer(write_end)
    assert not loop.remove_writer(write_end)
    loop.add_reader(read_end, lambda: seen.append(os.read(read_end, 10)))
    loop.turn(0)
    os.write(write_end, b"x")
    loop.turn(5)
    assert seen == ["writable", b"x"]
    loop.remove_reader(read_end)
    os.write(write_end, b"y")
    loop.turn(0)
    assert seen == ["writable", b"x"]
    os.close(read_end)
    os.close(write_end)


def test_running_out_of_time() -> None:
    assert not PollLoop().run_until(lambda: False, 0.001)


def test_an_error_of_a_callback_reaches_the_caller() -> None:
    loop = PollLoop()
    loop.call_soon(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.turn(0)


def test_a_clock_may_run_faster_than_the_wall() -> None:
    loop, seen = PollLoop(), []
    clock = LoopClock(loop, speed=1000.0)
    clock.call_later(1000 * MILLISECOND, lambda: seen.append(clock.now()))
    assert loop.run_until(lambda: bool(seen), 5)
    assert seen[0] >= 1000 * MILLISECOND
