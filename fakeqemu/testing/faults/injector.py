"""Carries faults out on one machine: between its monitors and it, on its channels, on its process.

Everything that is done is written to the journal as "fault", so that a failed test shows what
was the machine's own doing and what was not. Which of several matching messages is hit depends
on the seeds alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from fakeqemu.clock import Timer, VirtualClock
from fakeqemu.commands.registry import Deferred
from fakeqemu.io.host import OsHost
from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.qapi.errors import StartupError, error_of_class
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.testing.faults.build import build_faults, changed, named
from fakeqemu.testing.faults.held_commands import Active, HeldCommands
from fakeqemu.testing.faults.model import (
    Delay,
    Error,
    ExitFault,
    Fault,
    Ignore,
    IgnoreSigterm,
    NeverAnswer,
    RemoveSocket,
    SlowReading,
    StopProcess,
)
from fakeqemu.testing.faults.process import (
    StoppedProcess,
    arriving,
    exit_status,
    remove_sockets,
)
from fakeqemu.testing.faults.stream import FaultyStream
from fakeqemu.testing.faults.wire import ConnectionOutput, Plan, applies, change, parse_line

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.model.host import Stream
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.connection import QmpConnection
    from fakeqemu.qmp.hooks import TakeInput
    from fakeqemu.qmp.request import Request
    from fakeqemu.qmp.session import Line


class Faults:
    """The faults of one machine. `Faults.of(vm)`; add them before or while it runs."""

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        #: from which every fault without a seed of its own has one
        self.seed = 0
        #: whether it stands still, and what waits until it goes on
        self.process = StoppedProcess(vm.host, self._journal, self._resumed)
        self._active: list[Active] = []
        self._added = 0
        self._outputs: WeakKeyDictionary[QmpConnection, ConnectionOutput] = WeakKeyDictionary()
        self._streams: list[FaultyStream] = []
        self._held = HeldCommands(vm, self.soon)
        #: what happens once the handle's client is there
        self._awaiting: list[Callable[[], None]] = []
        dispatcher_of(vm).hooks = self
        host = vm.host
        if isinstance(host, OsHost):
            host.on_open_chardev = self._opening
            host.wrap_stream = self._wrap
            host.heeds_signal = self._heeds
        vm.journal.listen(self._noted)

    @staticmethod
    def of(vm: Machine) -> Faults:
        """The faults of `vm`, made when first asked for."""
        hooks = dispatcher_of(vm).hooks
        return hooks if isinstance(hooks, Faults) else Faults(vm)

    # -- for the tester ----------------------------------------------------------------------

    def add(self, what: str | Fault, /, **parameters: Any) -> list[Active]:
        """Add a fault, by name or ready made, or all that a named scenario consists of.

        Raises ValueError (UnknownNameError for names, with the nearest right one).
        """
        name, given = (what, parameters) if isinstance(what, str) else named(what, parameters)
        return [self.add_built(each) for each in build_faults(name, given, self.vm.profile)]

    def add_built(self, fault: Fault) -> Active:
        """Add a fault that `build_faults` has made."""
        self._added += 1
        seed = fault.seed if fault.seed is not None else self.seed * 1_000_003 + self._added
        active = Active(fault, Random(seed), self._added)
        self._active.append(active)
        match fault:
            case StopProcess(command=None):
                active.hits += 1
                self._when_served(lambda: self.stop_process(fault.seconds))
            case ExitFault(at="now", command=None):
                active.hits += 1
                self.soon(lambda: self.exit(fault))
            case RemoveSocket():
                active.hits += 1
                self._when_served(self.remove_socket)
        return active

    @staticmethod
    def describe(active: Active) -> dict[str, Any]:
        """A fault as plain data: number, name, hits and what differs from the default."""
        fault = active.fault
        counted = {"number": active.number, "name": fault.name, "hits": active.hits}
        return {**counted, **changed(fault)}

    def remove(self, active: Active) -> None:
        """Take a fault away; what it holds goes on."""
        if active in self._active:
            self._active.remove(active)
        self._held.let_go(active)
        if isinstance(active.fault, StopProcess):
            self.continue_process()

    def clear(self) -> None:
        """Take all away."""
        for active in tuple(self._active):
            self.remove(active)

    def __iter__(self) -> Iterator[Active]:
        return iter(tuple(self._active))

    def stop_process(self, seconds: float | None = None) -> None:
        """The process stands still; after `seconds` it goes on."""
        self._journal("stop-process")
        self.process.stop(seconds)

    def continue_process(self) -> None:
        """The process goes on, with what has come meanwhile."""
        self.process.resume()

    def _resumed(self) -> None:
        for stream in self._streams:
            stream.resume()

    def drop_channels(self) -> int:
        """Break the migration channels that are open; how many."""
        self._streams = [stream for stream in self._streams if not stream.closed]
        for stream in self._streams:
            stream.drop()
        self._journal("drop-channels", number=len(self._streams))
        return len(self._streams)

    def drop_connections(self) -> None:
        """Hang up on the clients of all monitors."""
        for connection in dispatcher_of(self.vm).connections:
            chardev = connection.transport
            if connection.closed or not isinstance(chardev, Chardev):
                continue
            if chardev.backend in ("socket", "pair"):
                self._journal("drop-connection", connection=chardev.id)
                self.soon(chardev.disconnect)

    def exit(self, exit: ExitFault) -> None:
        """End the process as the fault says."""
        self._journal("exit")
        self.vm.process.exit(exit_status(exit))

    def remove_socket(self) -> None:
        """Delete the socket files of the character devices."""
        for chardev in remove_sockets(self.vm):
            self._journal("remove-socket", connection=chardev.id)

    def soon(self, call: Callable[[], None]) -> None:
        """Run `call` when the machine has done what it is at, and before its time goes on."""
        pending = [call]

        timers: list[Timer] = []

        def run() -> None:
            for timer in timers:
                timer.cancel()
            while pending:
                pending.pop()()

        if self._loop is not None:
            self._loop.call_soon(run)
        if self._loop is None or isinstance(self.vm.clock, VirtualClock):
            # a long advance must not run past the moment
            timers.append(self.vm.process.call_later(0, run))

    @property
    def holds_commands(self) -> bool:
        """Whether a command is held up, and with it all monitors."""
        return self._held.count > 0

    # -- matching ----------------------------------------------------------------------------

    def matching(
        self, stage: str, wanted: Callable[[Fault], bool]
    ) -> Iterator[tuple[Fault, Random]]:
        """The faults of a stage to be carried out now."""
        for active in tuple(self._active):
            fault = active.fault
            matches = stage in fault.stages and self._in_state(fault) and wanted(fault)
            if matches and active.strikes():
                self._struck(active, stage=stage)
                yield fault, active.random

    def _in_state(self, fault: Fault) -> bool:
        if fault.runstate is not None and self.vm.runstate.current != fault.runstate:
            return False
        return fault.migration is None or fault.migration in self._held.statuses()

    # -- Hooks -------------------------------------------------------------------------------

    def command(
        self, connection: QmpConnection, request: Request, proceed: Callable[[], Any]
    ) -> Any:
        """See `qmp.hooks`."""
        name = request.name
        if connection.name is None:
            return proceed()  # the tester's own monitor
        if arriving(connection):
            value = proceed()
            self._client_arrived()
            return value

        def wanted(fault: Fault) -> bool:
            if fault.channel or fault.greeting or fault.event is not None:
                return False
            if isinstance(fault, StopProcess | ExitFault) and fault.command is None:
                return False
            return fault.command in (None, name) and fault.connection in (None, connection.name)

        for active in tuple(self._active):
            fault = active.fault
            if "command" not in fault.stages or not self._in_state(fault) or not wanted(fault):
                continue
            if not active.strikes():
                continue
            self._struck(active, command=name)
            match fault:
                case Error(desc=desc, error_class=error_class):
                    self._sent(request)
                    self.vm.journal.note("error", name, error_class=error_class, desc=desc)
                    raise error_of_class(error_class, desc)
                case Ignore():
                    self._sent(request)
                    return {}
                case NeverAnswer():
                    return self._held.hold(active, lambda: False, proceed)
                case Delay():
                    return self._held.delay(active, fault, proceed)
                case StopProcess(seconds=seconds):
                    self.stop_process(seconds)
                case ExitFault():
                    self.exit(fault)
                    return Deferred()
        return proceed()

    def output(self, connection: QmpConnection, line: Line) -> None:
        """See `qmp.hooks`."""
        own = connection.name is None  # the tester's own
        if own or self._loop is None or arriving(connection, line.command):
            connection.transport.write(line.data)
            return
        if self.process.stopped:
            self.process.later(lambda: self._send(connection, line))
            return
        self._send(connection, line)

    def input(
        self, connection: QmpConnection, data: bytes, fds: Sequence[int], take: TakeInput
    ) -> None:
        """See `qmp.hooks`."""
        if connection.name is None or arriving(connection):
            take(data, fds)
            return
        if self.process.stopped:
            self.process.hold(connection)
            self.process.later(lambda: take(data, fds))
            return
        for fault, _ in self.matching(
            "input", lambda f: f.connection in (None, connection.name)
        ):
            if isinstance(fault, SlowReading) and self._loop is not None:
                connection.hold(True)
                self._feed(connection, data, fds, fault, take)
                return
        take(data, fds)

    # -- inside ------------------------------------------------------------------------------

    @property
    def _loop(self) -> Any:
        return getattr(self.vm.host, "loop", None)

    def _sent(self, request: Request) -> None:
        """A command that the machine itself never sees was sent all the same."""
        arguments = request.arguments
        self.vm.journal.note("command", request.name, arguments=arguments, oob=request.oob)

    def _struck(self, active: Active, **data: Any) -> None:
        self._journal(active.fault.name, number=active.number, **data)

    def _journal(self, name: str, **data: Any) -> None:
        self.vm.journal.note("fault", name, **data)

    def _when_served(self, call: Callable[[], None]) -> None:
        """Once its sockets are there, and the handle's client has introduced itself."""
        if not self.vm.process.main_loop_running:
            self.vm.process.on_main_loop.append(lambda: self._when_served(call))
        elif any(map(arriving, dispatcher_of(self.vm).connections)):
            self._awaiting.append(call)
        else:
            call()

    def _client_arrived(self) -> None:
        awaiting, self._awaiting = self._awaiting, []
        for call in awaiting:
            self._when_served(call)

    def _send(self, connection: QmpConnection, line: Line) -> None:
        chardev, session = connection.transport, connection.session
        assert isinstance(chardev, Chardev)
        out = self._outputs.get(connection)
        if out is None:
            # held weakly: it is the key under which the output is kept
            client = ref(connection)

            def connected() -> bool:
                found = client()
                return found is not None and not found.closed

            out = ConnectionOutput(
                chardev, self._loop, self.vm.process.call_later, connected, self.exit
            )
            self._outputs[connection] = out
        if out.ended or connection.closed:
            return
        plan = Plan(parse_line(line.data), session.pretty, [line.data])

        def wanted(fault: Fault) -> bool:
            if fault.channel or fault.connection not in (None, chardev.id):
                return False
            return applies(fault, plan, line.command, session.negotiated)

        for fault, random in self.matching("output", wanted):
            change(fault, plan, random, self.vm, out.last_id)
        if "id" in plan.message:
            out.last_id = parse_line(line.data).get("id")
        out.carry_out(plan)

    def _feed(
        self,
        connection: QmpConnection,
        data: bytes,
        fds: Sequence[int],
        fault: SlowReading,
        take: TakeInput,
    ) -> None:
        if connection.closed:
            return  # another client may be there
        take(data[: fault.size], fds)
        rest = data[fault.size :]
        if rest:
            self._loop.call_later(fault.gap, self._feed, connection, rest, (), fault, take)
        else:
            self._loop.call_later(fault.gap, connection.hold, False)

    def _noted(self, entry: JournalEntry) -> None:
        self._held.noted(entry)
        if (entry.kind, entry.name) != ("migration", "active"):
            return
        for active in tuple(self._active):
            fault = active.fault
            if isinstance(fault, ExitFault) and fault.at == "mid-migration" and active.strikes():
                self._struck(active, at=fault.at)
                self.soon(partial(self.exit, fault))

    def _opening(self, chardev: Chardev) -> None:
        if chardev.backend != "socket":
            return
        for active in tuple(self._active):
            fault = active.fault
            if isinstance(fault, ExitFault) and fault.at == "before-socket" and active.strikes():
                self._struck(active, at=fault.at)
                raise StartupError(fault.text, code=exit_status(fault))

    def _wrap(self, stream: Stream) -> Stream:
        faulty = FaultyStream(stream, self)
        self._streams = [each for each in self._streams if not each.closed]
        self._streams.append(faulty)
        return faulty

    def _heeds(self, number: int) -> bool:
        for active in self._active:
            if isinstance(active.fault, IgnoreSigterm) and active.strikes():
                self._struck(active, signal=number)
                return False
        return True
