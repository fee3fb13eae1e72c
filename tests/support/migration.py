"""A machine with a migration object, and a world of streams that tests drive by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

import fakeqemu.commands.hmp.migration.migration
import fakeqemu.commands.migration  # noqa: F401
from fakeqemu.boot.board import board
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.hmp.registry import run_hmp
from fakeqemu.commands.registry import COMMANDS, keyword_of
from fakeqemu.configuration import Configuration, GlobalProperty
from fakeqemu.migration.object import MigrationObject
from fakeqemu.migration.parameters.early import EarlyParameters
from fakeqemu.migration.parameters.reader import ParameterReader
from fakeqemu.model.host import Stream
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost, NullMemory
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.validate import check_reply
from fakeqemu.qapi.visitor import check_arguments


class FakeStream:
    """One end of a channel; `peer` is the other, if it has one.

    What is written arrives a moment later, as over a socket, and waits until somebody listens.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None
        self.peer: FakeStream | None = None
        self.written = b""
        self.closed = False
        self.queued = 0
        self.takes_fds = False
        #: descriptors that have come
        self.fds: list[int] = []
        #: bytes written after which the connection breaks; None: never
        self.cut_at: int | None = None
        self._arrived = bytearray()
        self._ended = False

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        return self._on_data

    @on_data.setter
    def on_data(self, call: Callable[[bytes], None] | None) -> None:
        self._on_data = call
        if call is not None and (self._arrived or self._ended):
            self._clock.call_later(0, self._deliver)

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        if self.cut_at is not None and len(self.written) + len(data) >= self.cut_at:
            data = data[: self.cut_at - len(self.written)]
            self._send(data)
            self.break_off()
            return
        self._send(data)

    def _send(self, data: bytes) -> None:
        self.written += data
        if self.peer is not None and data:
            self.peer._arrived += data
            self._clock.call_later(0, self.peer._deliver)

    def send_fds(self, fds: Sequence[int]) -> None:
        if self.peer is not None and self.peer.takes_fds:
            self.peer.fds += fds

    def received_fds(self) -> list[int]:
        received, self.fds = self.fds, []
        return received

    def skip(self, size: int) -> None:
        self.written += bytes(size)

    def write_at(self, offset: int, data: bytes) -> None:
        assert offset + len(data) <= len(self.written)
        self.written = self.written[:offset] + data + self.written[offset + len(data) :]

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self.peer is not None:
            self.peer.end()

    def break_off(self) -> None:
        """The connection is gone, for both ends."""
        for each in (self, self.peer):
            if each is not None:
                each.closed = True
                each.end()

    def end(self) -> None:
        self._ended = True
        self._clock.call_later(0, self._deliver)

    def _deliver(self) -> None:
        if self._on_data is not None and self._arrived:
            data = bytes(self._arrived)
            self._arrived.clear()
            self._on_data(data)
        if self._ended and not self._arrived and self.on_close is not None:
            call, self.on_close = self.on_close, None
            call(None)


@dataclass
class FakeListener:
    address: dict[str, Any]
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeHost(NullHost):
    """Connects sources to the destinations that listen on the same address."""

    clock: VirtualClock
    world: dict[str, Callable[[Stream], None]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    streams: list[FakeStream] = field(default_factory=list)
    memory: NullMemory = field(default_factory=NullMemory)
    connect_error: str = ""
    listen_error: str = ""
    kinds: dict[int, str] = field(default_factory=dict)
    #: after how many bytes connections made from here break, sent and received
    cuts: list[int | None] = field(default_factory=list)
    answer_cuts: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def listen(self, address: dict[str, Any], accept: Any, backlog: int = 1) -> FakeListener:
        if self.listen_error:
            raise QapiError(self.listen_error)
        self.world[str(address.get("path", address.get("port")))] = accept
        return FakeListener({k: v for k, v in address.items() if k != "transport"})

    def connect(self, address: dict[str, Any], done: Any) -> None:
        if address["transport"] == "file" and "/no/" in address["filename"]:
            raise QapiError(f"Could not create '{address['filename']}': No such file or directory")
        stream = FakeStream(self.clock)
        stream.cut_at = self.cuts.pop(0) if self.cuts else None
        self.streams.append(stream)

        def finish() -> None:
            if self.connect_error:
                done(None, self.connect_error)
                return
            accept = self.world.get(str(address.get("path", address.get("port"))))
            if accept is not None:
                stream.peer = FakeStream(self.clock)
                stream.peer.peer = stream
                stream.peer.cut_at = self.answer_cuts.pop(0) if self.answer_cuts else None
                accept(stream.peer)
            done(stream, "")

        self.clock.call_later(0, finish)

    def open_incoming(self, address: dict[str, Any]) -> FakeStream:
        stream = FakeStream(self.clock)
        self.streams.append(stream)
        return stream

    def fd_kind(self, fd: int) -> str:
        kind = self.kinds.get(fd, "socket")
        return "socket" if kind == "tcp" else kind

    def is_unix_socket(self, fd: int) -> bool:
        return self.kinds.get(fd, "socket") == "socket"


class Vm:
    """A machine as a client sees it; replies are checked against the schema."""

    def __init__(self, version: str, host: FakeHost, **options: Any) -> None:
        globals: Iterable[tuple[str, str]] = options.pop("globals", ())
        early: EarlyParameters | None = options.pop("early", None)
        inmigrate: bool = options.pop("inmigrate", False)
        ram: int | None = options.pop("ram", None)
        options.setdefault("machine_type", "none")
        self.configuration = Configuration(**options)
        self.configuration.globals = [
            GlobalProperty("migration", name, value) for name, value in globals
        ]
        self.profile = Profile.load(version)
        self.host = host
        self.machine = Machine(self.profile, self.configuration, host.clock, host)
        self.reader = ParameterReader(
            self.machine.runstate, self.machine.journal, early or EarlyParameters()
        )
        self.events: list[tuple[str, Any]] = []
        self.machine.events.listen(
            lambda e: self.events.append((e.name, *(e.data or {}).values()))
        )
        self._make_board(ram)
        if inmigrate:
            self.machine.runstate.set("inmigrate")
        self.machine.process.phases.enter("machine-ready")
        self.migration = MigrationObject(self.machine, early=early)
        self.reader.object = self.machine.migration.object = self.migration
        if self.profile.traits.early_parameters:
            self.machine.migration.parameters = self.reader

    def _make_board(self, ram: int | None) -> None:
        machine = self.profile.machine(self.configuration.machine_type)
        assert machine is not None
        board.create_machine(self.machine, machine)
        default = 128 << 20 if machine.default_cpu_type else 0
        self.machine.state.memory.size = default if ram is None else ram
        board.create_memory(self.machine)

    def command(self, name: str, monitor: Any = None, /, **arguments: Any) -> Any:
        """Run it with arguments spelled as in QMP, `-` as `_`; the return value."""
        sent = {key.replace("_", "-"): value for key, value in arguments.items()}
        checked = check_arguments(self.profile.schema, name, sent)
        command = COMMANDS[name]
        keywords = {keyword_of(key): value for key, value in checked.items()}
        if command.monitor:
            keywords["monitor"] = monitor
        value = command.function(self.machine, **keywords)
        value = {} if value is None else value
        check_reply(self.profile.schema, name, value)
        return value

    def refused(self, name: str, /, **arguments: Any) -> str:
        """The text with which the command is refused."""
        with pytest.raises(QapiError) as caught:
            self.command(name, **arguments)
        return caught.value.desc

    def set(self, **parameters: Any) -> None:
        self.command("migrate-set-parameters", **parameters)

    def refuses(self, **parameters: Any) -> str:
        return self.refused("migrate-set-parameters", **parameters)

    def switch(self, *names: str, state: bool = True) -> None:
        wanted = [{"capability": name, "state": state} for name in names]
        self.command("migrate-set-capabilities", capabilities=wanted)

    @property
    def status(self) -> str | None:
        return self.command("query-migrate").get("status")

    def hmp(self, line: str) -> str:
        return run_hmp(self.machine, None, line)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def host(clock: VirtualClock) -> FakeHost:
    return FakeHost(clock)


@pytest.fixture
def make(host: FakeHost) -> Callable[..., Vm]:
    """`make("11.1", globals=[...], ...)`: a machine; several share one world."""

    def make(version: str = "11.1", **options: Any) -> Vm:
        own = FakeHost(host.clock, host.world, connect_error=host.connect_error)
        return Vm(version, options.pop("host", own), **options)

    return make
