"""How a monitor's output goes wrong: each line becomes a plan, each fault changes the plan.

So faults compose without knowing each other, and the plan is carried out in one place: what is
written, in how many pieces, when, and whether the connection lives on. The order of bytes on a
connection is kept whatever is asked for; only `Reorder` changes the order of messages.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass, field
from fakeqemu.qmp.session import encode_line
from fakeqemu.testing.faults.model import (
    Coalesce,
    Delay,
    Drop,
    DuplicateEvent,
    ExitFault,
    Fault,
    JunkBytes,
    LostEvent,
    MissingId,
    PartialUtf8,
    Reorder,
    Split,
    StaleEvent,
    WrongId,
)

if TYPE_CHECKING:
    from fakeqemu.io.loop import Loop
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine

#: the euro sign without its last byte
_CUT_CHARACTER = "\u20ac".encode()[:2]


#: what changes JSON, which a human monitor does not speak
_OF_JSON = (StaleEvent, WrongId, MissingId, DuplicateEvent, LostEvent)


@dataclass(slots=True)
class Plan:
    """What is to become of one line."""

    #: the message as it would have been sent; empty for the text of a human monitor
    message: dict[str, Any]
    pretty: bool
    #: the lines that go out in its place
    lines: list[bytes]
    #: of the machine's clock, nanoseconds
    delay: int = 0
    split: Split | None = None
    hold: Coalesce | Reorder | None = None
    drop: str | None = None
    #: the machine ends when this has gone out
    exit: ExitFault | None = None
    #: of text that a human monitor shows: "greeting", "text" or "reply"
    shown: str = ""

    @property
    def kind(self) -> str:
        """ "greeting", "event", "reply", or "text" of no command."""
        if self.shown:
            return self.shown
        if "QMP" in self.message:
            return "greeting"
        return "event" if "event" in self.message else "reply"

    def rewrite(self, message: dict[str, Any]) -> None:
        """Send this in place of the message."""
        old = encode_line(self.message, self.pretty)
        new = encode_line(message, self.pretty)
        self.lines = [line.replace(old, new) for line in self.lines]
        self.message = message


def applies(
    fault: Fault, plan: Plan, command: Callable[[str], bool], introduces: bool
) -> bool:
    """Whether the fault's scope takes in this line.

    `command`: whether a name is that of the command which the line answers; `introduces`: whether
    it belongs to the negotiation.
    """
    kind = plan.kind
    if plan.shown and isinstance(fault, _OF_JSON):
        return False
    match fault:
        case ExitFault():
            return fault.at == "after-greeting" and kind == "greeting"
        case StaleEvent(before="greeting"):
            return kind == "greeting"
        case StaleEvent(before="negotiation"):
            return kind == "reply" and introduces
        case StaleEvent() | WrongId() | MissingId():
            wanted = kind == "reply"
        case LostEvent() | DuplicateEvent():
            wanted = kind == "event"
        case Delay():
            # without either the commands themselves are late
            wanted = fault.greeting or fault.event is not None
        case _:
            wanted = True
    if not wanted:
        return False
    if fault.greeting:
        return kind == "greeting"
    if fault.event is not None:
        return kind == "event" and plan.message["event"] == fault.event
    if fault.command is not None:
        return kind == "reply" and command(fault.command)
    return True


def change(fault: Fault, plan: Plan, random: Random, vm: Machine, last_id: Any) -> None:
    """Apply the fault to the plan."""
    match fault:
        case Delay():
            plan.delay += round(fault.seconds * SECOND)
        case Drop():
            plan.drop = fault.place
        case Split():
            plan.split = fault
        case Coalesce() | Reorder():
            plan.hold = fault
        case WrongId():
            plan.rewrite({**plan.message, "id": fault.id if fault.id is not None else last_id})
        case MissingId():
            plan.rewrite({k: v for k, v in plan.message.items() if k != "id"})
        case DuplicateEvent():
            plan.lines = plan.lines * fault.copies
        case LostEvent():
            plan.lines = []
        case StaleEvent():
            plan.lines.insert(0, encode_line(_stale_event(fault, vm), plan.pretty))
        case JunkBytes():
            # never a brace or a quote, and never ASCII: it cannot be taken for anything
            junk = bytes(random.randrange(0x80, 0x100) for _ in range(fault.size))
            _insert(plan, junk, fault.place)
        case PartialUtf8():
            _insert(plan, _CUT_CHARACTER, "middle")
        case ExitFault():
            plan.exit = fault


def _stale_event(fault: StaleEvent, vm: Machine) -> dict[str, Any]:
    seconds, rest = divmod(vm.clock.realtime(), SECOND)
    message: dict[str, Any] = {
        "timestamp": {"seconds": seconds, "microseconds": rest // 1000},
        "event": fault.stale,
    }
    if fault.data is not None:
        message["data"] = dict(fault.data)
    return message


def _insert(plan: Plan, junk: bytes, place: str) -> None:
    data = b"".join(plan.lines)
    at = {"before": 0, "middle": len(data) // 2, "after": len(data)}[place]
    plan.lines = [data[:at] + junk + data[at:]]


@dataclass(slots=True)
class ConnectionOutput:
    """The way from one session to its client."""

    chardev: Chardev
    loop: Loop
    call_later: Any
    #: whether its client is still there; the same character device may have another by now
    connected: Callable[[], bool]
    #: ends the machine
    leave: Callable[[ExitFault], None]
    #: the connection is to end: nothing more is sent
    ended: bool = False
    #: the id of the last reply
    last_id: Any = "0"
    #: lines that wait for others
    _held: list[bytes] = field(default_factory=list)
    #: what is held comes after the next line, not before it
    _swapping: bool = False
    #: pieces that wait for their moment, each with the seconds to wait after it
    _pieces: deque[tuple[bytes, float]] = field(default_factory=deque)
    _feeding: bool = False

    def carry_out(self, plan: Plan) -> None:
        """Send what the plan says, when it says."""
        if plan.delay:
            self.call_later(plan.delay, lambda: self._send(plan))
        else:
            self._send(plan)

    def _send(self, plan: Plan) -> None:
        if self.ended or not self.connected():
            return
        data = b"".join(plan.lines)
        if plan.drop is not None:
            share = {"before": 0, "middle": len(data) // 2, "after": len(data)}[plan.drop]
            self._write(data[:share], plan.split)
            self.end()
            return
        if plan.exit is not None:
            self._write(data, None)
            self.ended = True
            exit = plan.exit
            self.loop.call_soon(lambda: self.leave(exit))
            return
        match plan.hold:
            case Reorder(wait=wait) if not self._held:
                self._swapping = True
                self._held.append(data)
                self.loop.call_later(wait, self._release)
                return
            case Coalesce(messages=messages, wait=wait):
                if not self._held:
                    self.loop.call_later(wait, self._release)
                self._held.append(data)
                if len(self._held) >= messages:
                    self._release()
                return
        if not self._swapping:
            self._release()
        self._write(data, plan.split)
        self._release()

    def _release(self) -> None:
        held, self._held, self._swapping = self._held, [], False
        if held and self.connected():
            self._write(b"".join(held), None)

    def end(self) -> None:
        """Hang up on the client, once what was said has gone out."""
        self.ended = True
        if not self._pieces:
            self.loop.call_soon(self._hang_up)

    def _hang_up(self) -> None:
        if self.connected():
            self.chardev.disconnect()

    def _write(self, data: bytes, split: Split | None) -> None:
        if self.ended or not data:
            return
        if split is None:
            self._pieces.append((data, 0.0))
        else:
            size = split.size
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            self._pieces += [(piece, split.gap) for piece in pieces]
        if not self._feeding:
            self._feed()

    def _feed(self) -> None:
        self._feeding = False
        if not self.connected():
            self._pieces.clear()
        while self._pieces:
            piece, gap = self._pieces.popleft()
            self.chardev.write(piece)
            if gap and self._pieces:
                self._feeding = True
                self.loop.call_later(gap, self._feed)
                return
        if self.ended:
            self.loop.call_soon(self._hang_up)


def parse_line(line: bytes) -> dict[str, Any]:
    """A line of ours as the message it is."""
    message: dict[str, Any] = json.loads(line)
    return message
