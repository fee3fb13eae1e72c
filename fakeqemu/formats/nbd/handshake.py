"""How an NBD client and our server agree: options and answers until an export is chosen.

See nbd/server.c: nbd_negotiate_options().
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from fakeqemu.formats.nbd import wire
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.formats.nbd.server import ServedExport

_LONGEST_SHOWN = 80


class Mode(IntEnum):
    """What both sides can do, each including those before."""

    EXPORT_NAME = 0
    SIMPLE = 1
    STRUCTURED = 2
    EXTENDED = 3


class _RefusedError(Exception):
    """An option is answered by an error."""

    def __init__(self, kind: int, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class _Payload:
    """An option's data, read piece by piece. Raises _RefusedError where it is too short."""

    def __init__(self, option: int, data: bytes) -> None:
        self._option, self._data = option, data

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self._data):
            words = f"Inconsistent lengths in option {wire.option_name(self._option)}"
            raise _RefusedError(wire.REP_ERR_INVALID, words)
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def number(self, size: int = 4) -> int:
        """The next number, of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def text(self, count: int) -> bytes:
        """The next text, without NUL."""
        found = self.take(count)
        if 0 in found:
            words = f"Unexpected embedded NUL in option {wire.option_name(self._option)}"
            raise _RefusedError(wire.REP_ERR_INVALID, words)
        return found

    def name(self) -> bytes:
        """The next text with its length before it."""
        length = self.number()
        if length > wire.LONGEST_NAME:
            raise _RefusedError(wire.REP_ERR_INVALID, f"Invalid name length: {length}")
        return self.text(length)

    def end(self) -> None:
        """Nothing may be left."""
        if self._data:
            name = wire.option_name(self._option)
            words = f"option '{name}' has unexpected length"
            raise _RefusedError(wire.REP_ERR_INVALID, words)


class Handshake:
    """One negotiation. `chosen` is the export it led to, `ended` that the client has to go."""

    def __init__(
        self,
        exports: Callable[[], dict[str, ServedExport]],
        send: Callable[[bytes], None],
        *,
        extended: bool,
    ) -> None:
        self._exports, self._send = exports, send
        #: whether this version has extended headers
        self._extended = extended
        self._greeted = False
        self._no_zeroes = False
        self._option = 0
        #: the export that `contexts` belong to
        self._contexts_of: ServedExport | None = None
        self.mode = Mode.EXPORT_NAME
        self.chosen: ServedExport | None = None
        #: numbers of the contexts of block status that the client wants
        self.contexts: tuple[int, ...] = ()
        self.ended = False
        #: what is wrong with a client that has to go, as standard error has it
        self.complaint = ""
        self._actions: dict[int, Callable[[_Payload], None]] = {
            wire.OPT_ABORT: self._abort,
            wire.OPT_LIST: self._list,
            wire.OPT_STARTTLS: self._tls,
            wire.OPT_INFO: self._info,
            wire.OPT_GO: self._info,
            wire.OPT_STRUCTURED: self._structured,
            wire.OPT_LIST_META: self._meta,
            wire.OPT_SET_META: self._meta,
        }
        if extended:
            self._actions[wire.OPT_EXTENDED] = self._headers

    def step(self, buffer: bytearray) -> bool:
        """Take one message from the buffer; False if there is no whole one."""
        if not self._greeted:
            return self._client_flags(buffer)
        if len(buffer) < 16:
            return False
        magic, option, length = struct.unpack(">8sII", bytes(buffer[:16]))
        if magic != wire.OPTION_MAGIC:
            return self._end("Bad magic received")
        if length > wire.LARGEST:
            return self._end(f"len ({length}) is larger than max len ({wire.LARGEST})")
        if len(buffer) < 16 + length:
            return False
        data = bytes(buffer[16 : 16 + length])
        del buffer[: 16 + length]
        self._answer(option, data)
        return True

    def _client_flags(self, buffer: bytearray) -> bool:
        if len(buffer) < 4:
            return False
        flags = int.from_bytes(buffer[:4], "big")
        del buffer[:4]
        unknown = flags & ~(wire.FIXED_NEWSTYLE | wire.NO_ZEROES)
        if unknown:
            return self._end(f"Unknown client flags {unknown:#x} received")
        self._no_zeroes = bool(flags & wire.NO_ZEROES)
        if flags & wire.FIXED_NEWSTYLE:
            self.mode = Mode.SIMPLE
        self._greeted = True
        return True

    def _end(self, complaint: str) -> bool:
        self.ended = True
        self.complaint = f"option negotiation failed: {complaint}"
        return False

    def cut_off(self, buffer: bytearray) -> None:
        """The client has gone before it chose an export."""
        if not self._greeted or self.ended:
            return
        what = "opts magic" if len(buffer) < 8 else "option" if len(buffer) < 12 else ""
        if what or len(buffer) < 16:
            what = what or "option length"
            self._end(f"Failed to read {what}: Unexpected end-of-file before all data were read")

    def _reply(self, kind: int, data: bytes = b"") -> None:
        head = struct.pack(">QIII", wire.REPLY_MAGIC, self._option, kind, len(data))
        self._send(head + data)

    def _answer(self, option: int, data: bytes) -> None:
        self._option = option
        if option == wire.OPT_EXPORT_NAME:
            self._export_name(data)
            return
        name = wire.option_name(option, extended=self._extended)
        unsupported = f"Unsupported option {option} ({name})"
        if self.mode == Mode.EXPORT_NAME:
            self._end(unsupported)
            return
        act = self._actions.get(option)
        try:
            if act is None:
                raise _RefusedError(wire.REP_ERR_UNSUP, unsupported)
            act(_Payload(option, data))
        except _RefusedError as refused:
            self._reply(refused.kind, str(refused).encode(errors="surrogateescape"))

    # -- options without much to them --------------------------------------------------------------

    def _abort(self, _payload: _Payload) -> None:
        self._reply(wire.REP_ACK)
        self.ended = True

    def _list(self, payload: _Payload) -> None:
        payload.end()
        for target in self._exports().values():
            name = c_bytes(target.name)
            text = name + c_bytes(target.description or "")
            self._reply(wire.REP_SERVER, struct.pack(">I", len(name)) + text)
        self._reply(wire.REP_ACK)

    def _tls(self, payload: _Payload) -> None:
        payload.end()
        raise _RefusedError(wire.REP_ERR_POLICY, "TLS not configured")

    def _structured(self, payload: _Payload) -> None:
        payload.end()
        if self.mode == Mode.EXTENDED:
            raise _RefusedError(wire.REP_ERR_EXT_HEADER_REQD, "extended headers already negotiated")
        if self.mode == Mode.STRUCTURED:
            raise _RefusedError(wire.REP_ERR_INVALID, "structured reply already negotiated")
        self.mode = Mode.STRUCTURED
        self._reply(wire.REP_ACK)

    def _headers(self, payload: _Payload) -> None:
        payload.end()
        if self.mode == Mode.EXTENDED:
            raise _RefusedError(wire.REP_ERR_INVALID, "extended headers already negotiated")
        self.mode = Mode.EXTENDED
        self._reply(wire.REP_ACK)

    # -- choosing an export ------------------------------------------------------------------------

    def _look_up(self, name: bytes) -> ServedExport | None:
        return next((t for t in self._exports().values() if c_bytes(t.name) == name), None)

    def _find(self, name: bytes) -> ServedExport:
        target = self._look_up(name)
        if target is None:
            shown = name if len(name) < _LONGEST_SHOWN else name[:_LONGEST_SHOWN] + b"..."
            words = f"export '{shown.decode(errors='surrogateescape')}' not present"
            raise _RefusedError(wire.REP_ERR_UNKNOWN, words)
        return target

    def _choose(self, target: ServedExport) -> None:
        if self._contexts_of is not target:
            self.contexts = ()
        self.chosen = target

    def _flags(self, target: ServedExport) -> int:
        flags = wire.HAS_FLAGS | wire.SEND_FLUSH | wire.SEND_FUA | wire.SEND_CACHE
        if target.multi_conn:
            flags |= wire.MULTI_CONN
        if self.mode >= Mode.STRUCTURED:
            flags |= wire.SEND_DF
        if self.mode >= Mode.EXTENDED and (self.contexts or self._option == wire.OPT_INFO):
            flags |= wire.BLOCK_STAT_PAYLOAD
        if target.writable:
            return flags | wire.SEND_TRIM | wire.SEND_ZEROES | wire.FAST_ZERO
        return flags | wire.READ_ONLY

    def _export_name(self, data: bytes) -> None:
        if self.mode >= Mode.EXTENDED:
            self._end("Extended headers already negotiated")
            return
        if len(data) > wire.LONGEST_NAME:
            self._end("Bad length received")
            return
        target = self._look_up(data)
        if target is None:
            self._end("export not found")
            return
        self._choose(target)
        self._send(struct.pack(">QH", target.size(), self._flags(target)))
        if not self._no_zeroes:
            self._send(bytes(124))

    def _send_info(self, kind: int, data: bytes) -> None:
        self._reply(wire.REP_INFO, struct.pack(">H", kind) + data)

    def _info(self, payload: _Payload) -> None:
        """OPT_INFO and OPT_GO. See nbd/server.c: nbd_negotiate_handle_info()."""
        name = payload.name()
        wanted = {payload.number(2) for _ in range(payload.number(2))}
        payload.end()
        target = self._find(name)
        go = self._option == wire.OPT_GO
        if go and self._contexts_of is not target:
            self.contexts = ()
        if wire.INFO_NAME in wanted:
            self._send_info(wire.INFO_NAME, name)
        if target.description is not None:
            self._send_info(wire.INFO_DESCRIPTION, c_bytes(target.description))
        obeys = wire.INFO_BLOCK_SIZE in wanted
        smallest = target.alignment() if obeys or not go else 1
        sizes = (smallest, max(4096, smallest), min(target.largest(), wire.LARGEST))
        self._send_info(wire.INFO_BLOCK_SIZE, struct.pack(">III", *sizes))
        flags = self._flags(target)
        self._send_info(wire.INFO_EXPORT, struct.pack(">QH", target.size(), flags))
        if not go and not obeys and target.alignment() > 1:
            words = "request NBD_INFO_BLOCK_SIZE to use this export"
            raise _RefusedError(wire.REP_ERR_BLOCK_SIZE_REQD, words)
        self._reply(wire.REP_ACK)
        if go:
            self._choose(target)

    # -- contexts of block status ------------------------------------------------------------------

    def _meta(self, payload: _Payload) -> None:
        """OPT_LIST_META and OPT_SET_META. See nbd/server.c: nbd_negotiate_meta_queries()."""
        lists = self._option == wire.OPT_LIST_META
        if not lists and self.mode < Mode.STRUCTURED:
            raise _RefusedError(
                wire.REP_ERR_INVALID,
                f"request option '{wire.option_name(self._option)}' when structured reply"
                " is not negotiated",
            )
        if not lists:
            self._contexts_of, self.contexts = None, ()
        target = self._find(payload.name())
        count = payload.number()
        wanted: set[int] = set()
        if lists and not count:
            wanted.update(n for n, name in enumerate(target.contexts) if name)
        for _ in range(count):
            length = payload.number()
            if length > wire.LONGEST_NAME:
                payload.take(length)
            else:
                wanted.update(_matching(target.contexts, payload.text(length), lists=lists))
        found = sorted(wanted)
        if not lists:
            self._contexts_of, self.contexts = target, tuple(found)
        for number in found:
            head = struct.pack(">I", 0 if lists else number)
            self._reply(wire.REP_META, head + c_bytes(target.contexts[number]))
        self._reply(wire.REP_ACK)


def _matching(contexts: tuple[str, ...], query: bytes, *, lists: bool) -> set[int]:
    """The contexts that a query asks for; a namespace alone asks for all of it, in a list."""
    names = [c_bytes(name) for name in contexts]
    if lists and query in (b"base:", b"qemu:", b"qemu:dirty-bitmap:"):
        return {n for n, name in enumerate(names) if name.startswith(query)}
    return {names.index(query)} if query and query in names else set()
