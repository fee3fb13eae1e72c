"""Who is served when: one request a turn of the process, and each session in its turn."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.configuration import Configuration
from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qmp.connection import MOST_UNREAD
from fakeqemu.qmp.hmp.terminal import HmpTerminal
from fakeqemu.qmp.qtest import QtestServer

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
    vm.process.main_loop_running = True
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
    assert host.turns() > 90
    (reply,) = first.take()
    assert len(reply["id"]) == 50_000
    assert first.pauses[-1] is False


LONG: list[Any] = [
    [0] * 300_000, ["x"] * 300_000, [{"a": 1}] * 100_000, "\u00e9" * 500_000,
    {str(number): number for number in range(50_000)},
]  # fmt: skip


@pytest.mark.parametrize("value", LONG, ids=("numbers", "texts", "objects", "text", "members"))
def test_a_long_reply_is_written_in_many_turns(
    host: TurnHost, clients: list[Any], stubs: Any, value: Any
) -> None:
    first, second, _ = clients
    stubs.values["query-kvm"] = {"enabled": value, "present": True}
    assert first.send({"execute": "query-kvm"}, NAME, YANK) == []
    assert first.pauses[-1] is True
    host.turn()
    # others are served meanwhile; the client itself gets everything in its order
    assert second.send(NAME) == [{"return": {}}]
    assert host.turns() > 4
    assert first.take() == [
        {"return": {"enabled": value, "present": True}}, {"return": {}}, {"return": []},
    ]  # fmt: skip
    assert first.pauses[-1] is False


def test_events_come_behind_a_long_reply(
    vm: Machine, host: TurnHost, clients: list[Any], stubs: Any
) -> None:
    first, second, _ = clients
    stubs.values["query-kvm"] = {"enabled": [0] * 300_000, "present": True}
    first.send({"execute": "query-kvm"})
    vm.events.emit("STOP")
    assert second.take()[0]["event"] == "STOP"
    host.turns()
    assert [next(iter(message)) for message in first.take()] == ["return", "timestamp"]


def test_a_client_that_hangs_up_on_a_long_reply_is_still_answered_for(
    vm: Machine, host: TurnHost, clients: list[Any], stubs: Any
) -> None:
    first, second, _ = clients
    stubs.values["query-kvm"] = {"enabled": [0] * 300_000, "present": True}
    first.send({"execute": "query-kvm"}, {"execute": "stop"})
    first.close()
    host.turns()
    assert vm.journal.of("event", "STOP")
    assert first.connection not in vm.dispatcher.connections
    assert second.take()[0]["event"] == "STOP"


def test_a_value_deep_in_a_long_reply_that_is_none_is_a_bug(
    vm: Machine, host: TurnHost, clients: list[Any], stubs: Any, bugs: list[Any]
) -> None:
    first, _, _ = clients
    stubs.values["query-kvm"] = {"enabled": [*[0] * 300_000, object()], "present": True}
    first.send({"execute": "query-kvm"}, NAME)
    host.turns()
    failed, fine = first.take()
    assert failed["error"]["class"] == "GenericError"
    assert fine == {"return": {}}
    assert vm.journal.of("bug")
    bugs.clear()


def test_requests_of_who_reads_no_replies_wait(
    vm: Machine, host: TurnHost, connect: Any, clients: list[Any]
) -> None:
    unread = 0
    client = connect(vm, unread=lambda: unread)
    client.send({"execute": "qmp_capabilities"})
    host.turns()
    client.take()
    unread = MOST_UNREAD + 1
    client.send(NAME, NAME)
    host.turns()
    assert client.take() == []
    assert client.pauses[-1] is True
    assert clients[0].send(NAME) == [{"return": {}}]
    unread = 0
    vm.dispatcher.run()
    host.turns()
    assert client.take() == [{"return": {}}] * 2
    assert client.pauses[-1] is False


def test_a_client_that_hangs_up_in_between_is_still_answered_for(
    vm: Machine, host: TurnHost, clients: list[Any]
) -> None:
    first, _, _ = clients
    first.send(NAME, {"execute": "stop"}, NAME)
    first.close()
    host.turns()
    assert vm.journal.of("event", "STOP")
    assert first.connection not in vm.dispatcher.connections


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


def test_many_arguments_are_checked_in_turns(
    vm: Machine, host: TurnHost, clients: list[Any]
) -> None:
    good = {"device": "x", "snapshot-file": "y"}
    actions: list[Any] = [{"type": "blockdev-snapshot-sync", "data": good}] * 2000
    actions.append({"type": "blockdev-snapshot-sync", "data": {}})
    message = {"execute": "transaction", "arguments": {"actions": actions}}
    clients[0].receive(json.dumps(message).encode())
    while not vm.journal.of("command", "transaction"):
        host.turn()
    assert clients[0].take() == []
    assert clients[1].send(NAME) == []
    host.turn()
    assert clients[0].take() == []
    host.turns()
    replies = clients[0].take()
    assert "snapshot-file" in replies[0]["error"]["desc"]
    assert clients[1].take() == [{"return": {}}]
