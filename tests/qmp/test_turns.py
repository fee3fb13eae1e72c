"""Who is served when: one request a turn of the process, and each session in its turn."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fakeqemu.boot.configuration import Configuration
from fakeqemu.clock import VirtualClock
from fakeqemu.model.chardev import Chardev, ChardevOptions
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qmp.qtest import QtestServer
from fakeqemu.qmp.terminal import HmpTerminal

NAME = {"execute": "query-name"}
YANK = {"exec-oob": "query-yank"}


class TurnHost(NullHost):
    """A process whose turns the test takes by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[Callable[[], None]] = deque()

    def yield_turn(self, call: Callable[[], None]) -> bool:
        self.waiting.append(call)
        return True

    def turn(self) -> None:
        for _ in range(len(self.waiting)):
            self.waiting.popleft()()

    def turns(self) -> int:
        """Take turns until nobody waits; how many there were."""
        count = 0
        while self.waiting:
            self.turn()
            count += 1
        return count


@pytest.fixture
def host() -> TurnHost:
    return TurnHost()


@pytest.fixture
def vm(host: TurnHost, stubs: Any) -> Machine:
    configuration = replace(Configuration(), compat_policy={})
    vm = Machine(Profile.load("10.0"), configuration, VirtualClock(), host)
    vm.main_loop_running = True
    return vm


@pytest.fixture
def clients(vm: Machine, host: TurnHost, connect: Any) -> list[Any]:
    found = []
    for _ in range(3):
        client = connect(vm)
        client.send({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}})
        host.turns()
        client.take()
        found.append(client)
    return found


def test_a_pipeline_holds_others_up_by_one_request(host: TurnHost, clients: list[Any]) -> None:
    first, second, third = clients
    assert len(first.send(*[NAME] * 300)) == 1
    host.turn()
    assert len(first.take()) == 1
    assert second.send(NAME) == []
    assert third.send(NAME) == []
    host.turn()
    assert [len(client.take()) for client in clients] == [0, 1, 0]
    host.turn()
    assert [len(client.take()) for client in clients] == [0, 0, 1]
    host.turn()
    assert [len(client.take()) for client in clients] == [1, 0, 0]
    host.turns()
    assert len(first.take()) == 297


def test_requests_out_of_band_are_a_turn_each(host: TurnHost, clients: list[Any]) -> None:
    first, second, _ = clients
    assert len(first.send(*[YANK] * 100)) == 1
    assert first.pauses[-1] is True
    assert len(second.send(YANK)) == 1
    assert host.turns() >= 99
    assert len(first.take()) == 99
    assert first.pauses[-1] is False


def test_a_long_message_is_read_in_many_turns(host: TurnHost, clients: list[Any]) -> None:
    first, second, _ = clients
    long = json.dumps({**NAME, "id": [0] * 50_000}).encode()
    assert first.send(long) == []
    assert first.pauses[-1] is True
    host.turn()
    assert second.send(NAME) == [{"return": {}}]
    assert host.turns() > 20
    (reply,) = first.take()
    assert len(reply["id"]) == 50_000
    assert first.pauses[-1] is False


def test_a_client_that_hangs_up_in_between_is_still_answered_for(
    vm: Machine, host: TurnHost, clients: list[Any]
) -> None:
    first, _, _ = clients
    first.send(NAME, {"execute": "stop"}, NAME)
    first.session.close()
    host.turns()
    assert vm.journal.of("event", "STOP")
    assert first.session not in vm.dispatcher.sessions


def device(vm: Machine) -> tuple[Chardev, list[bytes]]:
    """A connected character device and what is written to it."""
    out: list[bytes] = []

    class Transport:
        def write(self, data: bytes) -> None:
            out.append(data)

        def set_reading(self, reading: bool) -> None:
            pass

    chardev = Chardev(ChardevOptions("c", "pipe", {}), vm.profile.traits)
    chardev.transport = Transport()  # type: ignore[assignment]
    chardev.connected = True
    return chardev, out


def test_lines_of_a_terminal_are_a_turn_each(vm: Machine, host: TurnHost) -> None:
    chardev, out = device(vm)
    HmpTerminal(vm, chardev)
    out.clear()
    chardev.received(b"nope\n" * 20)
    assert b"".join(out).count(b"unknown command") == 1
    assert chardev.paused
    assert host.turns() == 19
    assert b"".join(out).count(b"unknown command") == 20
    assert not chardev.paused


def test_requests_of_a_test_program_are_read_in_turns(vm: Machine, host: TurnHost) -> None:
    chardev, out = device(vm)
    QtestServer(vm, chardev, None)
    chardev.received(b"endianness\n" * 200 + b"endian")
    assert len(out) < 100
    chardev.received(b"ness\n")
    assert host.turns() > 1
    assert out == [b"OK little\n"] * 201
