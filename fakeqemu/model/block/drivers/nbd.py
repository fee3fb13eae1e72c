"""The NBD protocol's client side: negotiation and writing, by callbacks.

A copy to another machine's export needs no more; reading from a server would have to wait for
an answer where the model cannot wait, and is not modelled.

See block/nbd.c: nbd_process_options() and nbd_co_do_establish_connection(); nbd/client.c:
nbd_receive_negotiate().
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import DATA, Range
from fakeqemu.formats.nbd import wire
from fakeqemu.model.block.drivers.base import Driver, driver
from fakeqemu.model.guarded_stream import GuardedStream
from fakeqemu.model.host import Stream
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Node

_PIECE = 1 << 20
_LARGEST_SIZE = (1 << 63) - 1
#: zeros that are sent one by one to a server that cannot write them by itself
_MOST_ZEROS = 1 << 30
#: texts of refusals, the option follows
_REFUSALS = {
    wire.REP_ERR_POLICY: "Denied by server for option",
    wire.REP_ERR_INVALID: "Invalid parameters for option",
    wire.REP_ERR_PLATFORM: "Server lacks support for option",
    wire.REP_ERR_TLS_REQD: "TLS negotiation required before option",
    wire.REP_ERR_SHUTDOWN: "Server shutting down before option",
    wire.REP_ERR_BLOCK_SIZE_REQD: "Server requires INFO_BLOCK_SIZE for option",
}


class NbdClient:
    """One connection to a server's export. `done(error)` is called once: "" when it is usable."""

    def __init__(self, stream: Stream, export: str, done: Callable[[str], None]) -> None:
        self._stream = stream
        self._export = export
        self._done: Callable[[str], None] | None = done
        self._buffer = bytearray()
        self._state: Callable[[], bool] = self._greeting
        #: what is being read, as errors name it
        self._reads = "initial magic"
        #: bytes of a message that are of no use, still to come
        self._dropped = 0
        self.size = 0
        self.flags = 0
        self._cookie = 0
        self._pending: set[int] = set()
        self._waiters: list[Callable[[], None]] = []
        #: why the connection is of no use any more
        self.error = ""
        stream.on_data = self._received
        stream.on_close = self._closed

    # -- what a node does ------------------------------------------------------------------------

    def write(self, offset: int, data: bytes) -> None:
        """Send data. Raises QapiError if the connection is gone."""
        for at in range(0, len(data), _PIECE):
            piece = data[at : at + _PIECE]
            self._request(wire.CMD_WRITE, offset + at, len(piece), piece)

    def zero(self, offset: int, count: int) -> None:
        """Let the server write zeros."""
        if not self.flags & wire.SEND_ZEROES:
            if count > _MOST_ZEROS:
                raise NotModelledError("many zeros for an NBD server that cannot write them")
            for at in range(offset, offset + count, _PIECE):
                self.write(at, bytes(min(_PIECE, offset + count - at)))
            return
        while count:
            step = min(count, 1 << 30)
            self._request(wire.CMD_ZEROES, offset, step)
            offset, count = offset + step, count - step

    def when_idle(self, call: Callable[[], None]) -> bool:
        """Whether answers are still to come; `call` is called when they are here."""
        if self.error:
            raise QapiError(self.error)
        if self._pending:
            self._waiters.append(call)
        return bool(self._pending)

    def close(self) -> None:
        """Say good-bye."""
        if not self.error:
            self._stream.write(wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_DISC, 0, 0, 0))
            self._stream.on_close = None
            self._stream.close()

    def _request(self, kind: int, offset: int, count: int, data: bytes = b"") -> None:
        if self.error:
            raise QapiError(self.error)
        self._cookie += 1
        self._pending.add(self._cookie)
        head = wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, kind, self._cookie, offset, count)
        self._stream.write(head + data)

    # -- what the server sends -------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        self._buffer += data
        while self._state():
            pass

    def _take(self, count: int) -> bytes | None:
        if len(self._buffer) < count:
            return None
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _greeting(self) -> bool:
        """See nbd/client.c: nbd_start_negotiate()."""
        for at, magic, what in ((0, wire.INIT_MAGIC, "initial"), (8, wire.OPTION_MAGIC, "server")):
            found = bytes(self._buffer[at : at + 8])
            if len(found) < 8:
                self._reads = f"{what} magic"
                return False
            if found != magic:
                number = int.from_bytes(found, "big")
                return self._fail(f"Bad {what} magic received: {number:#x}")
        self._reads = "server flags"
        head = self._take(18)
        if head is None:
            return False
        flags = struct.unpack(">H", head[16:])[0]
        if not flags & wire.FIXED_NEWSTYLE:
            return self._fail(NotModelledError("NBD servers without options").desc)
        answer = flags & (wire.FIXED_NEWSTYLE | wire.NO_ZEROES)
        name = c_bytes(self._export)
        data = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        self._state = self._option_reply
        self._stream.write(
            struct.pack(">I", answer)
            + wire.OPTION_MAGIC
            + struct.pack(">II", wire.OPT_GO, len(data))
            + data
        )
        return True

    def _option_reply(self) -> bool:
        """See nbd/client.c: nbd_opt_info_or_go()."""
        self._reads = "option reply"
        if len(self._buffer) < 20:
            return False
        magic, option, kind, length = struct.unpack_from(">QIII", self._buffer)
        if magic != wire.REPLY_MAGIC:
            return self._fail("Unexpected option reply magic")
        if option != wire.OPT_GO:
            name, wanted = wire.option_name(option), wire.option_name(wire.OPT_GO)
            return self._fail(
                f"Unexpected option type {option} ({name}), expected {wire.OPT_GO} ({wanted})"
            )
        if kind & 1 << 31:
            return self._refused(kind, length)
        if kind == wire.REP_ACK:
            if length:
                return self._fail("server sent invalid NBD_REP_ACK")
            if not self.flags:
                return self._fail("broken server omitted NBD_INFO_EXPORT")
            self._take(20)
            self._state = self._reply
            self._finished("")
            return True
        if kind != wire.REP_INFO:
            found, wanted = wire.reply_name(kind), wire.reply_name(wire.REP_INFO)
            return self._fail(
                f"unexpected reply type {kind} ({found}), expected {wire.REP_INFO} ({wanted})"
            )
        if length < 2:
            return self._fail(f"NBD_REP_INFO length {length} is too short")
        return self._info(length - 2)

    def _info(self, length: int) -> bool:
        """The rest of one NBD_REP_INFO, `length` bytes behind its type."""
        self._reads = "info type"
        if len(self._buffer) < 22:
            return False
        if struct.unpack_from(">H", self._buffer, 20)[0] != wire.INFO_EXPORT:
            # it may be as long as it likes: nothing of it is kept
            self._take(22)
            self._dropped, self._state = length, self._drop
            return True
        if length != 10:
            return self._fail(f"remaining export info len {length} is unexpected size")
        self._reads = "info size" if len(self._buffer) < 30 else "info flags"
        data = self._take(32)
        if data is None:
            return False
        self.size, self.flags = struct.unpack_from(">QH", data, 22)
        if self.size > _LARGEST_SIZE:
            return self._fail(NotModelledError("NBD exports of 8 EiB and more").desc)
        return True

    def _drop(self) -> bool:
        self._reads = "info payload"
        count = min(self._dropped, len(self._buffer))
        self._take(count)
        self._dropped -= count
        if self._dropped:
            return False
        self._state = self._option_reply
        return True

    def _refused(self, kind: int, length: int) -> bool:
        """See nbd/client.c: nbd_handle_reply_err()."""
        if length > wire.LARGEST:
            name = wire.reply_name(kind)
            return self._fail(f"server error {kind} ({name}) message is too long")
        if len(self._buffer) < 20 + length:
            self._reads = f"option error {kind} ({wire.reply_name(kind)}) message"
            return False
        if kind == wire.REP_ERR_UNSUP:
            return self._fail(NotModelledError("NBD servers without option go").desc)
        if kind == wire.REP_ERR_UNKNOWN:
            return self._fail("Requested export not available")
        text = _REFUSALS.get(kind, "Unknown error code when asking for option")
        return self._fail(f"{text} {wire.OPT_GO} ({wire.option_name(wire.OPT_GO)})")

    def _reply(self) -> bool:
        """See nbd/client.c: nbd_receive_reply()."""
        head = self._take(16)
        if head is None:
            return False
        magic, error, cookie = struct.unpack(">IIQ", head)
        if magic != wire.SIMPLE_MAGIC:
            return self._fail(f"invalid magic (got {magic:#x})")
        if cookie not in self._pending:
            return self._fail(os.strerror(errno.EINVAL))
        if error:
            return self._fail(os.strerror(wire.system_error(error)))
        self._pending.discard(cookie)
        if not self._pending:
            self._wake()
        return True

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for call in waiters:
            call()

    def _finished(self, error: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(error)

    def fail_by_bug(self, error: QapiError) -> None:
        """Something of ours went wrong with what the server sent."""
        self._fail(error.desc)

    def _fail(self, text: str) -> bool:
        self.error = text
        self._stream.on_close = None
        self._stream.close()
        self._finished(text)
        self._wake()
        return False

    def _closed(self, error: str | None) -> None:
        self.error = self.error or error or "Input/output error"
        self._finished(
            error
            or f"Failed to read {self._reads}: Unexpected end-of-file before all bytes were read"
        )
        self._wake()


@driver
class NbdDriver(Driver):
    """An export of another machine, connected beforehand by `connect_all`."""

    name = "nbd"
    is_protocol = True
    first_child = None
    strong = ("path", "host", "port", "export", "tls-creds", "tls-hostname")

    client: NbdClient

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Take the connection that was made for these options."""
        server = options.pop("server", None) or _legacy_server(options)
        for name in ("path", "host", "port"):
            options.pop(name, None)
        self.export = options.pop("export", "")
        self.server: dict[str, Any] = server
        options.pop("tls-hostname", None)
        for name in ("reconnect-delay", "open-timeout", "x-dirty-bitmap"):
            if options.pop(name, None):
                raise NotModelledError(f"{name} of block driver nbd")
        if options.pop("tls-creds", None) is not None:
            raise NotModelledError("NBD over TLS")
        client = self.graph.connections.pop(_key(server, self.export), None)
        if client is None:
            raise NotModelledError("block driver nbd before the machine runs")
        self.client = client
        if client.flags & wire.READ_ONLY and not node.read_only:
            client.close()
            raise QapiError("request on write denied without write permission")

    def parse_filename(self, filename: str) -> dict[str, Any]:  # noqa: ARG002
        """Not modelled: a file name is opened at once, and nothing can wait for a server."""
        raise NotModelledError("block driver nbd by file name")

    def close(self, node: Node) -> None:  # noqa: ARG002
        """Hang up."""
        self.client.close()

    def length(self, node: Node) -> int:  # noqa: ARG002
        """What the server said."""
        return self.client.size

    def read(self, node: Node, offset: int, count: int) -> bytes:  # noqa: ARG002
        """Not modelled."""
        raise NotModelledError("reading from an NBD server")

    def write(self, node: Node, offset: int, data: bytes) -> None:  # noqa: ARG002
        """Send it."""
        self.client.write(offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:  # noqa: ARG002
        """Let the server do it."""
        self.client.zero(offset, count)

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:  # noqa: ARG002
        """Unknown, hence data."""
        yield Range(start, end - start, DATA)

    def when_idle(self, node: Node, call: Callable[[], None]) -> bool:  # noqa: ARG002
        """While answers are to come."""
        return self.client.when_idle(call)

    def allocated(self, node: Node) -> int | None:  # noqa: ARG002
        """The server does not say."""
        return None

    def significant_options(self, node: Node) -> dict[str, Any]:
        """Server and export."""
        found: dict[str, Any] = {"server": self.server}
        if "export" in node.options:
            found["export"] = self.export
        return found

    def exact_filename(self, node: Node) -> str | None:  # noqa: ARG002
        """A URL."""
        if self.server["type"] == "unix":
            return f"nbd+unix:///{self.export}?socket={self.server['path']}"
        if self.server["type"] != "inet":
            return ""
        place = f"nbd://{self.server['host']}:{self.server['port']}"
        return f"{place}/{self.export}" if self.export else place


def _legacy_server(options: dict[str, Any]) -> dict[str, Any]:
    if "path" in options:
        return {"type": "unix", "path": options["path"]}
    if "host" in options:
        return {"type": "inet", "host": options["host"], "port": options.get("port", "10809")}
    raise QapiError("NBD server address missing")


def _key(server: dict[str, Any], export: str) -> tuple[str, str]:
    return repr(sorted(server.items())), export


def _wanted(options: Any) -> Iterator[dict[str, Any]]:
    if isinstance(options, dict):
        if options.get("driver") == "nbd":
            yield options
        for value in options.values():
            yield from _wanted(value)


def connect_all(
    graph: Graph, options: dict[str, Any], done: Callable[[QapiError | None], None]
) -> bool:
    """Connect to every server that `options` name; False if they name none.

    `done(None)` or `done(error)` follows. Raises QapiError for a server that is not named.
    """
    wanted = list(_wanted(options))
    if not wanted:
        return False
    _connect(graph, wanted, done)
    return True


def _connect(
    graph: Graph, wanted: list[dict[str, Any]], done: Callable[[QapiError | None], None]
) -> None:
    if not wanted:
        done(None)
        return
    first, *rest = wanted
    server = first.get("server") or _legacy_server(first)
    export = first.get("export", "")
    clients: list[NbdClient] = []

    def negotiated(error: str) -> None:
        if error:
            done(QapiError(error))
            return
        graph.connections[_key(server, export)] = clients[0]
        _connect(graph, rest, done)

    def connected(stream: Stream | None, error: str) -> None:
        if stream is None:
            done(QapiError(error))
            return
        guarded = GuardedStream(stream, guard, failed)
        clients.append(NbdClient(guarded, export, negotiated))

    def failed(error: QapiError) -> None:
        clients[0].fail_by_bug(error)

    guard = graph.vm.guard
    graph.vm.host.connect({"transport": "socket", **server}, guard.bind(connected, done))
