"""Where a machine runs: what a handle asks of it, and the machine in the tester's own loop."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import Clock, VirtualClock
from fakeqemu.commands.registry import Deferred
from fakeqemu.dataclass import dataclass, field
from fakeqemu.guard import allow_deep_input
from fakeqemu.io.host import OsHost
from fakeqemu.io.loop import Loop
from fakeqemu.io.process.boot_driver import BootDriver
from fakeqemu.io.process.clock import LoopClock
from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.model.events import Event
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import StartupError
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.testing.machine.monitor_socketpair import SocketpairMonitor
from fakeqemu.testing.verbs.controller import MachineController

#: verbs that move the clock
TIME_VERBS = frozenset({"advance", "catch-up", "jump", "run-until-idle", "settle"})


class RunnerListener(Protocol):
    """The handle, as the machine's surroundings see it. Called from any thread."""

    def entry_added(self, entry: JournalEntry) -> None:
        """The journal has a new entry."""

    def event_sent(self, event: Event) -> None:
        """The machine sent an event."""

    def violation_found(self, violation: SchemaViolation) -> None:
        """A reply or event does not match the schema."""

    def machine_ended(self) -> None:
        """The machine has ended, or its exit status is known now."""

    def answer_call(self, stub: int, arguments: dict[str, Any], value: Any) -> Any:
        """A function of the tester's is to answer. Raises QapiError."""


@dataclass(frozen=True)
class Spec:
    """What to run."""

    options: Sequence[str]
    profile: Profile
    directory: Path
    listener: RunnerListener
    #: a clock, "virtual" or "real"
    clock: Clock | str = "real"
    speed: float = 1.0
    check: bool = True
    as_posted: bool = False
    #: where machines on one host see each other's TAP interfaces; empty: nowhere
    tap_directory: str = ""
    #: whether a monitor for a client is wanted
    client: bool = True
    deadline: float = 10.0
    #: a scenario file or a scenario's name, for a machine in another process
    scenario: str = ""
    seed: int = 0
    #: called with the machine before it boots; only where it is in this process
    before_boot: Sequence[Callable[[Machine], None]] = field(default=())


class Runner(Protocol):
    """One machine wherever it runs."""

    @property
    def journal(self) -> Journal:
        """Everything that happened, live or copied as it happens."""

    @property
    def stderr(self) -> Any:
        """What went to standard error; it has `getvalue()`."""

    @property
    def client_side(self) -> socket.socket | None:
        """The client's end of a monitor of its own; None without one."""

    async def start(self) -> None:
        """Boot. Raises StartupError."""

    async def ask(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb of `testing.verbs.table` and wait for what it says."""

    def call(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb that needs no waiting for the tester's loop."""

    @property
    def exit_code(self) -> int | None:
        """What the machine left with; None while it lives."""

    async def stop(self) -> None:
        """End the machine and give everything back; more than once is fine."""

    def stop_now(self) -> None:
        """The same where nothing can be awaited."""


class InProcessRunner:
    """In the running event loop."""

    def __init__(self, spec: Spec) -> None:
        self.stderr = io.StringIO()
        self.client_side: socket.socket | None = None
        self.journal = Journal.from_lines(())
        self.vm: Machine | None = None
        self._spec = spec
        self._loop: asyncio.AbstractEventLoop | None = None
        self._controller: MachineController | None = None
        self._host: OsHost | None = None
        self._monitor: SocketpairMonitor | None = None
        self._stopped = False
        #: it has ended, and its process would still be there
        self._lingers = False
        self._waiting: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        """Boot. Raises StartupError."""
        spec = self._spec
        allow_deep_input()
        loop = self._loop = asyncio.get_running_loop()
        configuration = parse_command_line(list(spec.options), spec.profile)
        configuration.as_posted = spec.as_posted
        adapter = Loop(loop)
        host = self._host = OsHost(adapter, stderr=self.stderr)
        if spec.tap_directory:
            from fakeqemu.io.net_taps import TapInterfaces

            host.interfaces = TapInterfaces(spec.tap_directory)
        boot = Boot.of(configuration, spec.profile, self._clock(adapter), host)
        vm = self.vm = boot.vm
        self.journal = vm.journal
        host.serve(vm)
        adapter = host.loop
        vm.journal.listen(spec.listener.entry_added)
        vm.events.listen(spec.listener.event_sent)
        vm.process.on_exit.append(self._exiting)
        self._controller = MachineController(
            vm,
            call=spec.listener.answer_call,
            complain=spec.listener.violation_found,
            check=spec.check,
        )
        for call in spec.before_boot:
            call(vm)
        over: asyncio.Future[None] = loop.create_future()

        def finished(error: BaseException | None) -> None:
            if over.done():
                return
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)

        BootDriver(boot.run(), host, finished).start()
        await over
        boot.finish()
        for name, wanted in (
            ("daemonize", configuration.daemonize), ("runas", configuration.runas is not None)
        ):  # fmt: skip
            if wanted:
                raise StartupError(f"a machine in a test's own loop cannot -{name}")
        if spec.client and vm.process.exit_code is None:
            self._monitor = SocketpairMonitor(vm, adapter)
            self.client_side = self._monitor.client_side

    @property
    def host(self) -> OsHost | None:
        """The machine's host, once it has begun to start."""
        return self._host

    @property
    def controller(self) -> MachineController | None:
        """What does verbs, once it has begun to start."""
        return self._controller

    @property
    def listener(self) -> RunnerListener:
        """Who hears of what the machine does."""
        return self._spec.listener

    async def ask(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb and wait for what it says."""
        value = self.call(verb, **parameters)
        if not isinstance(value, Deferred):
            return value
        assert self._loop is not None
        future: asyncio.Future[Any] = self._loop.create_future()
        if verb not in TIME_VERBS:
            # the clock may be that of others too, and goes on without the machine
            self._waiting.add(future)
            future.add_done_callback(self._waiting.discard)

        def done(finished: Deferred) -> None:
            if future.done():
                return
            if finished.error is not None:
                future.set_exception(finished.error)
            else:
                future.set_result(finished.value)

        value.then(done)
        if future.done():
            # a turn for all others: a test may ask until the answer is another
            await asyncio.sleep(0)
        return await future

    def call(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb."""
        if self._controller is None:
            raise RuntimeError("the machine is not started: use `async with` or await it first")
        return self._controller.call(verb, parameters)

    @property
    def exit_code(self) -> int | None:
        """What the machine left with."""
        return None if self.vm is None or self._lingers else self.vm.process.exit_code

    async def stop(self) -> None:
        """End the machine."""
        self.stop_now()
        await asyncio.sleep(0)

    def stop_now(self) -> None:
        """End the machine."""
        if self._stopped:
            return
        self._stopped = True
        if self._loop is not None and not self._loop.is_closed():
            for future in tuple(self._waiting):
                if not future.done():
                    future.set_exception(ConnectionError("the machine has ended"))
        if self._monitor is not None:
            self._monitor.close()
        if self._host is not None:
            self._host.close()

    def _gone(self) -> None:
        self._lingers = False
        self._spec.listener.machine_ended()

    def _clock(self, adapter: Loop) -> Clock:
        clock = self._spec.clock
        if clock == "virtual":
            return VirtualClock()
        if isinstance(clock, str):
            return LoopClock(adapter, self._spec.speed)
        return clock

    def _exiting(self, _code: int) -> None:
        assert self._host is not None
        if self._host.exit_delay and self._loop is not None:
            self._lingers = True
            self._loop.call_later(self._host.exit_delay, self._gone)
        self._spec.listener.machine_ended()
        if self._loop is not None and not self._loop.is_closed():
            # the reply of the command that ends it still has to go out
            self._loop.call_soon(self.stop_now)


def say_where(error: BaseException) -> None:
    """Have a start's error say what QEMU prints, with its option, or why there is no machine."""
    if isinstance(error, StartupError):
        error.args = ("\n".join(error.lines),)
    elif isinstance(error, EarlyExit):
        what = "QEMU prints what its options ask for and ends"
        error.args = (f"{what} (exit {error.code}): there is no machine",)
