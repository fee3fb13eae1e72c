"""The connection of a node of driver nbd: made, lost, made again.

See block/nbd.c: nbd_reconnect_attempt() and nbd/client-connection.c: connect_thread_func().
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND, Timer
from fakeqemu.dataclass import dataclass
from fakeqemu.formats.nbd.client import LOST, Answer, Client
from fakeqemu.formats.nbd.client_handshake import ExportInfo
from fakeqemu.model.guarded_stream import GuardedStream
from fakeqemu.model.host import Stream
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.process import Process

#: seconds between attempts: doubled up to the most (see nbd/client-connection.c)
_FIRST_PAUSE, _LONGEST_PAUSE = 1, 16
#: real seconds for which an access that cannot be begun anew holds the machine up
PATIENCE = 10.0
_TOO_SLOW = "Connection timed out"

Answered = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class ExportAddress:
    """A server's export, and how patient its client is."""

    #: flat SocketAddress
    server: dict[str, Any]
    export: str = ""
    context: str = "base:allocation"
    #: seconds during which requests wait for a connection that was lost
    reconnect_delay: int = 0
    #: seconds during which the first connection is tried for again
    open_timeout: int = 0

    @property
    def address(self) -> dict[str, Any]:
        """As the host takes it."""
        return {"transport": "socket", **self.server}


@dataclass(slots=True)
class _Asked:
    """A request, kept until it is answered."""

    kind: int
    offset: int
    count: int
    data: bytes
    answered: Answered


class NbdClientConnection:
    """A client's connection to one export, over and over again."""

    def __init__(self, target: ExportAddress, process: Process) -> None:
        self.target = target
        self._process = process
        self._host, self._clock, self._guard = process.host, process.clock, process.guard
        self._stream: GuardedStream | None = None
        self._client: Client | None = None
        #: what the server has said of the export, the last time that a connection came about
        self.export = ExportInfo(target.export, target.context)
        #: under way, in order
        self._asked: list[_Asked] = []
        #: while there is no connection and `reconnect_delay` has not passed
        self._held: deque[_Asked] = deque()
        self._give_up: Timer | None = None
        self._retry: Timer | None = None
        self._connecting = False
        self._closed = False
        self._waiters: list[Callable[[], None]] = []
        #: writes that were sent ahead and refused
        self._failed: Answer | None = None
        self._ahead = 0

    @property
    def connected(self) -> bool:
        """Whether requests can be made."""
        return self._client is not None and not self._client.error and self._stream is not None

    @property
    def _broken(self) -> bool:
        """Whether the server has broken the protocol, after which no requests are sent."""
        return self._client is not None and self._client.broken

    # -- making it -------------------------------------------------------------------------------

    def connect(self, done: Callable[[QapiError | None], None]) -> None:
        """Connect; `done` is called when that has come about, or has failed for good."""
        end = self._clock.now() + self.target.open_timeout * SECOND
        self._try(done, end, _FIRST_PAUSE)

    def _try(self, done: Callable[[QapiError | None], None], end: int, pause: int) -> None:
        self._retry = None

        def settled(error: QapiError | None) -> None:
            if error is None or self._closed or self._clock.now() + pause * SECOND >= end:
                done(error)
                return
            longer = min(pause * 2, _LONGEST_PAUSE)
            self._retry = self._process.call_later(
                pause * SECOND, lambda: self._try(done, end, longer), done
            )

        self._connect_once(settled)

    def _connect_once(self, done: Callable[[QapiError | None], None]) -> None:
        def opened(stream: Stream | None, error: str) -> None:
            if stream is None:
                done(QapiError(error))
            elif self._closed:
                stream.close()
            else:
                self._negotiate(stream, done)

        try:
            self._host.connect(self.target.address, self._guard.bind(opened, done))
        except QapiError as error:
            done(error)

    def connect_now(self) -> None:
        """Connect while everything waits. Raises QapiError."""
        said: list[QapiError | None] = []
        patience = max(PATIENCE, self.target.open_timeout)
        stream = self._host.connect_now(
            self.target.address, PATIENCE, retry_for=float(self.target.open_timeout)
        )
        self._negotiate(stream, said.append)
        if not stream.wait(patience, lambda: bool(said)):
            self._fail(_TOO_SLOW)
        if said[0] is not None:
            raise said[0]

    def _negotiate(self, stream: Stream, done: Callable[[QapiError | None], None]) -> None:
        guarded = GuardedStream(stream, self._guard, lambda error: self._fail(error.desc))

        def negotiated(error: str) -> None:
            if not error:
                self.export = client.export
            else:
                guarded.on_close = None
                guarded.close()
                self._stream = None
            done(QapiError(error, client.hint) if error else None)

        client = Client(
            self.target.export, self.target.context, guarded.write, negotiated, self._lost
        )
        self._stream, self._client = guarded, client
        guarded.on_close = client.hung_up
        guarded.on_data = client.receive

    # -- requests --------------------------------------------------------------------------------

    def ask(self, kind: int, offset: int, count: int, data: bytes, answered: Answered) -> None:
        """Ask the server; `answered` follows, perhaps at once."""
        request = _Asked(kind, offset, count, data, answered)
        if self.connected:
            self._send(request)
        elif self._closed or self._broken:
            answered(LOST)
        else:
            self._hold(request)
            self._reconnect()

    def _send(self, request: _Asked) -> None:
        self._asked.append(request)

        def answered(answer: Answer) -> None:
            self._asked.remove(request)
            request.answered(answer)
            self._settle()

        assert self._client is not None
        self._client.request(request.kind, request.offset, request.count, request.data, answered)

    def wait(self, kind: int, offset: int, count: int, data: bytes) -> Answer:
        """Ask, and let everything wait for the answer, up to `PATIENCE`."""
        found: list[Answer] = []
        if not self.connected and not self._closed and not self._broken:
            try:
                self.connect_now()
            except QapiError:
                return LOST
        self.ask(kind, offset, count, data, found.append)
        stream = self._stream
        if stream is not None:
            # once the connection is lost nothing more comes on this stream
            stream.wait(PATIENCE, lambda: bool(found) or self._stream is not stream)
        if not found:
            self._fail(_TOO_SLOW)
            self._abandon()
        return found[0]

    def send_ahead(self, kind: int, offset: int, count: int, data: bytes) -> None:
        """Ask and go on; a refusal is raised by `when_idle`."""
        self._ahead += 1

        def answered(answer: Answer) -> None:
            self._ahead -= 1
            if answer.error and self._failed is None:
                self._failed = answer

        self.ask(kind, offset, count, data, answered)

    def when_idle(self, call: Callable[[], None]) -> bool:
        """Whether what was sent ahead is still to be answered; `call` follows then."""
        if self._ahead:
            self._waiters.append(call)
        return bool(self._ahead)

    def take_failure(self) -> Answer | None:
        """What was refused of that, once."""
        found, self._failed = self._failed, None
        return found

    def _settle(self) -> None:
        if not self._ahead:
            waiters, self._waiters = self._waiters, []
            for call in waiters:
                call()

    # -- losing it -------------------------------------------------------------------------------

    def _hold(self, request: _Asked) -> None:
        """Keep a request until there is a connection again, or fail it at once."""
        if not self.target.reconnect_delay:
            request.answered(LOST)
            return
        self._held.append(request)
        if self._give_up is None:
            self._give_up = self._process.call_later(
                self.target.reconnect_delay * SECOND, self._abandon
            )

    def _lost(self) -> None:
        """See block/nbd.c: nbd_channel_error(): requests wait, or fail."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.on_close = None
            stream.close()
        asked, self._asked = self._asked, []
        broken = self._broken or self._closed
        for request in asked:
            if broken:
                request.answered(LOST)
            else:
                self._hold(request)
        if self._held:
            self._reconnect()
        self._settle()

    def _abandon(self) -> None:
        """Nothing waits for a connection any more."""
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        held, self._held = self._held, deque()
        for request in held:
            request.answered(LOST)
        self._settle()

    def _reconnect(self, pause: int = _FIRST_PAUSE) -> None:
        if self._connecting or self._closed or self._retry is not None:
            return
        self._connecting = True

        def settled(error: QapiError | None) -> None:
            self._connecting = False
            if self._closed:
                return
            if error is None:
                self._back()
                return
            self._retry = self._process.call_later(pause * SECOND, lambda: again(error))

        def again(_error: QapiError) -> None:
            self._retry = None
            self._reconnect(min(pause * 2, _LONGEST_PAUSE))

        self._connect_once(settled)

    def _back(self) -> None:
        """There is a connection again: make the requests that wait for it."""
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        held, self._held = self._held, deque()
        for request in held:
            self._send(request)

    def _fail(self, text: str) -> None:
        if self._client is not None:
            self._client.fail(text)

    def yank(self) -> None:
        """End the connection, and make no other (see block/nbd.c: nbd_yank())."""
        if self._client is not None:
            self._client.fail("yanked", broken=True)
        self._abandon()

    def close(self) -> None:
        """Say good-bye."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        if self._client is not None and self.connected:
            self._client.say_goodbye()
        if self._stream is not None:
            self._stream.on_close = None
            self._stream.close()
            self._stream = None
        self._abandon()
