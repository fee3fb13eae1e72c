"""Carries faults out on one machine: between its monitors and it, on its channels, on its process.

Everything that is done is written to the journal as "fault", so that a failed test shows what
was the machine's own doing and what was not. Which of several matching messages is hit depends
on the seeds alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from random import Random
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.registry import Deferred
from fakeqemu.io.host import OsHost
from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.qapi.errors import StartupError
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.testing.faults.build import build_faults, named
from fakeqemu.testing.faults.held_commands import Active, HeldCommands
from fakeqemu.testing.faults.model import (
    ExitFault,
    Fault,
    IgnoreSigterm,
    RemoveSocket,
    SlowReading,
    StopProcess,
)
from fakeqemu.testing.faults.process import (
    StoppedProcess,
    arriving,
    exit_status,
    feed_slowly,
    remove_sockets,
    when_idle,
)
from fakeqemu.testing.faults.stream import FaultyStream
from fakeqemu.testing.names import check_name

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.model.host import Stream
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.connection import QmpConnection
    from fakeqemu.qmp.hooks import TakeInput
    from fakeqemu.qmp.request import Request
    from fakeqemu.qmp.session import Line
    from fakeqemu.testing.faults.machine_faults import MachineFaults
    from fakeqemu.testing.faults.outputs import Outputs
    from fakeqemu.testing.faults.requests import RequestFaults


class Faults:
    """The faults of one machine. `Faults.of(vm)`; add them before or while it runs."""

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        #: from which every fault without a seed of its own has one
        self.seed = 0
        #: whether it stands still, and what waits until it goes on
        self.process = StoppedProcess(vm.host, self._journal, self._resumed)
        self._active: list[Active] = []
        self._touched = False
        self._added = 0
        self._streams: list[FaultyStream] = []
        self._held = HeldCommands(vm, self.soon)
        #: what happens once the handle's client is there
        self._awaiting: list[Callable[[], None]] = []
        dispatcher_of(vm).hooks = self
        vm.agent_hooks = self
        #: answers in place of the guest agent's
        self.agent_stubs: Callable[..., Any] | None = None
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
        """Add a fault that `build_faults` has made. Raises ValueError."""
        self._check(fault)
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
        self._machine.added(fault)
        return active

    def _check(self, fault: Fault) -> None:
        """Whether what it names is there; before the start nothing is. Raises ValueError."""
        self._machine.check(fault)
        if fault.connection is not None and self.vm.process.main_loop_running:
            own = {each.name for each in dispatcher_of(self.vm).connections if each.name}
            check_name("character device", fault.connection, {*self.vm.chardevs, *own})

    def remove(self, active: Active) -> None:
        """Remove a fault, and resume what it holds."""
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
        """Stop the process as SIGSTOP does; after `seconds` it continues."""
        self._journal("stop-process")
        self.process.stop(seconds)

    def continue_process(self) -> None:
        """Continue the process, with the input that arrived meanwhile."""
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
        """Run `call` when the machine is idle, before its clock advances."""
        when_idle(self.vm, self.loop, call)

    @property
    def holds_commands(self) -> bool:
        """Whether a command is held up, and with it all monitors."""
        return self._held.count > 0

    # -- matching ----------------------------------------------------------------------------

    def matching(
        self,
        stage: str,
        wanted: Callable[[Fault], bool],
        strikes: Callable[[Active], bool] = Active.strikes,
    ) -> Iterator[tuple[Fault, Random]]:
        """The faults of a stage to be carried out now."""
        for active in tuple(self._active):
            fault = active.fault
            if stage in fault.stages and self.in_state(fault) and wanted(fault):
                hits = active.hits
                if not strikes(active):
                    continue
                if active.hits > hits:
                    self.struck(active, stage=stage)
                yield fault, active.random

    def in_state(self, fault: Fault) -> bool:
        """Whether the machine is in the state that the fault is for."""
        if fault.runstate is not None and self.vm.runstate.current != fault.runstate:
            return False
        return fault.migration is None or fault.migration in self._held.statuses()

    # -- Hooks -------------------------------------------------------------------------------

    def command(
        self, connection: QmpConnection, request: Request, proceed: Callable[[], Any]
    ) -> Any:
        """See `qmp.hooks`."""
        if connection.name is None:
            return proceed()  # the tester's own monitor
        if arriving(connection):
            value = proceed()
            self._client_arrived()
            return value

        if not self._active:
            return proceed()
        from fakeqemu.testing.faults.requests import QmpRequest

        return self._requests.carry_out(QmpRequest(self.vm, connection, request), proceed)

    def hmp_line(
        self, chardev: Chardev, line: str, run: Callable[[], str]
    ) -> str | Deferred:
        """See `qmp.hooks`."""
        if not self._active:
            return run()
        from fakeqemu.testing.faults.requests import HmpLine

        text: str | Deferred = self._requests.carry_out(HmpLine(self.vm, chardev, line), run)
        return text

    def hmp_output(self, chardev: Chardev, data: bytes, line: str | None) -> None:
        """See `qmp.hooks`."""
        if self._untouched:
            chardev.write(data)
        else:
            self._outputs.text(chardev, data, line)

    def hmp_input(
        self, _chardev: Chardev, data: bytes, fds: Sequence[int], take: TakeInput
    ) -> None:
        """See `qmp.hooks`."""
        if self.process.stopped:
            self.process.later(lambda: take(data, fds))
        else:
            take(data, fds)

    def agent_request(
        self, chardev: Chardev, name: str, arguments: Any, run: Callable[[], Any]
    ) -> Any:
        """See `model.guest.agent.AgentHooks`."""
        if self.agent_stubs is not None:
            run = partial(self.agent_stubs, name, arguments, run)
        if self._active:
            from fakeqemu.testing.faults.requests import AgentRequest

            value = self._requests.carry_out(AgentRequest(chardev, name), run)
        else:
            value = run()
        if not isinstance(value, Deferred):
            return value
        from fakeqemu.testing.faults.requests import answered

        return answered(value)

    def agent_output(self, chardev: Chardev, data: bytes, name: str) -> None:
        """See `model.guest.agent.AgentHooks`."""
        if self._untouched:
            chardev.write(data)
        else:
            self._outputs.agent(chardev, data, name)

    def output(self, connection: QmpConnection, line: Line) -> None:
        """See `qmp.hooks`."""
        own = connection.name is None  # the tester's own
        spared = own or self.loop is None or arriving(connection, line.command)
        if spared:
            connection.transport.write(line.data)
            return
        self._outputs.line(connection, line)

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
            if isinstance(fault, SlowReading) and self.loop is not None:
                connection.hold(True)
                take(data[: fault.size], fds)
                rest = data[fault.size :]
                feed_slowly(self.loop, connection, rest, fault, lambda piece: take(piece, ()))
                return
        take(data, fds)

    # -- inside; imported when there is a fault: most machines never have one ----------------

    @cached_property
    def _machine(self) -> MachineFaults:
        from fakeqemu.testing.faults.machine_faults import MachineFaults

        return MachineFaults(self.vm, self.matching)

    @cached_property
    def _requests(self) -> RequestFaults:
        from fakeqemu.testing.faults.requests import RequestFaults

        return RequestFaults(self, self._held)

    @cached_property
    def _outputs(self) -> Outputs:
        from fakeqemu.testing.faults.outputs import Outputs

        self._touched = True
        return Outputs(self)

    @property
    def _untouched(self) -> bool:
        """Whether nothing of what goes out is or was any fault's."""
        return not (self._active or self._touched or self.process.stopped)

    @property
    def loop(self) -> Any:
        """That of its host; None where it has none."""
        return getattr(self.vm.host, "loop", None)

    def struck(self, active: Active, **data: Any) -> None:
        """Note that it was carried out."""
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

    def _noted(self, entry: JournalEntry) -> None:
        self._held.noted(entry)
        if (entry.kind, entry.name) != ("migration", "active"):
            return
        for active in tuple(self._active):
            fault = active.fault
            if isinstance(fault, ExitFault) and fault.at == "mid-migration" and active.strikes():
                self.struck(active, at=fault.at)
                self.soon(partial(self.exit, fault))

    def _opening(self, chardev: Chardev) -> None:
        if chardev.backend != "socket":
            return
        for active in tuple(self._active):
            fault = active.fault
            if isinstance(fault, ExitFault) and fault.at == "before-socket" and active.strikes():
                self.struck(active, at=fault.at)
                raise StartupError(fault.text, code=exit_status(fault))

    def _wrap(self, stream: Stream) -> Stream:
        faulty = FaultyStream(stream, self)
        self._streams = [each for each in self._streams if not each.closed]
        self._streams.append(faulty)
        return faulty

    def _heeds(self, number: int) -> bool:
        for active in self._active:
            if isinstance(active.fault, IgnoreSigterm) and active.strikes():
                self.struck(active, signal=number)
                return False
        return True
