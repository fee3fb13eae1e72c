"""Block exports and the NBD server that most of them are for.

See block/export/export.c: qmp_block_export_add() and qmp_block_export_del(); blockdev-nbd.c:
nbd_server_start().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND, Timer
from fakeqemu.formats.nbd import server as nbd, wire as nbdwire
from fakeqemu.model.block.backends.backend import Backend
from fakeqemu.model.block.backends.nbd_export import NbdExport
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps, permissions as perms
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.guarded_stream import GuardedStream
from fakeqemu.model.host import NetListener, Stream
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer

Json = dict[str, Any]
#: as many clients at a time, and seconds for a handshake, where nbd-server-start says nothing
#: (see QEMU's include/block/nbd.h, and its stable branches since CVE-2024-7409)
_MOST_CLIENTS, _HANDSHAKE_SECONDS = 100, 10
#: bytes of answers that may wait for a client before its further requests do
_MOST_QUEUED = nbdwire.LARGEST


class Exports:
    """All exports of one machine, newest first, and its NBD server."""

    def __init__(self, block: BlockLayer) -> None:
        self.block = block
        self.all: list[NbdExport] = []
        self._listener: NetListener | None = None
        self._streams: dict[nbd.NbdServerClient, GuardedStream] = {}
        #: clients that have connected while there were as many as there may be, oldest first
        self._waiting: list[Stream] = []
        #: ends of the time for a handshake
        self._handshakes: dict[nbd.NbdServerClient, Timer] = {}
        self._most_clients, self._handshake_seconds = _MOST_CLIENTS, _HANDSHAKE_SECONDS

    # -- the server --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the NBD server listens."""
        return self._listener is not None

    def start(
        self,
        address: Json,
        tls_creds: str | None = None,
        *,
        most_clients: int | None = None,
        handshake_seconds: int | None = None,
    ) -> None:
        """nbd-server-start at a flat SocketAddress. Raises QapiError.

        `most_clients` at a time, 0: any number; a client that has not chosen an export after
        `handshake_seconds` has to go, 0: it may take its time.
        """
        if self.running:
            raise QapiError("NBD server already running")
        where = {"transport": "socket", **address}
        listener = self.block.process.host.listen(where, self._accept)
        try:
            self._check_tls(tls_creds)
        except QapiError:
            listener.close()
            raise
        self._listener = listener
        self._most_clients = _MOST_CLIENTS if most_clients is None else most_clients
        self._handshake_seconds = (
            _HANDSHAKE_SECONDS if handshake_seconds is None else handshake_seconds
        )
        self.block.process.journal.note("nbd", "start", address=address)

    def _check_tls(self, tls_creds: str | None) -> None:
        if tls_creds is None:
            return
        self.block.objects.check_tls_credentials(tls_creds, "server")
        raise NotModelledError("NBD over TLS")

    def stop(self) -> None:
        """nbd-server-stop. Raises QapiError."""
        if self._listener is None:
            raise QapiError("NBD server not running")
        self._shut_down(*self.all)
        self._listener.close()
        self._listener = None
        for stream in self._waiting:
            stream.close()
        self._waiting.clear()
        for connection in list(self._streams):
            self._hang_up(connection)
        self.block.process.journal.note("nbd", "stop")

    def _accept(self, stream: Stream) -> None:
        """A client has connected: greet it, or let it wait until another has gone."""
        if self._most_clients and len(self._streams) >= self._most_clients:
            self._waiting.append(stream)
            stream.on_close = lambda _error: self._waiting.remove(stream)
            return
        connection = nbd.NbdServerClient(
            lambda: {e.name: e for e in reversed(self.all) if not e.shutting_down},
            stream.write,
            lambda: self._end(connection),
            self.block.process.profile.traits,
            lambda: guarded.queued > _MOST_QUEUED,
        )
        guard = self.block.process.guard
        guarded = GuardedStream(stream, guard, lambda _: self._hang_up(connection))
        self._streams[connection] = guarded
        guarded.on_data = lambda data: self._received(connection, data)
        guarded.limit_queue(_MOST_QUEUED, lambda: self._received(connection, b""))
        guarded.on_close = lambda _error: self._cut_off(connection)
        if self._handshake_seconds:
            self._handshakes[connection] = self.block.process.clock.call_later(
                self._handshake_seconds * SECOND, lambda: self._cut_off(connection)
            )
        connection.start()

    def _received(self, connection: nbd.NbdServerClient, data: bytes) -> None:
        connection.receive(data)
        target = connection.target
        if not isinstance(target, NbdExport) or connection in target.clients:
            return
        if connection in self._streams:
            self._handshakes.pop(connection, _NO_TIMER).cancel()
            target.clients.append(connection)

    def _closed(self, connection: nbd.NbdServerClient) -> None:
        self._handshakes.pop(connection, _NO_TIMER).cancel()
        was_there = self._streams.pop(connection, None) is not None
        if isinstance(connection.target, NbdExport) and connection in connection.target.clients:
            connection.target.clients.remove(connection)
        if was_there and self._waiting and self._listener is not None:
            self._accept(self._waiting.pop(0))

    def _cut_off(self, connection: nbd.NbdServerClient) -> None:
        """The client has gone, or takes too long."""
        connection.hung_up()
        self._end(connection)

    def _end(self, connection: nbd.NbdServerClient) -> None:
        """The connection is over, if by a fault of the client's, then standard error has it."""
        if connection.complaint:
            self.block.process.host.warn(connection.complaint)
        self._hang_up(connection)

    def _hang_up(self, connection: nbd.NbdServerClient) -> None:
        stream = self._streams.get(connection)
        self._closed(connection)
        if stream is not None:
            stream.close()

    # -- exports -----------------------------------------------------------------------------------

    def find(self, id: str) -> NbdExport | None:
        """The export called `id`."""
        return next((e for e in self.all if e.id == id), None)

    def get(self, id: str) -> NbdExport:
        """The same. Raises QapiError."""
        found = self.find(id)
        if found is None:
            raise QapiError(f"Export '{id}' is not found")
        return found

    def add(self, arguments: Json) -> NbdExport:
        """block-export-add. Raises QapiError.

        See block/export/export.c: blk_exp_add() and nbd/server.c: nbd_export_create().
        """
        from fakeqemu.qapi.readers.scalars import is_identifier

        id = arguments["id"]
        if isinstance(arguments.get("iothread"), list) and arguments.get("fixed-iothread"):
            raise QapiError("Cannot use fixed-iothread for a multi-threaded export")
        if not is_identifier(id):
            raise QapiError("Invalid block export id")
        if self.find(id) is not None:
            raise QapiError(f"Block export id '{id}' is already in use")
        node = self.block.graph.lookup(None, arguments["node-name"])
        if arguments.get("writable") and node.read_only:
            raise QapiError("Cannot export read-only node as writable")
        moves = self._check_iothread(arguments)
        if node.inactive and not arguments.get("allow-inactive"):
            self.block.activate_node(node)
        fixed = arguments.get("fixed-iothread", False)
        if moves:
            try:
                node.move_to(arguments["iothread"])
            except QapiError:
                if fixed:
                    raise
        backend = self.block.backends.create()
        backend.follows_iothread = not fixed
        backend.force_allow_inactivate = arguments.get("allow-inactive", False)
        backend.inactive = node.inactive
        perm = perms.CONSISTENT_READ | (perms.WRITE if arguments.get("writable") else 0)
        backend.set_permissions(perm, perms.ALL)
        try:
            backend.insert(node)
            self.block.jobs.graph_changed()
            if arguments["type"] != "nbd":
                # few ask for one
                from fakeqemu.model.block.backends import other_exports

                other_exports.refuse(self.block.process, backend, perm, arguments)
            self._check_names(arguments)
            backend.set_permissions(perm, perms.ALL & ~perms.RESIZE)
            found = self._bitmaps(node, arguments)
        except QapiError:
            self._let_go(backend)
            raise
        export = NbdExport(id, backend, found, arguments, multi_conn=self._most_clients != 1)
        self.all.insert(0, export)
        return export

    def _check_iothread(self, arguments: Json) -> bool:
        """Whether the node is to have the I/O thread that is named. Raises QapiError."""
        name = arguments.get("iothread")
        if name is None:
            return False
        several = isinstance(name, list)
        if several and not name:
            raise QapiError("The set of I/O threads must not be empty")
        for each in name if several else [name]:
            obj = self.block.objects.get(each)
            if obj is None or obj.type != "iothread":
                raise QapiError(f'iothread "{each}" not found')
        if several:
            raise QapiError("NBD export does not support multi-threading")
        return True

    def _check_names(self, arguments: Json) -> None:
        if not self.running:
            raise QapiError("NBD server not running")
        name: str = arguments["name"] if "name" in arguments else arguments["node-name"]
        description: str = arguments.get("description", "")
        for noun, text in (("export name", name), ("description", description)):
            if len(c_bytes(text)) > nbdwire.LONGEST_NAME:
                raise QapiError(f"{noun} '{text}' too long")
        if any(e.name == name for e in self.all if not e.shutting_down):
            raise QapiError(f"NBD server already has export named '{name}'")

    def _bitmaps(self, node: Node, arguments: Json) -> list[Bitmap]:
        found = []
        for entry in arguments.get("bitmaps", ()):
            if isinstance(entry, dict):
                bitmap = bitmaps.lookup(self.block.graph, entry["node"], entry["name"])
            else:
                bitmap = self._of_chain(node, entry)
                writable = not (bitmap.node.read_only or bitmap.node.inactive)
                if bitmap.enabled and writable and not arguments.get("writable"):
                    raise QapiError(f"Enabled bitmap '{entry}' incompatible with readonly export")
            bitmap.check(ro=False)
            found.append(bitmap)
        return found

    @staticmethod
    def _of_chain(node: Node, name: str) -> Bitmap:
        for each in node.chain():
            bitmap = bitmaps.find_on(each, name)
            if bitmap is not None:
                return bitmap
        raise QapiError(f"Bitmap '{name}' is not found")

    def follow(self, export: NbdExport, backend: Backend) -> None:
        """The export goes when `backend` loses its medium."""
        backend.on_removed.append(lambda: self._ejected(export))

    def _ejected(self, export: NbdExport) -> None:
        if export in self.all:
            self._shut_down(export)

    def remove(self, export: NbdExport, mode: str) -> None:
        """block-export-del. Raises QapiError."""
        if export.shutting_down:
            raise QapiError(f"Export '{export.id}' is already shutting down")
        if mode == "safe" and export.clients:
            raise QapiError(
                f"export '{export.id}' still in use", "Use mode='hard' to force client disconnect"
            )
        if not export.clients:
            self._shut_down(export)
            return
        export.shutting_down = True
        for connection in list(export.clients):
            self._hang_up(connection)
        self.block.process.clock.call_later(0, lambda: self._gone(export))

    def _gone(self, export: NbdExport) -> None:
        if export in self.all:
            self._delete(export)

    def _shut_down(self, *exports: NbdExport) -> None:
        """Exports and their clients go; those that had none are announced first."""
        if not self.block.process.profile.traits.exports_end_newest_first:
            exports = exports[::-1]
        for export in sorted(exports, key=lambda each: bool(each.clients)):
            export.shutting_down = True
            for connection in list(export.clients):
                self._hang_up(connection)
            self._delete(export)

    def _let_go(self, backend: Backend) -> None:
        """Use the node no more; its jobs stand still twice meanwhile.

        See block/block-backend.c: blk_remove_bs().
        """
        if backend.node is not None:
            for _ in range(2):
                self.block.jobs.quiesce(backend.node)
            self.block.jobs.graph_changed()
        self.block.backends.drop(backend)

    def _delete(self, export: NbdExport) -> None:
        """BLOCK_EXPORT_DELETED. See block/export/export.c: blk_exp_delete_bh()."""
        self.all.remove(export)
        export.release()
        self._let_go(export.backend)
        self.block.process.events.emit("BLOCK_EXPORT_DELETED", {"id": export.id})

    def close(self) -> None:
        """The process ends."""
        self._shut_down(*self.all)
        if self._listener is not None:
            self.stop()


class _NoTimer:
    def cancel(self) -> None:
        """There is nothing to forget."""


_NO_TIMER = _NoTimer()
