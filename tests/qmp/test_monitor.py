"""A monitor on a character device: a session for each client."""

from __future__ import annotations

import json

import pytest

from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.qmp.monitor import QmpMonitor


class Wire:
    """The transport's side."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.reading: list[bool] = []

    def write(self, data: bytes) -> None:
        self.sent += data

    def set_reading(self, reading: bool) -> None:
        self.reading.append(reading)

    def disconnect(self) -> None:
        pass

    def add_client(self, fd: int) -> bool:
        return False

    def close(self) -> None:
        pass

    def take(self):
        data, self.sent = bytes(self.sent), bytearray()
        return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def chardev(vm):
    chardev = Chardev(ChardevOptions("c0", "null"), vm.profile.traits)
    chardev.transport = Wire()
    return chardev


def test_each_client_starts_anew(vm, chardev):
    monitor = QmpMonitor(dispatcher_of(vm), chardev)
    for _ in range(2):
        chardev.opened()
        assert "QMP" in chardev.transport.take()[0]
        chardev.received(b'{"execute":"query-name"}{"a":')
        assert chardev.transport.take()[0]["error"]["class"] == "CommandNotFound"
        chardev.received(b'1}{"execute":"qmp_capabilities"}{"execute":"query-name","id":1}')
        assert chardev.transport.take()[1:] == [{"return": {}}, {"return": {}, "id": 1}]
        chardev.closed()
        assert monitor.connection is None


def test_a_client_already_there_is_greeted(vm, chardev):
    chardev.connected = True
    QmpMonitor(dispatcher_of(vm), chardev)
    assert "QMP" in chardev.transport.take()[0]
    with pytest.raises(QapiError, match="chardev 'c0' is already in use"):
        QmpMonitor(dispatcher_of(vm), chardev)


def test_pretty(vm, chardev):
    QmpMonitor(dispatcher_of(vm), chardev, pretty=True)
    chardev.opened()
    chardev.transport.sent.clear()
    chardev.received(b'{"execute":"qmp_capabilities"}')
    assert bytes(chardev.transport.sent) == b'{\r\n    "return": {\r\n    }\r\n}\r\n'


def test_reading_stops_while_a_command_runs(vm, chardev, stubs):
    QmpMonitor(dispatcher_of(vm), chardev)
    chardev.opened()
    chardev.received(b'{"execute":"qmp_capabilities"}')
    chardev.received(b'{"execute":"block_resize","arguments":{"size":1}}')
    assert chardev.transport.reading[-1] is False
    chardev.closed()
    chardev.opened()
    assert chardev.transport.reading[-1] is True
    stubs.blocked[0].resolve()
    # the answer was for somebody else
    assert [list(message) for message in chardev.transport.take()[-1:]] == [["QMP"]]


def test_descriptors_reach_the_commands(vm, chardev):
    monitor = QmpMonitor(dispatcher_of(vm), chardev)
    assert monitor.take_fd() is None
    chardev.opened()
    chardev.received(b" ", (100,))
    assert monitor.take_fd() == 100


def test_detached(vm, chardev):
    monitor = QmpMonitor(dispatcher_of(vm), chardev)
    chardev.opened()
    monitor.detach()
    chardev.transport.sent.clear()
    vm.events.emit("STOP")
    chardev.received(b'{"execute":"qmp_capabilities"}')
    assert chardev.transport.take() == []
