"""What a tester may do to a machine, as verbs with plain parameters.

The same verbs serve a machine in the tester's own loop, in a thread and at the other end of a
socket. A verb returns a value, or a Deferred when the machine has to go on first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fakeqemu.commands.registry import Deferred
from fakeqemu.io.loop import Loop
from fakeqemu.migration.transfer.model import Workload
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.json.streamer import Value
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.qmp.checks import check_everything
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.qmp.session import QmpSession
from fakeqemu.testing.clock.timekeeper import Timekeeper
from fakeqemu.testing.machine.guest import guest_does
from fakeqemu.testing.machine.stubs import CallTester, MachineStubs, Stub


class MachineController:
    """One machine under a tester's hands."""

    def __init__(
        self,
        vm: Machine,
        loop: Loop,
        *,
        call: CallTester,
        complain: Callable[[SchemaViolation], None],
        check: bool = True,
    ) -> None:
        from fakeqemu.testing.faults.injector import Faults

        self.vm = vm
        # before any channel is opened: one that is open already cannot go wrong
        Faults.of(vm)
        self._time = Timekeeper(loop, vm.clock)
        #: how often the tester's own channel was busy
        self.own_activity = 0
        self._session: QmpSession | None = None
        self._replies: dict[int, Deferred] = {}
        self._last_id = 0
        dispatcher = dispatcher_of(vm)
        self._stubs = MachineStubs(vm.profile.schema, call, complain, vm.journal.note)
        dispatcher.interceptors.append(self._stubs.intercept)
        if check:
            check_everything(vm, complain, self._stubs.excused)

    def call(self, verb: str, parameters: dict[str, Any]) -> Any:
        """Do it. Raises LookupError for a verb that is none."""
        verbs: dict[str, Callable[..., Any]] = {
            "qmp": self._qmp,
            "event": self._event,
            "stub-add": lambda **members: self._stubs.add(Stub(**members)),
            "stub-remove": self._stubs.remove,
            "now": self.vm.clock.now,
            "advance": self._time.advance,
            "jump": self._time.jump,
            "run-until-idle": self._time.run_until_idle,
            "skip": self._time.skip,
            "next-at": self._time.next_at,
            "settle": lambda: self._time.settled(self.own_activity),
            "note": self._note,
            "guest": self._guest,
            "guest-do": lambda what, **given: guest_does(self.vm, what, given),
            "exit": self._exit,
            "fault-add": self._fault_add,
            "fault-do": self._fault_do,
        }
        return verbs[verb](**parameters)

    def _qmp(self, message: dict[str, Any]) -> Deferred:
        """Send a request on the tester's own session; the Deferred gets the whole reply."""
        if self._session is None:
            self._session = QmpSession(self.vm, dispatcher_of(self.vm), self._received)
            self._session.start()
            self._send({"execute": "qmp_capabilities"})
        return self._send(message)

    def _send(self, message: dict[str, Any]) -> Deferred:
        assert self._session is not None
        self._last_id += 1
        reply = self._replies[self._last_id] = Deferred()
        request = {**message, "id": self._last_id}
        if _held_up(self.vm):
            # a fault holds up the monitors; it must not hold up the tester
            dispatcher_of(self.vm).run_now(self._session, Value(request))
        else:
            self._session.receive(json.dumps(request).encode() + b"\n")
        return reply

    def _received(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            message = json.loads(line)
            waiting = self._replies.pop(message.get("id"), None)
            if waiting is not None:
                message.pop("id")
                waiting.resolve(message)

    def _event(self, name: str, data: dict[str, Any] | None = None) -> None:
        self.vm.events.emit(name, data)

    def _note(self, kind: str, name: str, data: dict[str, Any]) -> None:
        self.vm.journal.note(kind, name, **data)

    def _guest(self, members: dict[str, int]) -> None:
        # what a migration has to carry; read when one begins
        setattr(self.vm, "guest_workload", Workload(**members))  # noqa: B010

    def _fault_add(self, faults: list[dict[str, Any]], seed: int = 0) -> list[int]:
        from fakeqemu.testing.faults.api import add_plain

        return add_plain(self.vm, faults, seed)

    def _fault_do(self, what: str, value: Any = None) -> Any:
        from fakeqemu.testing.faults.api import do

        return do(self.vm, what, value)

    def _exit(self, code: int = 0) -> None:
        self.vm.exit(code)


def _held_up(vm: Machine) -> bool:
    # without faults their engine is not imported
    return bool(getattr(dispatcher_of(vm).hooks, "holds_commands", False))
