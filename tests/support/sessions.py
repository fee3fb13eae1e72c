"""A machine with a main loop and a handful of commands, and clients for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.commands import registry
from fakeqemu.commands.registry import Command, Deferred
from fakeqemu.configuration import Configuration
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import DeviceNotFoundError
from fakeqemu.qmp.connection import QmpConnection
from fakeqemu.qmp.dispatch import dispatcher_of


class Client:
    """One connection and what came out of it."""

    def __init__(
        self, vm: Machine, *, offers_oob: bool = True, unread: Callable[[], int] = lambda: 0
    ) -> None:
        self.out: list[bytes] = []
        self.pauses: list[bool] = []
        self._unread = unread
        self._dispatcher = dispatcher_of(vm)
        self.session = self._dispatcher.session(offers_oob=offers_oob)
        self.connection = QmpConnection(self.session, self)
        self._dispatcher.connect(self.connection)
        self.greeting = self.take()[0]

    @property
    def unread(self) -> int:
        return self._unread()

    def write(self, data: bytes) -> None:
        self.out.append(data)

    def pause(self, paused: bool) -> None:
        self.pauses.append(paused)

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        self._dispatcher.received(self.connection, data, fds)

    def close(self) -> None:
        self._dispatcher.hung_up(self.connection)

    def take(self) -> list[Any]:
        """The messages since the last time."""
        data, self.out[:] = b"".join(self.out), []
        assert data.endswith(b"\r\n") or not data
        return [json.loads(line) for line in data.split(b"\r\n") if line]

    def send(self, *messages: dict[str, Any] | bytes) -> list[Any]:
        """All in one piece; the replies and events that follow at once."""
        self.receive(
            b"".join(m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages)
        )
        return self.take()

    def negotiate(self, *capabilities: str) -> Client:
        arguments = {"enable": list(capabilities)} if capabilities else {}
        assert self.send({"execute": "qmp_capabilities", "arguments": arguments}) == [
            {"return": {}}
        ]
        return self


class Stubs:
    """Commands that stand in for the real ones."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        #: what commands answer in place of the usual
        self.values: dict[str, Any] = {}
        #: the blocked commands, oldest first
        self.blocked: list[Deferred] = []

    def commands(self) -> dict[str, Callable[..., Any]]:
        def block_resize(vm: Machine, **arguments: Any) -> Deferred:
            self.calls.append(arguments)
            self.blocked.append(Deferred())
            return self.blocked[-1]

        def stop(vm: Machine) -> None:
            vm.events.emit("STOP")

        def device_del(vm: Machine, id: str) -> None:
            raise DeviceNotFoundError(f"Device '{id}' not found")

        def balloon(vm: Machine, value: int) -> None:
            raise RuntimeError("broken on purpose")

        return {
            "query-name": lambda vm: {},
            "query-kvm": lambda vm: self.values.get(
                "query-kvm", {"enabled": False, "present": True}
            ),
            "query-yank": lambda vm: [],
            "block_resize": block_resize,
            "stop": stop,
            "device_del": device_del,
            "balloon": balloon,
        }


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Stubs:
    stubs = Stubs()
    table = {name: Command(name, function) for name, function in stubs.commands().items()}
    monkeypatch.setattr(registry, "COMMANDS", table)
    monkeypatch.setattr("fakeqemu.qmp.dispatch.COMMANDS", table)
    return stubs


@pytest.fixture
def make_vm(stubs: Stubs) -> Callable[..., Machine]:
    def make(version: str = "10.0", *, running: bool = True, compat: Any = None) -> Machine:
        configuration = replace(Configuration(), compat_policy=compat or {})
        vm = Machine(Profile.load(version), configuration, VirtualClock(), NullHost())
        vm.process.main_loop_running = running
        return vm

    return make


@pytest.fixture
def vm(make_vm: Callable[..., Machine]) -> Machine:
    return make_vm()


@pytest.fixture
def client(vm: Machine) -> Client:
    return Client(vm).negotiate()


@pytest.fixture
def connect() -> type[Client]:
    return Client
