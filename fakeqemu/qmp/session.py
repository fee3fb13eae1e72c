"""One client's conversation: bytes in and requests out, replies in and bytes out.

QEMU reads a monitor byte by byte and stops after each request until it is answered; with
out-of-band execution negotiated it reads on until eight wait. What that means to a client is
kept here: input not read yet is parsed only when its turn comes, so a request sees the session
as the requests before it left it. Who calls, and when, is the business of `request_loop`.

See monitor/qmp.c: qmp_greeting(), handle_qmp_command() and monitor_qmp_read();
monitor/qmp-cmds-control.c: qmp_caps_accept().
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import CommandNotFoundError, QapiError
from fakeqemu.qapi.json.streamer import JsonStream, Message, ParseError, Value
from fakeqemu.qapi.json.writer import encode, encode_short, encode_slices
from fakeqemu.qmp.request import NO_ID, failure, id_of, looks_out_of_band

if TYPE_CHECKING:
    from fakeqemu.profile.facts import Version
    from fakeqemu.traits import Traits

#: requests that may wait when out-of-band execution is on
QUEUE_LENGTH = 8
#: tokens of one message that one call of `read` looks at
_SLICE = 512


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


class Reading(Enum):
    """What a call of `QmpSession.read` came to, unless it found an out-of-band request."""

    #: all that has come is read, or no more is read for now
    WAITING = "waiting"
    #: there is more to read, of a long message for instance
    UNFINISHED = "unfinished"
    #: a request has joined the queue, see `QmpSession.next_request`
    QUEUED = "queued"


@dataclass(frozen=True, slots=True)
class Line:
    """An encoded message for the client."""

    #: with its CR LF
    data: bytes
    #: the command that it replies to; None for the greeting and events
    command: str | None


@dataclass(slots=True)
class _Unsent:
    """A message that is being encoded, in several slices if it is long."""

    slices: Generator[str, None, str]
    id: Any
    command: str | None
    encoded: list[str] = field(default_factory=list)


class QmpSession:
    """One client from greeting to hang-up."""

    def __init__(
        self,
        version: Version,
        traits: Traits,
        pretty: bool = False,
        *,
        offers_oob: bool = True,
    ) -> None:
        self.pretty = pretty
        self.state = SessionState.IDLE
        #: whether the client has done its negotiation (still true after it hung up)
        self.negotiated = False
        self.oob_enabled = False
        self._version = version
        self._traits = traits
        self._offers_oob = offers_oob
        #: no request is read until one of those that wait is answered, or leaves the queue
        self._suspended = False
        #: the request last taken ends the suspension when it is answered
        self._resumes = False
        self._stream = JsonStream(traits)
        self._input: deque[tuple[bytes, Sequence[int]]] = deque()
        self._queue: deque[Message] = deque()
        self._fds: deque[int] = deque()
        #: descriptors that nobody asked for, to be closed
        self._unwanted_fds: list[int] = []
        #: messages that are not encoded yet, the oldest under way
        self._unsent: deque[_Unsent] = deque()

    # -- from the client to the commands -----------------------------------------------------

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Input from the client, and the descriptors that came with its first byte."""
        self._input.append((data, fds))

    def read(self) -> Value | Reading:
        """Parse on until there is one more request; an out-of-band one is returned."""
        while not self._suspended and not self._unsent:
            message = self._stream.next_message(_SLICE)
            if message is not None:
                return self._take(message)
            if self._stream.pending:
                return Reading.UNFINISHED
            if not self._input:
                break
            self._next_input()
        return Reading.WAITING

    def fail_input(self, text: str) -> None:
        """The last call of `read` raised: forget the message, and answer it with an error."""
        self._stream = JsonStream(self._traits)
        self._take(ParseError(text))

    def next_request(self) -> Message | None:
        """Take the next request off the queue, unless replies are still to be encoded."""
        if not self.has_request:
            return None
        message = self._queue.popleft()
        if self.oob_enabled and len(self._queue) == QUEUE_LENGTH - 1:
            self._suspended = False
        self._resumes = not self.oob_enabled
        return message

    def take_fd(self) -> int | None:
        """The next descriptor that came with the input read so far."""
        return self._fds.popleft() if self._fds else None

    def unwanted_fds(self) -> list[int]:
        """Received descriptors that no request used, for the caller to close."""
        found, self._unwanted_fds = self._unwanted_fds, []
        return found

    # -- from the commands to the client -----------------------------------------------------

    def start(self) -> Line | None:
        """A client is there: greet it, as `send` does."""
        self._move("start")
        version = self._version
        numbers = {"major": version.major, "minor": version.minor, "micro": version.micro}
        return self.send(
            {
                "QMP": {
                    "version": {"qemu": numbers, "package": version.package},
                    "capabilities": ["oob"] if self._offers_oob else [],
                }
            }
        )

    def send(self, message: dict[str, Any], command: str | None = None) -> Line | None:
        """An event, or the reply to an out-of-band request: its line if it can go out at once.

        None if it is queued, to be encoded, or lost because the client has gone.
        """
        if self.state is SessionState.CLOSED:
            return None
        if not self._unsent and not self.pretty and (text := encode_short(message)) is not None:
            return Line((text + "\r\n").encode("ascii"), command)
        slices = encode_slices(message, self.pretty)
        self._unsent.append(_Unsent(slices, id_of(message), command))
        return None

    def send_reply(self, reply: dict[str, Any], command: str | None = None) -> Line | None:
        """The same for the request last taken, which is done with: without oob, the next is read.
        """
        if self._resumes:
            self._suspended = False
        return self.send(reply, command)

    def encode(self) -> Line | None:
        """Encode one slice of the oldest message; its line when that was the last one."""
        message = self._unsent[0]
        try:
            message.encoded.append(next(message.slices))
        except StopIteration as end:
            message.encoded.append(end.value)
            self._unsent.popleft()
            return Line(_line("".join(message.encoded)), message.command)
        return None

    def fail_encoding(self, error: QapiError) -> None:
        """The last call of `encode` raised: send an error in place of the message."""
        message = self._unsent[0]
        reply = failure(error, message.id)
        self._unsent[0] = _Unsent(encode_slices(reply, self.pretty), NO_ID, message.command)

    def accept_capabilities(self, enable: Sequence[str]) -> None:
        """qmp_capabilities. Raises QapiError."""
        if self.negotiated:
            raise CommandNotFoundError(texts.CAPABILITIES_COMPLETE)
        if not self._offers_oob and enable:
            raise QapiError(f"Capability {', '.join(enable)} not available")
        self.oob_enabled = "oob" in enable
        self.negotiated = True
        self._move("capabilities")

    def close(self) -> None:
        """The client hung up. What it sent before is still carried out."""
        self._move("close")
        self._unsent.clear()

    # -- how it stands -----------------------------------------------------------------------

    @property
    def receives_events(self) -> bool:
        """Whether events are sent to this client."""
        return self.state is SessionState.COMMANDS

    @property
    def unsent(self) -> bool:
        """Whether a message is to be encoded; no request is read or taken until then."""
        return bool(self._unsent)

    @property
    def has_request(self) -> bool:
        """Whether `next_request` has one."""
        return bool(self._queue) and not self._unsent

    @property
    def has_input(self) -> bool:
        """Whether `read` may come to anything."""
        return (self._stream.pending or bool(self._input)) and not (
            self._suspended or self._unsent
        )

    @property
    def suspended(self) -> bool:
        """Whether no request is read until another is done with."""
        return self._suspended

    @property
    def finished(self) -> bool:
        """Whether the client has gone and all that it had sent is done with."""
        closed = self.state is SessionState.CLOSED
        return closed and not (self._queue or self._input or self._suspended)

    # -- inside ------------------------------------------------------------------------------

    def _take(self, message: Message) -> Value | Reading:
        """Queue the message, unless it overtakes the queue."""
        if isinstance(message, Value) and looks_out_of_band(message.value):
            return message
        if not self.oob_enabled or len(self._queue) == QUEUE_LENGTH - 1:
            self._suspended = True
        self._queue.append(message)
        return Reading.QUEUED

    def _next_input(self) -> None:
        data, fds = self._input.popleft()
        if fds:
            # those nobody asked for go when new ones come
            self._unwanted_fds += self._fds
            self._fds = deque(fds)
        self._stream.push(data)

    def _move(self, trigger: str) -> None:
        self.state = TRANSITIONS[self.state, trigger]


def encode_line(message: dict[str, Any], pretty: bool) -> bytes:
    """A message as it goes over the wire: CR LF at every line end."""
    return _line(encode(message, pretty))


def _line(text: str) -> bytes:
    return (text.replace("\n", "\r\n") + "\r\n").encode("ascii")
