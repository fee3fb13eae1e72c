"""What an NBD client asks of the export it has chosen, and the answers.

See nbd/server.c: nbd_co_receive_request() and nbd_handle_request().
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.extents import MustWaitError
from fakeqemu.formats.nbd import wire
from fakeqemu.formats.nbd.handshake import Mode
from fakeqemu.qapi.errors import QapiError
from fakeqemu.traits import Traits

if TYPE_CHECKING:
    from fakeqemu.formats.nbd.server import ExportAccess, ServedExport

#: as many extents as a reply holds
_MOST_EXTENTS = (1 << 20) // 8


@dataclass(slots=True)
class _RequestHeader:
    magic: int
    flags: int
    kind: int
    cookie: int
    offset: int
    length: int


class _InvalidError(Exception):
    """A request is answered by EINVAL, whatever is wrong with it (see nbd_trip())."""


_UNFINISHED = "Disconnect client, due to: Request handling failed in intermediate state"

#: which flags a request may have besides FUA
_FLAGS = {
    wire.CMD_ZEROES: wire.FLAG_NO_HOLE | wire.FLAG_FAST_ZERO,
    wire.CMD_STATUS: wire.FLAG_REQ_ONE,
}
_CHANGES = (wire.CMD_WRITE, wire.CMD_TRIM, wire.CMD_ZEROES)
_HAVE_BUFFER = (wire.CMD_READ, wire.CMD_WRITE, wire.CMD_CACHE)


class Transmission:
    """One client's requests. `ended`: it has to go."""

    def __init__(
        self,
        target: ServedExport,
        mode: Mode,
        contexts: tuple[int, ...],
        send: Callable[[bytes], None],
        traits: Traits,
        *,
        resumed: Callable[[], None] = lambda: None,
    ) -> None:
        self._target, self._mode, self._contexts = target, mode, contexts
        self._send_now = send
        #: what answers the request under way, kept until that is over
        self._out: list[bytes] = []
        #: called when a request that had to wait is over
        self._resumed = resumed
        #: whether a request waits, and those after it
        self.waiting = False
        self._traits = traits
        self._extended = mode >= Mode.EXTENDED
        self._head = wire.EXTENDED_REQUEST if self._extended else wire.REQUEST
        self._magic = wire.EXTENDED_REQUEST_MAGIC if self._extended else wire.REQUEST_MAGIC
        self.ended = False
        #: what is wrong with a client that has to go, as standard error has it
        self.complaint = ""
        self._actions: dict[int, Callable[[_RequestHeader, bytes], None]] = {
            wire.CMD_READ: self._read,
            wire.CMD_WRITE: lambda request, data: target.write(request.offset, data),
            wire.CMD_FLUSH: lambda _request, _data: target.flush(),
            wire.CMD_TRIM: lambda request, _data: target.trim(request.offset, request.length),
            wire.CMD_CACHE: lambda request, _data: target.cache(request.offset, request.length),
            wire.CMD_ZEROES: self._zero,
        }

    def step(self, buffer: bytearray) -> bool:
        """Serve one request from the buffer; False if there is no whole one, or one waits."""
        if self.waiting:
            return False
        if len(buffer) < self._head.size:
            return False
        request = _RequestHeader(*self._head.unpack(bytes(buffer[: self._head.size])))
        if request.magic != self._magic:
            if self._traits.nbd_answers_bad_magic:
                self._fail(request, errno.EINVAL, f"invalid magic (got {request.magic:#x})")
                self._flush()
                self.complaint = _UNFINISHED
            self.ended = True
            return False
        if request.kind == wire.CMD_DISC:
            self.ended = True
            return False
        payload = self._payload(request)
        if payload > wire.LARGEST:
            self._fail(request, errno.EINVAL, self._too_long(request))
            self._flush()
            self.ended, self.complaint = True, _UNFINISHED
            return False
        if len(buffer) < self._head.size + payload:
            return False
        data = bytes(buffer[self._head.size : self._head.size + payload])
        del buffer[: self._head.size + payload]
        self._begin(request, data)
        return True

    # -- waiting -----------------------------------------------------------------------------------

    def _begin(self, request: _RequestHeader, data: bytes) -> None:
        """Serve a request, now or when throttling lets it."""
        access = self._target.access(lambda: self._go_on(access, request, data))
        moves = request.kind in (wire.CMD_READ, wire.CMD_WRITE, wire.CMD_ZEROES)
        self.waiting = moves and self._target.throttled(
            request.length,
            writes=request.kind != wire.CMD_READ,
            then=lambda: self._go_on(access, request, data),
        )
        if not self.waiting:
            self._try(access, request, data)

    def _go_on(self, access: ExportAccess, request: _RequestHeader, data: bytes) -> None:
        """What the request waits for may have come."""
        if self.ended or not self.waiting:
            return
        self._try(access, request, data)
        if not self.waiting:
            self._resumed()

    def _try(self, access: ExportAccess, request: _RequestHeader, data: bytes) -> None:
        """Serve a request, or find that it has to wait: nothing of its answer is sent then."""
        whole = (request.flags, request.length)
        try:
            with access.attempt():
                self._serve(request, data)
        except MustWaitError:
            self.waiting = True
            self._out.clear()
            request.flags, request.length = whole
            return
        self.waiting = False
        access.forget()
        self._flush()

    def abandon(self) -> None:
        """The client has gone."""
        self.ended = True

    def _send(self, data: bytes) -> None:
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        for data in out:
            self._send_now(data)

    def _payload(self, request: _RequestHeader) -> int:
        """How many bytes follow the request."""
        announced = self._extended and request.flags & wire.FLAG_PAYLOAD
        return request.length if request.kind == wire.CMD_WRITE or announced else 0

    def _serve(self, request: _RequestHeader, data: bytes) -> None:
        target = self._target
        contexts = self._contexts
        try:
            if data and request.kind == wire.CMD_STATUS:
                contexts = self._chosen_contexts(request, data)
            elif data and request.kind != wire.CMD_WRITE:
                request.length = 0
            self._check(request)
        except _InvalidError as fault:
            self._fail(request, errno.EINVAL, str(fault))
            return
        if target.inactive() and request.kind != wire.CMD_READ:
            self._fail(request, errno.EPERM, "export is inactive")
            return
        if request.kind == wire.CMD_STATUS:
            self._status(request, contexts)
            return
        act = self._actions.get(request.kind)
        if act is None:
            text = f"invalid request type ({request.kind}) received"
            self._fail(request, errno.EINVAL, text)
            return
        try:
            act(request, data)
            if request.flags & wire.FLAG_FUA and request.kind in _CHANGES:
                target.flush()
        except (OSError, QapiError) as error:
            self._fail(request, wire.wire_error(error), _FAILED.get(request.kind, ""))
            return
        if request.kind != wire.CMD_READ:
            self._done(request)

    def _check(self, request: _RequestHeader) -> None:
        """Raise _InvalidError for what cannot be asked (see nbd_co_receive_request())."""
        target, size = self._target, self._target.size()
        if request.kind in _HAVE_BUFFER and request.length > wire.LARGEST:
            raise _InvalidError(self._too_long(request))
        if request.kind in _CHANGES and not target.writable:
            raise _InvalidError("Export is read-only")
        if request.offset > size or request.length > size - request.offset:
            raise _InvalidError(
                f"operation past EOF; From: {request.offset}, Len: {request.length}, Size: {size}"
            )
        allowed = wire.FLAG_FUA | _FLAGS.get(request.kind, 0)
        if request.kind == wire.CMD_READ and self._mode >= Mode.STRUCTURED:
            allowed |= wire.FLAG_DF
        if request.kind in (wire.CMD_WRITE, wire.CMD_STATUS) and self._extended:
            allowed |= wire.FLAG_PAYLOAD
        if request.flags & ~allowed:
            name = wire.command_name(request.kind)
            raise _InvalidError(f"unsupported flags for command {name} (got {request.flags:#x})")

    def _too_long(self, request: _RequestHeader) -> str:
        return self._traits.nbd_too_long_text.format(length=request.length, most=wire.LARGEST)

    # -- answers -----------------------------------------------------------------------------------

    def _chunk(
        self, request: _RequestHeader, kind: int, data: bytes = b"", *, done: bool = True
    ) -> None:
        flags = wire.CHUNK_DONE if done else 0
        if self._extended:
            head = struct.pack(
                ">IHHQQQ", wire.EXTENDED_MAGIC, flags, kind, request.cookie, request.offset,
                len(data),
            )  # fmt: skip
        else:
            head = struct.pack(
                ">IHHQI", wire.STRUCTURED_MAGIC, flags, kind, request.cookie, len(data)
            )
        self._send(head + data)

    def _simple(self, request: _RequestHeader, error: int = 0, data: bytes = b"") -> None:
        self._send(struct.pack(">IIQ", wire.SIMPLE_MAGIC, error, request.cookie) + data)

    def _done(self, request: _RequestHeader) -> None:
        if self._extended:
            self._chunk(request, wire.CHUNK_NONE)
        else:
            self._simple(request)

    def _fail(self, request: _RequestHeader, error: int, text: str) -> None:
        if self._mode < Mode.STRUCTURED:
            self._simple(request, error)
            return
        words = text.encode(errors="surrogateescape")
        self._chunk(request, wire.CHUNK_ERROR, struct.pack(">IH", error, len(words)) + words)

    # -- requests ----------------------------------------------------------------------------------

    def _zero(self, request: _RequestHeader, _data: bytes) -> None:
        fast = bool(request.flags & wire.FLAG_FAST_ZERO)
        self._target.zero(request.offset, request.length, fast=fast)

    def _read(self, request: _RequestHeader, _data: bytes) -> None:
        offset, count = request.offset, request.length
        if self._mode < Mode.STRUCTURED:
            self._simple(request, 0, self._target.read(offset, count))
        elif not count:
            self._chunk(request, wire.CHUNK_NONE)
        elif request.flags & wire.FLAG_DF:
            data = self._target.read(offset, count)
            self._chunk(request, wire.CHUNK_DATA, struct.pack(">Q", offset) + data)
        else:
            self._sparse_read(request)

    def _sparse_read(self, request: _RequestHeader) -> None:
        """Data and holes in chunks of their own; a read that fails ends the connection.

        See nbd/server.c: nbd_co_send_sparse_read().
        """
        offset, end = request.offset, request.offset + request.length
        for length, flags in self._target.status(0, offset, end):
            done = offset + length == end
            if flags & wire.STATE_ZERO:
                hole = struct.pack(">QI", offset, length)
                self._chunk(request, wire.CHUNK_HOLE, hole, done=done)
            else:
                try:
                    data = self._target.read(offset, length)
                except (OSError, QapiError) as error:
                    text = error.desc if isinstance(error, QapiError) else str(error.strerror)
                    self.complaint = (
                        "Disconnect client, due to: Failed to send reply: reading from file"
                        f" failed: {text}"
                    )
                    self.ended = True
                    return
                head = struct.pack(">Q", offset)
                self._chunk(request, wire.CHUNK_DATA, head + data, done=done)
            offset += length

    # -- block status ------------------------------------------------------------------------------

    def _chosen_contexts(self, request: _RequestHeader, data: bytes) -> tuple[int, ...]:
        """Those that a request names itself; none if it names them badly.

        See nbd/server.c: nbd_co_block_status_payload_read().
        """
        request.length = 0
        if len(data) % 4 or not 8 <= len(data) <= 8 + 4 * len(self._contexts):
            return ()
        length, *found = struct.unpack(f">Q{(len(data) - 8) // 4}I", data)
        if len(set(found)) < len(found) or not set(found) <= set(self._contexts):
            return ()
        request.length = length
        return tuple(sorted(found))

    def _status(self, request: _RequestHeader, contexts: tuple[int, ...]) -> None:
        if not contexts:
            lacking = "payload not valid" if self._contexts else "not negotiated"
            self._fail(request, errno.EINVAL, f"CMD_BLOCK_STATUS {lacking}")
            return
        if not request.length:
            self._fail(request, errno.EINVAL, "need non-zero length")
            return
        for context in contexts:
            try:
                extents = self._extents(request, context)
            except (OSError, QapiError) as error:
                # QEMU goes on with the next context all the same
                self._fail(request, wire.wire_error(error), "can't get block status")
                continue
            last = context == contexts[-1]
            if self._extended:
                out = struct.pack(">II", context, len(extents))
                out += b"".join(struct.pack(">QQ", *each) for each in extents)
                self._chunk(request, wire.CHUNK_STATUS_EXT, out, done=last)
            else:
                out = struct.pack(">I", context)
                out += b"".join(struct.pack(">II", *each) for each in extents)
                self._chunk(request, wire.CHUNK_STATUS, out, done=last)

    def _extents(self, request: _RequestHeader, context: int) -> list[tuple[int, int]]:
        """Neighbours that are alike put together, as many as a reply holds."""
        most = 1 if request.flags & wire.FLAG_REQ_ONE else _MOST_EXTENTS
        end = request.offset + request.length
        found: list[tuple[int, int]] = []
        for length, flags in self._target.status(context, request.offset, end):
            if found and found[-1][1] == flags:
                found[-1] = (found[-1][0] + length, flags)
            elif len(found) == most:
                break
            else:
                found.append((length, flags))
        return found


#: what an answer says of an access that failed
_FAILED = {
    wire.CMD_READ: "reading from file failed",
    wire.CMD_WRITE: "writing to file failed",
    wire.CMD_ZEROES: "writing to file failed",
    wire.CMD_FLUSH: "flush failed",
    wire.CMD_TRIM: "discard failed",
    wire.CMD_CACHE: "caching data failed",
}
