"""One client's conversation: greeting, negotiation, requests, replies, events.

QEMU reads a monitor byte by byte and stops after each request until it is answered; with
out-of-band execution negotiated it reads on until eight wait. What that means to a client is
kept here: input not read yet is parsed only when its turn comes, so a request sees the session
as the requests before it left it.

See monitor/qmp.c: qmp_greeting(), handle_qmp_command() and monitor_qmp_read();
monitor/qmp-cmds-control.c: qmp_caps_accept().
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import CommandNotFoundError, QapiError
from fakeqemu.qapi.json.streamer import JsonStream, Message, ParseError
from fakeqemu.qapi.json.writer import encode, encode_slices
from fakeqemu.qmp.request import looks_out_of_band

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.dispatch import Dispatcher

#: requests that may wait when out-of-band execution is on
QUEUE_LENGTH = 8
#: tokens of one message that are read before others have their turn
_SLICE = 512
#: bytes that a client may leave unread before its next request is carried out
MOST_UNREAD = 64 << 20


class SessionState(Enum):
    """Where the conversation stands."""

    #: no client yet
    IDLE = "idle"
    #: greeted; only qmp_capabilities is taken, no events are sent
    NEGOTIATING = "negotiating"
    #: all commands, all events
    COMMANDS = "commands"
    #: the client hung up; what it had sent is still carried out, nothing is sent
    CLOSED = "closed"


#: (state, trigger) -> next state; whatever is not here cannot happen
TRANSITIONS: dict[tuple[SessionState, str], SessionState] = {
    (SessionState.IDLE, "start"): SessionState.NEGOTIATING,
    (SessionState.NEGOTIATING, "capabilities"): SessionState.COMMANDS,
    (SessionState.IDLE, "close"): SessionState.CLOSED,
    (SessionState.NEGOTIATING, "close"): SessionState.CLOSED,
    (SessionState.COMMANDS, "close"): SessionState.CLOSED,
    (SessionState.CLOSED, "close"): SessionState.CLOSED,
    (SessionState.CLOSED, "capabilities"): SessionState.CLOSED,
}


@dataclass(slots=True)
class _Outgoing:
    """A message that is being written, which takes several turns if it is long."""

    left: Generator[str, None, str]
    #: see `QmpSession.subject`
    subject: str | None
    written: list[str] = field(default_factory=list)


class QmpSession:
    """One client from greeting to hang-up."""

    def __init__(
        self,
        vm: Machine,
        dispatcher: Dispatcher,
        send: Callable[[bytes], None],
        pretty: bool = False,
        *,
        offers_oob: bool = True,
        monitor: Any = None,
        on_pause: Callable[[bool], None] | None = None,
        unread: Callable[[], int] = lambda: 0,
    ) -> None:
        """`unread`: how many bytes the client has not taken; see `take_up`."""
        self.vm = vm
        self.pretty = pretty
        #: what commands registered with `monitor=True` get
        self.monitor: Any = monitor if monitor is not None else self
        self.state = SessionState.IDLE
        #: whether the client has done its negotiation (still true after it hung up)
        self.negotiated = False
        self.oob_enabled = False
        #: the command whose reply is being sent; kept only where somebody listens in (`hooks`)
        self.subject: str | None = None
        self._offers_oob = offers_oob
        self._dispatcher = dispatcher
        self._send = send
        self._on_pause = on_pause
        self._unread = unread
        #: messages that are not written yet, the oldest under way
        self._outgoing: deque[_Outgoing] = deque()
        self._paused = False
        self._suspended = False
        self._reading = False
        #: reading goes on in another turn
        self._turn_asked = False
        self._stream = JsonStream(vm.profile.traits)
        self._input: deque[tuple[bytes, Sequence[int]]] = deque()
        self._queue: deque[Message] = deque()
        self._fds: deque[int] = deque()

    # -- the client's side -------------------------------------------------------------------

    def start(self) -> None:
        """A client is there: greet it."""
        self._move("start")
        self._dispatcher.add(self)
        version = self.vm.profile.version
        numbers = {"major": version.major, "minor": version.minor, "micro": version.micro}
        self.send(
            {
                "QMP": {
                    "version": {"qemu": numbers, "package": version.package},
                    "capabilities": ["oob"] if self._offers_oob else [],
                }
            }
        )

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Input from the client, and the descriptors that came with its first byte."""
        self._input.append((data, fds))
        self.read()

    def close(self) -> None:
        """The client hung up. What it sent before is still carried out."""
        self._move("close")
        if self._outgoing:
            self._outgoing.clear()
            self.take_up()
        self._leave_if_done()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message, in several turns if it is long; lost when the client has gone."""
        if self.state is SessionState.CLOSED:
            return
        self._outgoing.append(_Outgoing(encode_slices(message, self.pretty), self.subject))
        if len(self._outgoing) == 1:
            self._write_on()

    def _write_on(self) -> None:
        while self._outgoing:
            message = self._outgoing[0]
            try:
                message.written.append(next(message.left))
            except StopIteration as end:
                message.written.append(end.value)
                self._outgoing.popleft()
                before, self.subject = self.subject, message.subject
                self.write(_line("".join(message.written)))
                self.subject = before
                continue
            except Exception:
                self._outgoing.popleft()
                raise
            if self.vm.host.yield_turn(self._write_in_turn):
                return

    def _write_in_turn(self) -> None:
        def failed(error: QapiError) -> None:
            self.send({"error": {"class": error.error_class, "desc": error.desc}})

        self.vm.guard.call(self._write_on, failed=failed)
        if not self._outgoing:
            self.take_up()
            self._leave_if_done()

    def take_up(self) -> None:
        """Go on with this client, whose replies have been written or read."""
        self._dispatcher.run()
        self.read()

    @property
    def _replies_wait(self) -> bool:
        """Whether its next request waits until replies are written, or have been read."""
        return bool(self._outgoing) or self._unread() > MOST_UNREAD

    def write(self, line: bytes) -> None:
        """Send a line that is encoded already."""
        if self.state is not SessionState.CLOSED:
            self._send(line)

    def take_fd(self) -> int | None:
        """The next descriptor that came with the input read so far."""
        return self._fds.popleft() if self._fds else None

    # -- the dispatcher's side ---------------------------------------------------------------

    @property
    def hears_events(self) -> bool:
        """Whether events are sent to this client."""
        return self.state is SessionState.COMMANDS

    @property
    def waiting(self) -> bool:
        """Whether there is anything left to do for this client."""
        return bool(self._queue or self._input or self._suspended or self._turn_asked)

    def pop(self) -> Message | None:
        """Take the next request off the queue; reading goes on if the queue had been full."""
        if not self._queue or self._replies_wait:
            return None
        message = self._queue.popleft()
        if self.oob_enabled and len(self._queue) == QUEUE_LENGTH - 1:
            self._suspended = False
        return message

    def answered(self, oob_was_enabled: bool) -> None:
        """The request last popped is done with: without oob, read the next one."""
        if not oob_was_enabled:
            self._suspended = False
        self.read()
        self._leave_if_done()

    def read(self) -> None:
        """Parse what has come, as far as this session reads now, and have it carried out.

        A long message takes several turns, and so do out-of-band requests.
        """
        if self._reading or self._turn_asked:
            return
        self._reading = True
        try:
            while not self._suspended and not self._replies_wait:
                message = self._parse()
                if message is not None:
                    overtakes = self._take(message)
                elif self._stream.pending:
                    overtakes = True
                elif self._input:
                    self._next_input()
                    continue
                else:
                    break
                self._dispatcher.run()
                if overtakes and self._yield_turn():
                    break
        finally:
            self._reading = False
        self.signal()

    def _parse(self) -> Message | None:
        message, error = self.vm.guard.attempt(self._stream.next_message, _SLICE)
        if error is None:
            return cast("Message | None", message)
        self._stream = JsonStream(self.vm.profile.traits)
        return ParseError(error.desc)

    def _yield_turn(self) -> bool:
        """Whether reading goes on in another turn."""
        self._turn_asked = self.vm.host.yield_turn(self._next_turn)
        return self._turn_asked

    def _next_turn(self) -> None:
        self._turn_asked = False
        self.read()
        self._leave_if_done()

    def signal(self) -> None:
        """Tell whoever feeds this session whether to go on."""
        busy = self._suspended or self._turn_asked or self._replies_wait
        if busy != self._paused:
            self._paused = busy
            if self._on_pause is not None and self.state is not SessionState.CLOSED:
                self._on_pause(self._paused)

    def accept_capabilities(self, enable: Sequence[str]) -> None:
        """qmp_capabilities. Raises QapiError."""
        if self.negotiated:
            raise CommandNotFoundError(texts.CAPABILITIES_COMPLETE)
        if not self._offers_oob and enable:
            raise QapiError(f"Capability {', '.join(enable)} not available")
        self.oob_enabled = "oob" in enable
        self.negotiated = True
        self._move("capabilities")

    # -- inside ------------------------------------------------------------------------------

    def _take(self, message: Message) -> bool:
        """Queue the message, unless it overtakes the queue: then that is returned."""
        if not isinstance(message, ParseError) and looks_out_of_band(message.value):
            self._dispatcher.run_now(self, message)
            return True
        if not self.oob_enabled or len(self._queue) == QUEUE_LENGTH - 1:
            self._suspended = True
        self._queue.append(message)
        return False

    def _next_input(self) -> None:
        data, fds = self._input.popleft()
        if fds:
            # those nobody asked for go when new ones come
            self._drop_fds()
            self._fds = deque(fds)
        self._stream.push(data)

    def _drop_fds(self) -> None:
        while self._fds:
            self.vm.host.close_fd(self._fds.popleft())

    def _leave_if_done(self) -> None:
        if self.state is SessionState.CLOSED and not self.waiting:
            self._drop_fds()
            self._dispatcher.remove(self)

    def _move(self, trigger: str) -> None:
        self.state = TRANSITIONS[self.state, trigger]


def encode_line(message: dict[str, Any], pretty: bool) -> bytes:
    """A message as it goes over the wire: CR LF at every line end."""
    return _line(encode(message, pretty))


def _line(text: str) -> bytes:
    return (text.replace("\n", "\r\n") + "\r\n").encode("ascii")
