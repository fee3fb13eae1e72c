"""How an NBD client and a server agree on an export.

See nbd/client.c: nbd_receive_negotiate().
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.nbd import wire
from fakeqemu.qapi.json.utf8 import c_bytes

#: yields how many bytes it needs, and gets them
Reading = Generator[int, bytes, None]

_OLD_MAGIC = 0x420281861253
_LARGEST_SIZE = (1 << 63) - 1
#: what is padded with zeros unless both sides can do without
_PADDING = 124
#: texts of refusals, the option follows
_REFUSALS = {
    wire.REP_ERR_POLICY: "Denied by server for option",
    wire.REP_ERR_INVALID: "Invalid parameters for option",
    wire.REP_ERR_PLATFORM: "Server lacks support for option",
    wire.REP_ERR_TLS_REQD: "TLS negotiation required before option",
    wire.REP_ERR_SHUTDOWN: "Server shutting down before option",
    wire.REP_ERR_BLOCK_SIZE_REQD: "Server requires INFO_BLOCK_SIZE for option",
}


class ProtocolError(Exception):
    """The server refuses, or says what cannot be; text and hint are QEMU's."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


@dataclass(slots=True)
class ExportInfo:
    """What is wanted of a server, and what it has said."""

    name: str
    #: the metadata context that block status is to come from
    context: str
    size: int = 0
    #: transmission flags
    flags: int = 0
    structured: bool = False
    #: None: the server has no such context
    context_id: int | None = None
    #: block sizes in bytes; 0: not said
    min_block: int = 0
    opt_block: int = 0
    max_block: int = 0
    #: what is being read, as errors name it
    reads: str = "initial magic"


def negotiate(export: ExportInfo, send: Callable[[bytes], None]) -> Reading:
    """Until requests can be made. Raises ProtocolError."""
    magic = yield 8
    if magic != wire.INIT_MAGIC:
        raise ProtocolError(f"Bad initial magic received: {int.from_bytes(magic, 'big'):#x}")
    export.reads = "server magic"
    magic = yield 8
    if int.from_bytes(magic, "big") == _OLD_MAGIC:
        yield from _old_style(export)
        return
    if magic != wire.OPTION_MAGIC:
        raise ProtocolError(f"Bad server magic received: {int.from_bytes(magic, 'big'):#x}")
    export.reads = "server flags"
    flags = int.from_bytes((yield 2), "big")
    send(struct.pack(">I", flags & (wire.FIXED_NEWSTYLE | wire.NO_ZEROES)))
    talk = _Options(export, send)
    if flags & wire.FIXED_NEWSTYLE:
        try:
            yield from talk.agree()
        except ProtocolError:
            talk.ask(wire.OPT_ABORT, b"")
            raise
        if export.flags:
            export.reads = "reply magic"
            return
    talk.ask(wire.OPT_EXPORT_NAME, c_bytes(export.name))
    export.reads = "export length"
    _sized(export, (yield 8))
    export.reads = "export flags"
    export.flags = int.from_bytes((yield 2), "big")
    if not flags & wire.NO_ZEROES:
        export.reads = "reserved block"
        yield _PADDING
    export.reads = "reply magic"


def _old_style(export: ExportInfo) -> Reading:
    if export.name:
        raise ProtocolError("Server does not support non-empty export names")
    export.reads = "export length"
    _sized(export, (yield 8))
    export.reads = "export flags"
    flags = int.from_bytes((yield 4), "big")
    if flags & ~0xFFFF:
        raise ProtocolError(f"Unexpected export flags {flags:#x}")
    export.flags = flags
    export.reads = "reserved block"
    yield _PADDING
    export.reads = "reply magic"


def _sized(export: ExportInfo, data: bytes) -> None:
    export.size = int.from_bytes(data, "big")
    if export.size > _LARGEST_SIZE:
        raise ProtocolError("File too large")


class _Options:
    """Options, and the server's replies to them."""

    def __init__(self, export: ExportInfo, send: Callable[[bytes], None]) -> None:
        self._export, self._send = export, send
        self._kind = self._length = 0

    def ask(self, option: int, data: bytes) -> None:
        """Send an option."""
        self._send(wire.OPTION_MAGIC + struct.pack(">II", option, len(data)) + data)

    def agree(self) -> Reading:
        """Agree on the export; no flags: it has to be asked for in the oldest way."""
        yield from self.structured_replies()
        if self._export.structured:
            yield from self.meta_context()
        yield from self.go()
        if not self._export.flags:
            yield from self.look_for_export()

    def _reply(self, option: int) -> Reading:
        """Read the head of a reply to `option`: its kind and its length."""
        self._export.reads = "option reply"
        magic, about, self._kind, self._length = struct.unpack(">QIII", (yield 20))
        if magic != wire.REPLY_MAGIC:
            raise ProtocolError("Unexpected option reply magic")
        if about != option:
            raise ProtocolError(
                f"Unexpected option type {about} ({wire.option_name(about)}),"
                f" expected {option} ({wire.option_name(option)})"
            )

    def _refusal(self, option: int, *, strict: bool) -> Reading:
        """Read the text of a refusal, and raise unless another way can be tried.

        See nbd/client.c: nbd_handle_reply_err().
        """
        kind = self._kind
        name = wire.reply_name(kind)
        if self._length > wire.LARGEST:
            raise ProtocolError(f"server error {kind} ({name}) message is too long")
        self._export.reads = f"option error {kind} ({name}) message"
        said = b""
        if self._length:
            said = yield self._length
        if kind == wire.REP_ERR_UNSUP or not strict:
            return
        hints = ["Did you forget a valid tls-creds?"] if kind == wire.REP_ERR_TLS_REQD else []
        if said:
            hints.append(f"server reported: {said.decode(errors='surrogateescape')}")
        hint = "\n".join(hints)
        if kind == wire.REP_ERR_UNKNOWN:
            raise ProtocolError("Requested export not available", hint)
        text = _REFUSALS.get(kind, "Unknown error code when asking for option")
        raise ProtocolError(f"{text} {option} ({wire.option_name(option)})", hint)

    @property
    def _refused(self) -> bool:
        return bool(self._kind & 1 << 31)

    def structured_replies(self) -> Reading:
        """See nbd/client.c: nbd_request_simple_option()."""
        option = wire.OPT_STRUCTURED
        self.ask(option, b"")
        yield from self._reply(option)
        if self._refused:
            yield from self._refusal(option, strict=False)
            return
        if self._kind != wire.REP_ACK:
            raise ProtocolError(
                f"Server answered option {option} ({wire.option_name(option)}) with unexpected"
                f" reply {self._kind:x} ({wire.reply_name(self._kind)})"
            )
        if self._length:
            raise ProtocolError(
                f"Option {option} ('{wire.option_name(option)}') response length is"
                f" {self._length} (it should be zero)"
            )
        self._export.structured = True

    def meta_context(self) -> Reading:
        """See nbd/client.c: nbd_negotiate_simple_meta_context()."""
        export, option = self._export, wire.OPT_SET_META
        name, context = c_bytes(export.name), c_bytes(export.context)
        self.ask(
            option,
            struct.pack(">I", len(name)) + name + struct.pack(">II", 1, len(context)) + context,
        )
        while True:
            yield from self._reply(option)
            if self._refused:
                yield from self._refusal(option, strict=False)
                return
            if self._kind == wire.REP_ACK:
                if self._length:
                    raise ProtocolError("Unexpected length to ACK response")
                return
            if self._kind != wire.REP_META:
                self._unexpected("Unexpected", wire.REP_META)
            if not 4 < self._length <= wire.LARGEST:
                raise ProtocolError(
                    "Failed to negotiate meta context, server answered with unexpected length"
                    f" {self._length}"
                )
            export.reads = "context id"
            number = int.from_bytes((yield 4), "big")
            export.reads = "context name"
            found = yield self._length - 4
            if export.context_id is not None:
                raise ProtocolError("Server answered with more than one context")
            if found != context:
                raise ProtocolError(
                    f"Failed to negotiate meta context '{export.context}', server answered with"
                    f" different context '{found.decode(errors='surrogateescape')}'"
                )
            export.context_id = number

    def _unexpected(self, word: str, wanted: int) -> None:
        raise ProtocolError(
            f"{word} reply type {self._kind} ({wire.reply_name(self._kind)}),"
            f" expected {wanted} ({wire.reply_name(wanted)})"
        )

    def go(self) -> Reading:
        """See nbd/client.c: nbd_opt_info_or_go(). No flags: the server does not know the option."""
        export, option = self._export, wire.OPT_GO
        name = c_bytes(export.name)
        self.ask(
            option,
            struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, wire.INFO_BLOCK_SIZE),
        )
        while True:
            yield from self._reply(option)
            if self._refused:
                yield from self._refusal(option, strict=True)
                export.flags = 0
                return
            if self._kind == wire.REP_ACK:
                if self._length:
                    raise ProtocolError("server sent invalid NBD_REP_ACK")
                if not export.flags:
                    raise ProtocolError("broken server omitted NBD_INFO_EXPORT")
                return
            if self._kind != wire.REP_INFO:
                self._unexpected("unexpected", wire.REP_INFO)
            if self._length < 2:
                raise ProtocolError(f"NBD_REP_INFO length {self._length} is too short")
            export.reads = "info type"
            kind = int.from_bytes((yield 2), "big")
            yield from self._info(kind, self._length - 2)

    def _info(self, kind: int, length: int) -> Reading:
        export = self._export
        if kind == wire.INFO_EXPORT:
            self._info_length(length, 10)
            export.reads = "info size"
            _sized(export, (yield 8))
            export.reads = "info flags"
            export.flags = int.from_bytes((yield 2), "big")
            if export.min_block and export.size % export.min_block:
                raise ProtocolError(
                    f"export size {export.size} is not multiple of minimum block size"
                    f" {export.min_block}"
                )
        elif kind == wire.INFO_BLOCK_SIZE:
            self._info_length(length, 12)
            yield from self._block_sizes()
        else:
            # it may be as long as it likes: nothing of it is kept
            export.reads = "info payload"
            while length:
                piece = min(length, 1 << 16)
                yield piece
                length -= piece

    @staticmethod
    def _info_length(length: int, wanted: int) -> None:
        if length != wanted:
            raise ProtocolError(f"remaining export info len {length} is unexpected size")

    def _block_sizes(self) -> Reading:
        export = self._export
        export.reads = "info minimum block size"
        smallest = int.from_bytes((yield 4), "big")
        if smallest & (smallest - 1) or not smallest:
            raise ProtocolError(f"server minimum block size {smallest} is not a power of two")
        export.reads = "info preferred block size"
        preferred = int.from_bytes((yield 4), "big")
        if preferred & (preferred - 1) or preferred < smallest:
            raise ProtocolError(f"server preferred block size {preferred} is not valid")
        export.reads = "info maximum block size"
        largest = int.from_bytes((yield 4), "big")
        if largest < smallest:
            raise ProtocolError(f"server maximum block size {largest} is not valid")
        export.min_block, export.opt_block, export.max_block = smallest, preferred, largest

    def look_for_export(self) -> Reading:
        """See nbd/client.c: nbd_receive_query_exports()."""
        export, option = self._export, wire.OPT_LIST
        self.ask(option, b"")
        wanted, found, listed = c_bytes(export.name), False, False
        while True:
            yield from self._reply(option)
            if self._refused:
                yield from self._refusal(option, strict=True)
            elif self._kind == wire.REP_SERVER:
                listed = True
                if not 4 <= self._length <= wire.LARGEST:
                    raise ProtocolError(f"incorrect option length {self._length}")
                export.reads = "option name length"
                length = int.from_bytes((yield 4), "big")
                if length > min(self._length - 4, wire.LONGEST_NAME):
                    raise ProtocolError("incorrect name length in server's list response")
                export.reads = "export name"
                entry = b""
                if self._length > 4:
                    entry = yield self._length - 4
                found = found or entry[:length] == wanted
                continue
            elif self._kind != wire.REP_ACK:
                self._unexpected("Unexpected", wire.REP_SERVER)
            elif self._length:
                raise ProtocolError("length too long for option end")
            if listed and not found:
                # a server that lists nothing may have it all the same
                raise ProtocolError(f"No export with name '{export.name}' available")
            return
