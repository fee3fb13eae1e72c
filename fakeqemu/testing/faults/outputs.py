"""What goes out to clients, through the faults: lines of QMP, text of human monitors, the agent's.

See `faults.wire` for what becomes of a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from fakeqemu.dataclass import dataclass
from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.testing.faults.held_commands import Active
from fakeqemu.testing.faults.model import Fault
from fakeqemu.testing.faults.requests import is_line
from fakeqemu.testing.faults.wire import ConnectionOutput, Plan, applies, change, parse_line

if TYPE_CHECKING:
    from fakeqemu.qmp.connection import QmpConnection
    from fakeqemu.qmp.session import Line
    from fakeqemu.testing.faults.injector import Faults


@dataclass(slots=True)
class _Sending:
    """An event on its way to all clients: what was decided for the first counts for all."""

    message: dict[str, Any]
    seen: set[int]
    struck: bool


class Outputs:
    """The outputs of one machine's monitors and its guest agent."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._outputs: WeakKeyDictionary[object, ConnectionOutput] = WeakKeyDictionary()
        #: number of a fault -> the event that it was last asked about
        self._events: dict[int, _Sending] = {}

    def line(self, connection: QmpConnection, line: Line) -> None:
        """A line of QMP."""
        faults = self._faults
        if faults.process.stopped:
            faults.process.later(lambda: self.line(connection, line))
            return
        chardev, session = connection.transport, connection.session
        assert isinstance(chardev, Chardev)
        # held weakly: it is the key under which the output is kept
        client = ref(connection)

        def connected() -> bool:
            found = client()
            return found is not None and not found.closed

        out = self._of(connection, chardev, connected)
        if out.ended or connection.closed:
            return
        plan = Plan(parse_line(line.data), session.pretty, [line.data])
        strikes: Callable[[Active], bool] = Active.strikes
        if plan.kind == "event":
            strikes = self._once(plan.message, id(connection))
        command = line.command

        def introduces() -> bool:
            return command == "qmp_capabilities" or not session.negotiated

        self._plan(out, plan, chardev.id, lambda name: name == command, introduces(), strikes)
        if "id" in plan.message:
            out.last_id = parse_line(line.data).get("id")
        out.carry_out(plan)

    def text(self, chardev: Chardev, data: bytes, line: str | None) -> None:
        """What a human monitor shows: of a line, or (None) its banner; "" is all else."""
        faults = self._faults
        if faults.process.stopped:
            faults.process.later(lambda: self.text(chardev, data, line))
            return
        if line is None:
            self._outputs.pop(chardev, None)  # another client
        out = self._of(chardev, chardev, lambda: chardev.connected)
        if out.ended:
            return
        shown = "greeting" if line is None else "reply" if line else "text"
        plan = Plan({}, False, [data], shown=shown)

        def named(command: str) -> bool:
            return bool(line) and is_line(faults.vm, line or "", command)

        self._plan(out, plan, chardev.id, named, False, Active.strikes)
        out.carry_out(plan)

    def agent(self, chardev: Chardev, data: bytes, name: str) -> None:
        """A reply of the guest agent, which only faults concern that name it or its port."""
        faults = self._faults
        if faults.process.stopped:
            faults.process.later(lambda: self.agent(chardev, data, name))
            return
        out = self._of(chardev, chardev, lambda: chardev.connected)
        if out.ended and chardev.connected:
            # it has hung up on another client than this
            del self._outputs[chardev]
            out = self._of(chardev, chardev, lambda: chardev.connected)
        message = json.loads(data.lstrip(b"\xff"))
        plan = Plan(message, False, [data])

        def wanted(fault: Fault) -> bool:
            return fault.command == name or (
                fault.command is None and fault.connection == chardev.id
            )

        self._plan(
            out, plan, chardev.id, lambda each: each == name, False, Active.strikes, wanted
        )
        out.carry_out(plan)

    # -- inside ----------------------------------------------------------------------------------

    def _plan(  # noqa: PLR0917
        self,
        out: ConnectionOutput,
        plan: Plan,
        id: str,
        command: Callable[[str], bool],
        introduces: bool,
        strikes: Callable[[Active], bool],
        also: Callable[[Fault], bool] = lambda _: True,
    ) -> None:
        def wanted(fault: Fault) -> bool:
            if fault.channel or fault.connection not in (None, id) or not also(fault):
                return False
            return applies(fault, plan, command, introduces)

        for fault, random in self._faults.matching("output", wanted, strikes):
            change(fault, plan, random, self._faults.vm, out.last_id)

    def _once(self, message: dict[str, Any], client: int) -> Callable[[Active], bool]:
        """Decide for an event once, whoever receives it: all lose it, and it counts once."""

        def strikes(active: Active) -> bool:
            last = self._events.get(active.number)
            if last is None or last.message != message or client in last.seen:
                last = _Sending(message, set(), active.strikes())
                self._events[active.number] = last
            last.seen.add(client)
            return last.struck

        return strikes

    def _of(
        self, key: object, chardev: Chardev, connected: Callable[[], bool]
    ) -> ConnectionOutput:
        out = self._outputs.get(key)
        if out is None:
            faults = self._faults
            out = ConnectionOutput(
                chardev, faults.loop, faults.vm.process.call_later, connected, faults.exit
            )
            self._outputs[key] = out
        return out
