"""The machine's end of a tester's private channel, inside the machine's process.

One JSON object on each line, both ways: verbs in, their outcomes out, and everything the
journal gets, as it gets it. QMP knows nothing of it, and no option of QEMU's shows it. When
the tester's end is gone the machine ends: the process exits when the tester disconnects.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from fakeqemu.commands.registry import Deferred
from fakeqemu.io.host import OsHost
from fakeqemu.io.host_memory import PretendedMemory
from fakeqemu.io.link import Link, SocketEnd
from fakeqemu.journal import JournalEntry
from fakeqemu.model.events import Event
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import StartupError, error_of_class
from fakeqemu.testing.machine.monitor_socketpair import SocketpairMonitor
from fakeqemu.testing.runners.errors import to_plain
from fakeqemu.testing.verbs.controller import MachineController


def attach(channel: int, client: int | None, *, check: bool = True) -> Callable[[Machine], None]:
    """What to do with a machine before it boots: serve the tester on descriptor `channel`.

    `client`: a descriptor for one more QMP monitor.
    """

    def prepare(vm: Machine) -> None:
        assert isinstance(vm.host, OsHost)
        vm.host.memory = PretendedMemory()
        Agent(vm, vm.host, _socket_of(channel), check)
        if client is not None:
            monitor = SocketpairMonitor(vm, vm.host.loop, _socket_of(client))
            vm.host.at_end(monitor.close)

    return prepare


def _socket_of(fd: int) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise StartupError(f"fakeqemu: no private channel at {fd}: {error.strerror}") from None


class Agent:
    """One tester's hand on one machine."""

    def __init__(self, vm: Machine, host: OsHost, sock: socket.socket, check: bool) -> None:
        self._vm = vm
        self._buffer = b""
        self._calls: dict[int, Deferred] = {}
        self._last_call = 0
        sock.setblocking(False)
        self._link = Link(host.loop, SocketEnd(sock), self._input, self._ended)
        self._controller = MachineController(
            vm,
            call=self._call_tester,
            complain=lambda violation: self._tell({"violation": str(violation)}),
            check=check,
        )
        vm.journal.listen(self._noted)
        vm.events.listen(self._event)
        vm.process.on_main_loop.append(lambda: self._tell({"ready": True}))
        vm.process.on_exit.append(lambda code: self._tell({"exit": code}))
        host.at_end(self._close)
        self._link.set_reading(True)

    def _noted(self, entry: JournalEntry) -> None:
        self._tell({"entry": [entry.time, entry.kind, entry.name, entry.data]})

    def _event(self, event: Event) -> None:
        self._tell({"event": [event.name, event.data, event.realtime]})

    def _call_tester(self, stub: int, arguments: dict[str, Any], value: Any) -> Deferred:
        self._last_call += 1
        number = self._last_call
        deferred = self._calls[number] = Deferred()
        self._tell({"call": number, "stub": stub, "arguments": arguments, "value": value})
        return deferred

    def _input(self, data: bytes, _fds: list[int]) -> None:
        self._controller.own_activity += 1
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._message(json.loads(line))

    def _message(self, message: dict[str, Any]) -> None:
        if "called" in message:
            deferred = self._calls.pop(message["called"])
            if "error" in message:
                deferred.fail(error_of_class(*message["error"]))
            else:
                deferred.resolve(message["value"])
            return
        number = message["id"]
        try:
            value = self._controller.call(message["verb"], message["parameters"])
        except Exception as error:
            self._tell({"id": number, "error": to_plain(error)})
            return
        if not isinstance(value, Deferred):
            self._tell({"id": number, "value": value})
            return

        def done(finished: Deferred) -> None:
            if finished.error is not None:
                self._tell({"id": number, "error": to_plain(finished.error)})
            else:
                self._tell({"id": number, "value": finished.value})

        value.then(done)

    def _tell(self, message: dict[str, Any]) -> None:
        self._link.write(json.dumps(message, default=repr).encode() + b"\n")

    def _ended(self, _error: str | None) -> None:
        self._vm.process.exit(0)

    def _close(self) -> None:
        self._link.flush(1.0)
        self._link.abort()
