"""Netdev `stream`: frames over one connection, which it waits for or opens. See net/stream.c.

Nothing about the connection fails `netdev_add`: what goes wrong is shown by `info network`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND, Timer
from fakeqemu.model.net.client import NetClient
from fakeqemu.model.net.sockets.framing import FrameReader, OversizedFrameError, pack
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.host import Stream
    from fakeqemu.model.net.client import Wire
    from fakeqemu.model.net.sockets.host_sockets import ClientListener
    from fakeqemu.model.process import Process
    from fakeqemu.traits import Traits

_OVERSIZED = "serious error: oversized packet received,connection terminated."


class StreamConnection(NetClient):
    """Frames over at most one byte stream; the link is down without one."""

    def __init__(self, wire: Wire, process: Process, name: str) -> None:
        super().__init__(wire, name)
        self._process = process
        self.link_down = True
        self._stream: Stream | None = None
        self._frames = FrameReader()

    def receive(self, frame: bytes) -> int:
        """Send the frame to the other side."""
        if self._stream is None:
            return -1
        self._stream.write(pack(frame))
        return len(frame)

    def cleanup(self) -> None:
        """Close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def take(self, stream: Stream) -> None:
        """This is the connection now."""
        self._stream = stream
        self._frames = FrameReader()
        self.link_down = False
        stream.on_close = lambda _error: self._ended()
        stream.on_data = self._input

    def disconnected(self) -> None:
        """The connection has ended; subclasses go on from here."""

    def _input(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                if self.send(frame, self._resume) == 0 and self._stream is not None:
                    self._stream.on_data = None
        except OversizedFrameError:
            self._process.host.say(_OVERSIZED)
            stream = self._stream
            assert stream is not None
            stream.close()
            self._ended()

    def _resume(self, _taken: int) -> None:
        """A frame that waited has been taken or dropped: read on."""
        if self._stream is not None:
            self._stream.on_data = self._input

    def _ended(self) -> None:
        self._stream = None
        self.link_down = True
        self.disconnected()


class StreamClient(StreamConnection):
    """One `-netdev stream`."""

    type = "stream"

    def __init__(self, wire: Wire, process: Process, options: dict[str, Any]) -> None:
        super().__init__(wire, process, options["id"])
        self._address: dict[str, Any] = options["addr"]
        self._listener: ClientListener | None = None
        self._reconnect = options.get("reconnect-ms", options.get("reconnect", 0) * 1000)
        self._timer: Timer | None = None
        self._closed = False
        if options.get("server"):
            self._listen()
        else:
            self._show("connecting")
            self._connect()

    def cleanup(self) -> None:
        """Stop listening, or trying."""
        super().cleanup()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.close()

    def _listen(self) -> None:
        try:
            _check_fd(self._address)
            self._listener = self._process.host.sockets.listen_socket(self._address, self._accepted)
        except QapiError as error:
            self._failed(error.desc)
            return
        self._show("listening")
        self._listener.set_accepting(True)

    def _accepted(self, stream: Stream, peer: dict[str, Any]) -> None:
        assert self._listener is not None
        self._listener.set_accepting(False)
        # a UNIX client has no name: the address listened at stands for the connection
        own = self._listener.address
        self._connected(stream, dict(own) if own["type"] == "unix" else peer)

    def _connect(self) -> None:
        self._timer = None
        try:
            _check_fd(self._address)
        except QapiError as error:
            self._could_not_connect(error.desc)
            return
        self._process.host.sockets.connect_socket(self._address, self._settled)

    def _settled(self, stream: Stream | None, peer: dict[str, Any], error: str) -> None:
        if self._closed:
            if stream is not None:
                stream.close()
        elif stream is None:
            self._could_not_connect(error)
        else:
            self._connected(stream, peer)

    def _could_not_connect(self, error: str) -> None:
        self._failed(error)
        self._try_again()

    def _connected(self, stream: Stream, address: dict[str, Any]) -> None:
        self.info = uri(address)
        self.take(stream)
        shown = event_address(address)
        self._process.events.emit(
            "NETDEV_STREAM_CONNECTED", {"netdev-id": self.name, "addr": shown}
        )

    def disconnected(self) -> None:
        """Announce it, and wait for the next client or try again."""
        if self._listener is not None:
            self._show("listening")
            self._listener.set_accepting(True)
        elif not self._process.profile.traits.netdev_stream_states:
            self.info = ""
        self._process.events.emit("NETDEV_STREAM_DISCONNECTED", {"netdev-id": self.name})
        self._try_again()

    def _try_again(self) -> None:
        if self._reconnect and self._timer is None and self._listener is None:
            self._show("connecting")
            clock = self._process.clock
            self._timer = clock.call_later(self._reconnect * MILLISECOND, self._connect)

    def _show(self, state: str) -> None:
        """Show a state that is no connection; older versions show nothing."""
        self.info = state if self._process.profile.traits.netdev_stream_states else ""

    def _failed(self, error: str) -> None:
        told = self._process.profile.traits.netdev_stream_states
        self.info = f"error: {error}" if told else "connection error"


def check(traits: Traits, options: dict[str, Any]) -> None:
    """Raise QapiError for options of a `stream` that exclude each other."""
    given = [name for name in ("reconnect", "reconnect-ms") if name in options]
    if options.get("server"):
        if given:
            raise QapiError(traits.stream_server_reconnect_text)
    elif len(given) > 1:
        raise QapiError("'reconnect' and 'reconnect-ms' are mutually exclusive")


def uri(address: dict[str, Any]) -> str:
    """An address in one word. See util/qemu-sockets.c: socket_uri()."""
    match address["type"]:
        case "inet":
            return f"tcp:{address['host']}:{address['port']}"
        case "unix":
            return f"unix:{address['path']}"
        case "vsock":
            return f"vsock:{address['cid']}:{address['port']}"
    return f"fd:{address['str']}"


def event_address(address: dict[str, Any]) -> dict[str, Any]:
    """A socket's name as an event shows it: with the family of an inet address."""
    shown = dict(address)
    if shown["type"] == "inet":
        shown["ipv6" if ":" in shown["host"] else "ipv4"] = True
    return shown


def _check_fd(address: dict[str, Any]) -> None:
    """Names of descriptors are unknown where QEMU opens the socket, in a thread of its own."""
    if address["type"] == "fd" and not address["str"].isdecimal():
        raise QapiError(f"Unable to parse FD number {address['str']}")
