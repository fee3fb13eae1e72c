"""asyncio's loop as machines use it: with files that cannot be polled, and longer than it runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.clock import MILLISECOND, VirtualClock
from fakeqemu.guard import Guard
from fakeqemu.io.loop import EarlyLoop, Loop
from fakeqemu.io.process.clock import LoopClock
from fakeqemu.journal import Journal
from tests.support.waiting import until


@pytest.fixture(params=["file", "null", "directory"])
def unpollable(request: pytest.FixtureRequest, tmp_path: Path) -> int:
    path = {"file": tmp_path / "f", "null": Path("/dev/null"), "directory": tmp_path}
    if request.param == "file":
        (tmp_path / "f").write_bytes(b"content")
    fd = os.open(path[request.param], os.O_RDONLY)
    request.addfinalizer(lambda: os.close(fd))
    return fd


async def test_what_cannot_be_polled_is_ready_in_every_turn(loop: Loop, unpollable: int) -> None:
    seen: list[str] = []
    before = loop.activity
    loop.add_reader(unpollable, seen.append, "read")
    assert seen == [], "never from inside the call"
    await until(lambda: len(seen) >= 3)
    assert loop.activity - before == len(seen)
    assert loop.remove_reader(unpollable)
    assert not loop.remove_reader(unpollable)
    seen.clear()
    loop.add_writer(unpollable, seen.append, "write")
    await until(lambda: seen)
    assert loop.remove_writer(unpollable)
    seen.clear()
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == []


async def test_a_callback_may_stop_itself(loop: Loop, unpollable: int) -> None:
    seen: list[bool] = []
    loop.add_reader(unpollable, lambda: seen.append(loop.remove_reader(unpollable)))
    await until(lambda: seen)
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == [True]


async def test_others_get_their_turn_beside_a_file(loop: Loop, unpollable: int) -> None:
    """A file is read in slices: a pipe beside it is served before the file is at its end."""
    order: list[str] = []
    read_end, write_end = os.pipe()
    loop.add_reader(unpollable, order.append, "file")
    loop.add_reader(read_end, order.append, "pipe")
    os.write(write_end, b"x")
    await until(lambda: "pipe" in order and order[-1] == "file")
    loop.remove_reader(unpollable)
    loop.remove_reader(read_end)
    os.close(read_end)
    os.close(write_end)


async def test_what_was_asked_before_there_was_a_loop_is_done(unpollable: int) -> None:
    early = EarlyLoop()
    loop = Loop(early)
    seen: list[str] = []
    read, write = os.pipe()
    os.write(write, b"x")
    loop.add_reader(read, lambda: seen.append(os.read(read, 1).decode()))
    loop.add_writer(write, lambda: seen.append("writer") or loop.remove_writer(write))
    loop.add_reader(unpollable, lambda: seen.append("file") or loop.remove_reader(unpollable))
    loop.call_soon(seen.append, "soon")
    loop.call_later(0.0, seen.append, "later")
    loop.next_turn(lambda: seen.append("turn"))
    taken_back = [loop.call_soon(seen.append, "no"), loop.call_later(0.0, seen.append, "no")]
    late = loop.call_later(0.01, seen.append, "no")
    for call in taken_back:
        call.cancel()
    other, end = os.pipe()
    loop.add_reader(other, seen.append, "no")
    assert loop.remove_reader(other)
    assert not loop.remove_reader(other)
    os.close(other)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(other, print)
    assert seen == [], "nothing happens yet"
    assert loop.time() == pytest.approx(asyncio.get_running_loop().time(), abs=60)
    early.make_room()
    early.start(asyncio.get_running_loop())
    late.cancel()
    loop.call_soon(seen.append, "after")
    await until(lambda: len(seen) >= 7)
    await asyncio.sleep(0.02)
    assert sorted(seen) == sorted(["x", "writer", "file", "soon", "later", "turn", "after"])
    assert seen.index("soon") < seen.index("after")
    loop.remove_reader(read)
    for fd in (read, write, end):
        os.close(fd)


async def test_a_closed_descriptor_is_an_error(loop: Loop) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(fd, print)


def test_a_loop_that_has_ended_does_no_harm() -> None:
    ended = asyncio.new_event_loop()
    loop = Loop(ended)
    read_end, write_end = os.pipe()
    loop.add_reader(read_end, print)
    ended.close()
    assert not loop.remove_reader(read_end)
    assert not loop.remove_writer(write_end)
    loop.call_soon(print).cancel()
    loop.call_later(1.0, print).cancel()
    os.close(read_end)
    os.close(write_end)


async def test_a_clock_may_run_faster_than_the_wall(loop: Loop) -> None:
    seen: list[int] = []
    clock = LoopClock(loop, speed=1000.0)
    clock.call_later(1000 * MILLISECOND, lambda: seen.append(clock.now()))
    await until(lambda: seen)
    assert seen[0] >= 1000 * MILLISECOND


async def test_a_callback_of_a_guarded_loop_may_fail(loop: Loop, bugs: list[Any]) -> None:
    guard = Guard(Journal(VirtualClock()), lambda _: None)
    seen: list[str] = []

    def fail(name: str) -> None:
        seen.append(name)
        raise KeyError(name)

    read, write = os.pipe()
    os.write(write, b"x")
    guarded = loop.guarded(guard)
    guarded.call_soon(fail, "soon")
    guarded.call_later(0.0, fail, "later")
    guarded.add_writer(write, fail, "writer")
    guarded.add_reader(read, fail, "reader")
    await until(lambda: len(set(seen)) == 4)
    assert guarded.remove_reader(read)
    assert guarded.remove_writer(write)
    os.close(read)
    os.close(write)
    assert {bug.name for bug in bugs} == {"KeyError"}
    bugs.clear()


async def test_descriptors_that_are_ready_come_before_the_next_turn(loop: Loop) -> None:
    read, write = os.pipe()
    seen: list[str] = []

    def readable() -> None:
        os.read(read, 1)
        seen.append("reader")

    loop.add_reader(read, readable)

    def first() -> None:
        loop.next_turn(lambda: seen.append("turn"))
        os.write(write, b"x")

    before = loop.activity
    loop.call_soon(first)
    await until(lambda: len(seen) == 2)
    assert seen == ["reader", "turn"]
    assert loop.activity == before + 2
    loop.remove_reader(read)
    os.close(read)
    os.close(write)
