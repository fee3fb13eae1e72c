"""Carries out the verbs of `testing.verbs.table` on one machine, in the process it runs in.

A handle reaches it through its runner, the control socket and the stages of a scenario
directly. A verb returns a value, or a Deferred when the machine has to go on first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.registry import Deferred
from fakeqemu.io.host import OsHost
from fakeqemu.model.guest.verbs import do
from fakeqemu.model.guest.workload import Workload
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.json.streamer import Value
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.qmp.checks import check_everything
from fakeqemu.qmp.connection import QmpConnection
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.testing.clock.timekeeper import Timekeeper
from fakeqemu.testing.faults.build import describe
from fakeqemu.testing.faults.injector import Faults
from fakeqemu.testing.machine.stubs import CallTester, MachineStubs, Stub
from fakeqemu.testing.names import check_name
from fakeqemu.testing.verbs.table import VERBS, Prepared, prepare

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.testing.scenarios.stages import Stage, Stages


def _no_tester(stub: int, *_: Any) -> Any:
    raise LookupError(f"stub {stub} has no function here")


class MachineController:
    """One machine under a tester's hands; a method is the half of a verb that acts."""

    def __init__(
        self,
        vm: Machine,
        *,
        call: CallTester = _no_tester,
        complain: Callable[[SchemaViolation], None] = lambda _: None,
        check: bool = False,
    ) -> None:
        self.vm = vm
        # before any channel is opened: one that is open already cannot go wrong
        self.faults = Faults.of(vm)
        #: how often the tester's own channel was busy
        self.own_activity = 0
        self._call_tester = call
        self._complain = complain
        self._session: TesterSession | None = None
        if check:
            check_everything(vm, complain, self.stubs.excused)

    def call(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Do a verb. Raises ValueError (UnknownNameError for names), and what it raises."""
        check_name("verb", verb, VERBS)
        return self.carry_out(prepare(verb, arguments, self.vm.profile))

    def carry_out(self, prepared: Prepared) -> Any:
        """Do a verb whose arguments have been checked."""
        method = getattr(self, prepared.verb.replace("-", "_"))
        return method(**prepared.arguments)

    @cached_property
    def stubs(self) -> MachineStubs:
        """Answers of the tester's in place of the model's."""
        vm = self.vm
        stubs = MachineStubs(
            vm.profile.schema, self._call_tester, self._complain, vm.journal.note
        )
        dispatcher_of(vm).interceptors.append(stubs.intercept)
        self.faults.agent_stubs = stubs.intercept_named
        return stubs

    @cached_property
    def stages(self) -> Stages:
        """What is to happen when the machine does something."""
        from fakeqemu.testing.scenarios.stages import Stages

        return Stages(self)

    # -- faults ------------------------------------------------------------------------------

    def fault(self, faults: list[Any]) -> list[dict[str, Any]]:
        """Add faults that have been built."""
        return [describe(active) for active in map(self.faults.add_built, faults)]

    def remove_fault(self, number: int) -> None:
        """Take one away. Raises LookupError."""
        for active in self.faults:
            if active.number == number:
                self.faults.remove(active)
                return
        raise LookupError(f"no fault with number {number}")

    def clear_faults(self) -> None:
        """Take all away."""
        self.faults.clear()

    def query_faults(self) -> list[dict[str, Any]]:
        """Each as plain data."""
        return [describe(active) for active in self.faults]

    def stop_process(self, seconds: float | None = None) -> None:
        """The process stands still."""
        self.faults.stop_process(seconds)

    def continue_process(self) -> None:
        """It goes on."""
        self.faults.continue_process()

    def drop_channels(self) -> int:
        """Break the migration channels."""
        return self.faults.drop_channels()

    def drop_connections(self) -> None:
        """Hang up on clients."""
        self.faults.drop_connections()

    def remove_socket(self) -> None:
        """Delete socket files."""
        self.faults.remove_socket()

    def exit(self, fault: Any) -> None:
        """End the process."""
        self.faults.exit(fault)

    def set_seed(self, seed: int) -> None:
        """From which faults without a seed of their own have one."""
        self.faults.seed = seed

    # -- the machine ---------------------------------------------------------------------------

    def event(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Send an event."""
        self.vm.events.emit(name, data)

    def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Execute a command. Raises QapiError."""
        return dispatcher_of(self.vm).execute(command, arguments)

    def guest(self, verb: str, parameters: dict[str, Any] | None = None) -> None:
        """Let the guest do something. Raises ValueError, QapiError."""
        do(self.vm, verb, parameters)

    def workload(self, members: dict[str, int]) -> None:
        """What a migration has to carry; read when one begins."""
        setattr(self.vm, "guest_workload", Workload(**members))  # noqa: B010

    def stub(self, stub: Stub) -> int:
        """Answer a command from now on."""
        return self.stubs.add(stub)

    def remove_stub(self, number: int) -> None:
        """Take a stub back."""
        self.stubs.remove(number)

    def stage(self, stage: Stage) -> None:
        """Have it happen when its time comes."""
        self.stages.add(stage)

    def query_journal(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        first: int = 0,
        limit: int | None = None,
        last: int | None = None,
        wait: float = 0,
    ) -> list[dict[str, Any]] | Deferred:
        """Entries from number `first` on, waiting for one so many seconds by the wall."""
        journal = self.vm.journal

        def found() -> list[dict[str, Any]]:
            entries = [
                {"number": number, "time": e.time, "kind": e.kind, "name": e.name, "data": e.data}
                for number, e in journal.since(first)
                if kind in (None, e.kind) and name in (None, e.name)
            ]
            if last is not None:
                entries = entries[len(entries) - min(last, len(entries)) :]
            return entries if limit is None else entries[:limit]

        host, entries = self.vm.host, found()
        if entries or not wait or not isinstance(host, OsHost):
            return entries
        return self._when_noted(found, wait, host)

    def _when_noted(
        self, found: Callable[[], list[dict[str, Any]]], wait: float, host: OsHost
    ) -> Deferred:
        """What is found once anything is, or after so many seconds."""
        later = Deferred()
        asked = [False]

        def look() -> None:
            asked[0] = False
            if not later.done and (entries := found()):
                finish(entries)

        def noted(_: JournalEntry) -> None:
            if not asked[0]:
                asked[0] = True
                host.loop.call_soon(look)

        def finish(entries: list[dict[str, Any]]) -> None:
            self.vm.journal.unlisten(noted)
            later.resolve(entries)

        self.vm.journal.listen(noted)
        host.loop.call_later(wait, lambda: None if later.done else finish([]))
        return later

    # -- the clock -----------------------------------------------------------------------------

    @cached_property
    def _time(self) -> Timekeeper:
        host = self.vm.host
        assert isinstance(host, OsHost)
        return Timekeeper(host.loop, self.vm.clock)

    def leave_loop(self) -> None:
        """Keep nothing of the loop it runs in: it is looked at to be copied."""
        self.__dict__.pop("_time", None)

    def now(self) -> int:
        """Of the machine's clock."""
        return self.vm.clock.now()

    def advance(self, seconds: float) -> Deferred:
        """Move it on. Raises ClockError."""
        return self._time.advance(seconds)

    def catch_up(self, to: int) -> Deferred:
        """Move it to a time."""
        return self._time.catch_up(to)

    def jump(self) -> Deferred:
        """Move it to the next timer."""
        return self._time.jump()

    def run_until_idle(self, limit: int = 100_000) -> Deferred:
        """Move it until no timer is left."""
        return self._time.run_until_idle(limit)

    def skip(self, to: int) -> None:
        """Move it and run nothing."""
        self._time.skip(to)

    def next_at(self) -> int | None:
        """When the next timer is due."""
        return self._time.next_at()

    def settle(self) -> Deferred:
        """Wait for quiet sockets."""
        return self._time.settled(self.own_activity)

    # -- the tester's own session ----------------------------------------------------------------

    def session_request(self, message: dict[str, Any]) -> Deferred:
        """Send a request; the Deferred gets the whole reply."""
        # a fault that holds commands up holds up the monitors; it must not hold up the tester
        ahead = self.faults.holds_commands
        if self._session is None:
            self._session = TesterSession(self.vm)
            self._session.send({"execute": "qmp_capabilities"}, ahead=ahead)
        return self._session.send(message, ahead=ahead)


class TesterSession:
    """A QMP session of the tester's own, on no character device."""

    #: see `connection.Transport`
    unread = 0

    def __init__(self, vm: Machine) -> None:
        self._dispatcher = dispatcher_of(vm)
        self._replies: dict[int, Deferred] = {}
        self._last_id = 0
        self._connection = QmpConnection(self._dispatcher.session(), self)
        self._dispatcher.connect(self._connection)

    def send(self, message: dict[str, Any], *, ahead: bool = False) -> Deferred:
        """Send a request; the Deferred gets the whole reply. `ahead`: of all others."""
        self._last_id += 1
        reply = self._replies[self._last_id] = Deferred()
        request = {**message, "id": self._last_id}
        if ahead:
            self._dispatcher.answer_now(self._connection, Value(request))
        else:
            self._dispatcher.received(self._connection, json.dumps(request).encode() + b"\n")
        return reply

    def write(self, data: bytes) -> None:
        """What the session says: resolve whom it answers."""
        for line in data.decode().splitlines():
            message = json.loads(line)
            waiting = self._replies.pop(message.get("id"), None)
            if waiting is not None:
                message.pop("id")
                waiting.resolve(message)

    def pause(self, paused: bool) -> None:
        """Whoever sends here does not wait."""
