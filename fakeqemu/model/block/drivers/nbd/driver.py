"""Nodes on the exports of other machines.

See block/nbd.c: nbd_open(), nbd_parse_filename() and nbd_refresh_limits().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import DATA, HOLE, ZERO, BlockIoError, Range
from fakeqemu.formats.nbd import wire
from fakeqemu.formats.nbd.client import Answer, text_of
from fakeqemu.model.block.drivers.driver import Driver, Reopening, driver
from fakeqemu.model.block.drivers.nbd.options import (
    parse_filename,
    refuse_beside_filename,
    take_connection,
    target_of,
)
from fakeqemu.model.block.nbd_connection import NbdClientConnection
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node

_SECTOR = 512
_REFUSED = "Could not open image"
_INT_MAX = (1 << 31) - 1
#: what changes the export; may be sent without waiting for the answer
_CHANGES = (wire.CMD_WRITE, wire.CMD_ZEROES, wire.CMD_TRIM)


@driver
class NbdDriver(Driver):
    """An export of another machine."""

    name = "nbd"
    is_protocol = True
    in_file_names = True
    parses_filename = True
    first_child = None
    reopens = True
    strong = ("path", "host", "port", "export", "tls-creds", "tls-hostname")

    connection: NbdClientConnection

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Take the connection that was made for these options, or make one now."""
        target = target_of(options)
        for name in ("server", "path", "host", "port", "export", "tls-hostname", "x-dirty-bitmap",
                     "reconnect-delay", "open-timeout"):  # fmt: skip
            options.pop(name, None)
        if (credentials := options.pop("tls-creds", None)) is not None:
            self._check_tls(credentials)
        self.connection = made = take_connection(self.graph, target)
        self._target = target
        try:
            self._check_export(node)
        except QapiError:
            made.close()
            raise
        self.graph.yank.register(self._instance(node), made.yank)

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Reopening:  # noqa: ARG002
        """Writable only if the server lets clients write. Raises QapiError."""
        if not node.read_only and self.connection.export.flags & wire.READ_ONLY:
            raise QapiError("Can't reopen read-only NBD mount as read/write")
        return Reopening()

    def _check_tls(self, credentials: str) -> None:
        """See block/nbd.c: nbd_get_tls_creds()."""
        self.graph.objects.check_tls_credentials(credentials, "client")
        raise NotModelledError("NBD over TLS")

    def _check_export(self, node: Node) -> None:
        """See block/nbd.c: nbd_handle_updated_info(), whose texts get lost."""
        export, context = self.connection.export, self._target.context
        if context != "base:allocation" and export.context_id is None:
            raise QapiError(f"{_REFUSED}: {os.strerror(errno.EINVAL)}")
        if export.flags & wire.READ_ONLY and not node.read_only:
            if not node.auto_read_only:
                raise QapiError(f"{_REFUSED}: {os.strerror(errno.EACCES)}")
            node.read_only = True

    @staticmethod
    def _instance(node: Node) -> dict[str, Any]:
        return {"type": "block-node", "node-name": node.name}

    def parse_filename(self, filename: str, others: dict[str, Any]) -> dict[str, Any]:
        """See block/nbd.c: nbd_parse_filename()."""
        refuse_beside_filename(others)
        return parse_filename(filename, self.graph.process.profile.traits)

    def close(self, node: Node) -> None:
        """Hang up."""
        self.graph.yank.unregister(self._instance(node))
        self.connection.close()

    # -- data ------------------------------------------------------------------------------------

    def length(self, node: Node) -> int:  # noqa: ARG002
        """What the server said."""
        return self.connection.export.size

    def _ask(self, kind: int, offset: int, count: int, data: bytes = b"") -> Answer:
        """Ask the server. Raises BlockIoError, or MustWaitError while the answer is to come."""
        made, waiting = self.connection, self.graph.waiting
        if waiting.access is not None:
            key = (id(made), kind, offset, count, data)
            answer: Answer = waiting.access.answer(
                key, lambda answered: made.ask(kind, offset, count, data, answered)
            )
        elif waiting.sends_ahead and kind in _CHANGES:
            made.send_ahead(kind, offset, count, data)
            return Answer()
        else:
            answer = made.wait(kind, offset, count, data)
        if answer.error:
            raise BlockIoError(text_of(answer))
        return answer

    @property
    def _alignment(self) -> int:
        """See block/nbd.c: nbd_refresh_limits()."""
        export = self.connection.export
        unaligned = export.size % _SECTOR or export.context_id is not None
        return export.min_block or (1 if unaligned else _SECTOR)

    @property
    def _largest(self) -> int:
        most = min(wire.LARGEST, self.connection.export.max_block or wire.LARGEST)
        return most - most % self._alignment

    def _pieces(self, offset: int, count: int, most: int) -> Iterator[tuple[int, int]]:
        """A range made of whole blocks, cut to what one request can have."""
        unit = self._alignment
        end = min(-(-(offset + count) // unit) * unit, self.connection.export.size)
        at = offset // unit * unit
        while at < end:
            step = min(end - at, most)
            yield at, step
            at += step

    def read(self, node: Node, offset: int, count: int) -> bytes:  # noqa: ARG002
        """Ask for it."""
        out = bytearray()
        for at, step in self._pieces(offset, count, self._largest):
            out += self._ask(wire.CMD_READ, at, step).data
        skipped = offset % self._alignment
        found = bytes(out[skipped : skipped + count])
        return found + bytes(count - len(found))

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Send it."""
        self._check_writable(offset, len(data))
        unit = self._alignment
        before = offset % unit
        after = -(offset + len(data)) % unit
        if before:
            data = self.read(node, offset - before, before) + data
        if after:
            data += self.read(node, offset - before + len(data), after)
        at = offset - before
        for first, step in self._pieces(at, len(data), self._largest):
            self._ask(wire.CMD_WRITE, first, step, data[first - at : first - at + step])

    def _check_writable(self, offset: int, count: int) -> None:
        export = self.connection.export
        if export.flags & wire.READ_ONLY:
            raise BlockIoError(os.strerror(errno.EPERM))
        if offset + count > export.size:
            raise BlockIoError(os.strerror(errno.EIO))

    def _whole(self, offset: int, count: int) -> tuple[int, int]:
        """The whole blocks inside a range."""
        unit = self._alignment
        first = -(-offset // unit) * unit
        return first, max((offset + count) // unit * unit, first)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Let the server do it, or send zeros."""
        self._check_writable(offset, count)
        first, end = self._whole(offset, count)
        if not self.connection.export.flags & wire.SEND_ZEROES or first >= end:
            for at in range(offset, offset + count, wire.LARGEST):
                self.write(node, at, bytes(min(wire.LARGEST, offset + count - at)))
            return
        if offset < first:
            self.write(node, offset, bytes(first - offset))
        for at, step in self._pieces(first, end - first, self._largest):
            self._ask(wire.CMD_ZEROES, at, step)
        if end < offset + count:
            self.write(node, end, bytes(offset + count - end))

    def discard(self, node: Node, offset: int, count: int) -> None:  # noqa: ARG002
        """Let the server know, if it wants to."""
        first, end = self._whole(offset, count)
        if self.connection.export.flags & wire.SEND_TRIM:
            most = _INT_MAX - _INT_MAX % self._alignment
            for at, step in self._pieces(first, end - first, most):
                self._ask(wire.CMD_TRIM, at, step)

    def flush_to_os(self, node: Node) -> None:  # noqa: ARG002
        """What was written is to be on disk there."""
        if self.connection.export.flags & wire.SEND_FLUSH:
            self._ask(wire.CMD_FLUSH, 0, 0)

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:  # noqa: ARG002
        """As the server has it; data, if it does not say.

        See block/nbd.c: nbd_client_co_block_status().
        """
        if self.connection.export.context_id is None:
            yield Range(start, end - start, DATA)
            return
        unit = self._alignment
        while start < end:
            first = start // unit * unit
            count = min(-(-end // unit) * unit - first, _INT_MAX - _INT_MAX % unit)
            for length, flags in self._ask(wire.CMD_STATUS, first, count).extents:
                stop = min(first + length, end)
                if start < stop:
                    yield Range(start, stop - start, self._kind(flags))
                    start = stop
                first += length

    def _kind(self, flags: int) -> str:
        if self._target.context == "qemu:allocation-depth" and flags > wire.STATE_ZERO:
            flags = wire.STATE_ZERO
        if flags & wire.STATE_ZERO:
            return ZERO
        # a hole that is not zeros has to be read; other contexts only show where it is
        bare = flags & wire.STATE_HOLE and self._target.context != "base:allocation"
        return HOLE if bare else DATA

    def truncate(self, node: Node, size: int, prealloc: str = "off") -> None:  # noqa: ARG002
        """See block/nbd.c: nbd_co_truncate()."""
        if size != self.connection.export.size:
            raise QapiError("Cannot resize NBD nodes")

    def when_idle(self, node: Node, call: Callable[[], None]) -> bool:  # noqa: ARG002
        """While answers are to come. Raises BlockIoError for a write that was refused."""
        if self.connection.when_idle(call):
            return True
        failed = self.connection.take_failure()
        if failed is not None:
            raise BlockIoError(text_of(failed))
        return False

    # -- what it shows ---------------------------------------------------------------------------

    def allocated(self, node: Node) -> int | None:  # noqa: ARG002
        """The server does not say."""
        return None

    def limits(self, node: Node) -> dict[str, Any]:  # noqa: ARG002
        """See block/nbd.c: nbd_refresh_limits()."""
        unit = self._alignment
        largest = min(wire.LARGEST, self.connection.export.max_block or wire.LARGEST)
        found = {
            "request-alignment": unit,
            "max-discard": _INT_MAX - _INT_MAX % unit,
            "max-write-zeroes": largest,
            "max-transfer": largest,
            "min-mem-alignment": _SECTOR,
            "opt-mem-alignment": 4096,
            "max-iov": 1024,
        }
        if self.connection.export.opt_block:
            found["opt-transfer"] = self.connection.export.opt_block
        return found

    def significant_options(self, node: Node) -> dict[str, Any]:
        """Server and export."""
        found: dict[str, Any] = {"server": self._target.server}
        if "export" in node.options:
            found["export"] = self._target.export
        return found

    def exact_filename(self, node: Node) -> str | None:
        """A URL; see block/nbd.c: nbd_refresh_filename()."""
        server, named = self._target.server, "export" in node.options
        if server["type"] == "unix":
            place = f"/{self._target.export}" if named else ""
            return f"nbd+unix://{place}?socket={server['path']}"
        if server["type"] != "inet" or {"ipv4", "ipv6", "to"} & set(server):
            return ""
        place = f"nbd://{server['host']}:{server['port']}"
        return f"{place}/{self._target.export}" if named else place
