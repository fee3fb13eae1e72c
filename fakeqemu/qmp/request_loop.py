"""Reads requests, has them carried out and sends the replies: for all clients of one machine.

In-band requests are carried out one at a time, each client in its turn, one request in a turn of
the process. A command that answers later (`Deferred`) holds up the in-band requests of every
client; out-of-band ones are carried out when they are read. Long messages are parsed and encoded
in several turns.

See monitor/qmp.c: monitor_qmp_dispatcher_co() and monitor_qmp_requests_pop_any_with_lock().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.commands.registry import Deferred
from fakeqemu.qapi.errors import AbortError
from fakeqemu.qapi.json.streamer import Message, ParseError, Value
from fakeqemu.qmp.request import NO_ID, command_of, failure, id_of, success
from fakeqemu.qmp.session import Line, Reading

if TYPE_CHECKING:
    from fakeqemu.guard import Guard
    from fakeqemu.qmp.connection import QmpConnection


class HostTurns(Protocol):
    """What the loop needs of the host; see `Host`."""

    def yield_turn(self, call: Callable[[], None]) -> bool:
        """Run `call` when all others have had their turn; false: there are no turns."""

    def close_fd(self, fd: int) -> None:
        """Close a descriptor."""


#: carries out a request: a value or a Deferred; raises QapiError
CarryOut = Callable[["QmpConnection", Message], Any]


def write_to_transport(connection: QmpConnection, line: Line) -> None:
    """Send a line as it is."""
    connection.transport.write(line.data)


class RequestLoop:
    """The clients, and who of them waits for what."""

    def __init__(
        self,
        guard: Guard,
        host: HostTurns,
        carry_out: CarryOut,
        *,
        ready: Callable[[], bool] = lambda: True,
        write: Callable[[QmpConnection, Line], None] = write_to_transport,
    ) -> None:
        """`ready`: whether in-band requests are carried out yet, and still."""
        self._guard = guard
        self._host = host
        self._carry_out = carry_out
        self._ready = ready
        self._write_line = write
        self._connections: list[QmpConnection] = []
        #: the same ones, whoever was served longest ago first
        self._in_turn: list[QmpConnection] = []
        #: the client whose in-band request is under way
        self._pending: QmpConnection | None = None
        #: a request was carried out in this turn of the process; the next one waits for another
        self._turn_used = False
        #: that other turn was asked for
        self._turn_asked = False
        #: `run` is at work
        self._running = False

    @property
    def connections(self) -> tuple[QmpConnection, ...]:
        """All clients, and those that have gone but are not done with."""
        return tuple(self._connections)

    # -- what happens to a client ------------------------------------------------------------

    def add(self, connection: QmpConnection) -> None:
        """A client is there: greet it."""
        self._connections.append(connection)
        self._in_turn.append(connection)
        self._send(connection, connection.session.start)

    def received(self, connection: QmpConnection, data: bytes, fds: Sequence[int] = ()) -> None:
        """Input came, and with it descriptors, which the session now owns."""
        connection.session.receive(data, fds)
        self.run()

    def hung_up(self, connection: QmpConnection) -> None:
        """The client has gone."""
        connection.close()
        self.run()

    def send(
        self, connection: QmpConnection, message: dict[str, Any], command: str | None = None
    ) -> None:
        """Send an event, or the reply to an out-of-band request, behind what is under way."""
        self._send(connection, connection.session.send, message, command)

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> None:
        """Execute and read until every session waits for its client."""
        if self._running:
            return  # something that is being carried out calls: it goes on below
        self._running = True
        try:
            while self._answer_next() or self._read_next():
                pass
        finally:
            self._running = False
        if not self._turn_asked:
            # nothing is left: what comes next comes in another turn
            self._turn_used = False
        for connection in tuple(self._connections):
            connection.update_reading()
            if connection.closed and connection.session.finished and not connection.turn_asked:
                self._remove(connection)

    def _answer_next(self) -> bool:
        """Carry out the next in-band request; false if that cannot be now."""
        if self._pending is not None:
            return False
        for index, connection in enumerate(self._in_turn):
            if not connection.session.has_request or not connection.may_go_on:
                continue
            if not self._ready() or (self._turn_used and self._ask_for_turn()):
                return False
            message = connection.session.next_request()
            assert message is not None
            if len(self._in_turn) > 1:
                self._in_turn.append(self._in_turn.pop(index))
            self._turn_used = True
            self._answer(connection, message)
            return True
        return False

    def _ask_for_turn(self) -> bool:
        """Have the next turn of the process; false where there are no turns."""
        if not self._turn_asked:
            self._turn_asked = self._host.yield_turn(self._next_turn)
        return self._turn_asked

    def _next_turn(self) -> None:
        self._turn_asked = self._turn_used = False
        for connection in self._connections:
            connection.turn_asked = False
        self.run()

    def _read_next(self) -> bool:
        """Read from the next client in turn; false if none is to be read from now."""
        for connection in self._connections:
            if (
                connection.session.has_input
                and not connection.turn_asked
                and connection.may_go_on
                and self._read(connection)
            ):
                return True
        return False

    def _read(self, connection: QmpConnection) -> bool:
        session = connection.session
        found, error = self._guard.attempt(session.read)
        for fd in session.unwanted_fds():
            self._host.close_fd(fd)
        if error is not None:
            session.fail_input(error.desc)
        elif found is Reading.WAITING:
            return False
        elif found is not Reading.QUEUED:
            if isinstance(found, Value):
                self.answer_now(connection, found)
            connection.turn_asked = connection.session.has_input and self._ask_for_turn()
        return True

    def _remove(self, connection: QmpConnection) -> None:
        while (fd := connection.session.take_fd()) is not None:
            self._host.close_fd(fd)
        self._connections.remove(connection)
        self._in_turn.remove(connection)

    # -- one request -------------------------------------------------------------------------

    def answer_now(self, connection: QmpConnection, message: Value) -> None:
        """Answer an out-of-band request at once, independent of queued ones."""
        self._perform(connection, message, partial(self.send, connection))

    def _answer(self, connection: QmpConnection, message: Message) -> None:
        self._pending = connection

        def answered(reply: dict[str, Any], command: str | None) -> None:
            self._send(connection, connection.session.send_reply, reply, command)
            self._pending = None
            self.run()

        self._perform(connection, message, answered)

    def _perform(
        self,
        connection: QmpConnection,
        message: Message,
        answered: Callable[[dict[str, Any], str | None], None],
    ) -> None:
        """Have `answered` called with the reply and the command's name, now or later.

        Never if the process ends.
        """
        id, command = NO_ID, None
        if not isinstance(message, ParseError):
            id, command = id_of(message.value), command_of(message.value)
        try:
            value, error = self._guard.attempt(self._carry_out, connection, message)
        except AbortError as abort:
            self._guard.abort(abort)
            return
        if error is not None:
            answered(failure(error, id), command)
        elif isinstance(value, Deferred):

            def finished(done: Deferred) -> None:
                if done.error is not None:
                    answered(failure(done.error, id), command)
                else:
                    answered(success(done.value, id), command)

            value.then(finished)
        else:
            answered(success(value, id), command)

    # -- output ------------------------------------------------------------------------------

    def _send(
        self, connection: QmpConnection, send: Callable[..., Line | None], *message: Any
    ) -> None:
        """Have the session `send` a message, behind what is under way."""
        under_way = connection.session.unsent
        line = send(*message)
        if line is not None:
            self._guard.call(self._write_line, connection, line)
        elif not under_way:
            self._write(connection)

    def _write(self, connection: QmpConnection) -> None:
        """Write what is to be sent, a long message in several turns.

        What cannot be written as JSON is a bug like any other.
        """
        session = connection.session
        while session.unsent:
            line, error = self._guard.attempt(session.encode)
            if error is not None:
                session.fail_encoding(error)
            elif line is not None:
                self._guard.call(self._write_line, connection, line)
            elif self._host.yield_turn(partial(self._write_on, connection)):
                return

    def _write_on(self, connection: QmpConnection) -> None:
        self._write(connection)
        if not connection.session.unsent:
            self.run()
