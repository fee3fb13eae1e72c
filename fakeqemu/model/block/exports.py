"""Block exports and the NBD server that most of them are for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block import bitmaps, nbd
from fakeqemu.model.block import driver as base
from fakeqemu.model.block import permissions as perms
from fakeqemu.model.block.driver import Range
from fakeqemu.model.block.node import Node
from fakeqemu.model.guardedstream import GuardedStream
from fakeqemu.model.host import Listener, Stream
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.room import Block

Json = dict[str, Any]
_LONGEST_NAME = 4096


class Export:
    """One export of a node over NBD."""

    def __init__(self, block: Block, id: str, node: Node, arguments: Json) -> None:
        self.id = id
        self.type: str = arguments["type"]
        self.name: str = arguments.get("name") or arguments["node-name"]
        self.description: str = arguments.get("description", "")
        self.writable: bool = arguments.get("writable", False)
        self.shutting_down = False
        self.clients: list[nbd.Connection] = []
        self.bitmaps: list[bitmaps.Bitmap] = []
        self._block = block
        self._backend = block.backends.create()
        self._backend.perm = perms.CONSISTENT_READ | (perms.WRITE if self.writable else 0)
        self._backend.shared = perms.ALL
        try:
            self._backend.insert(node)
        except QapiError:
            block.backends.drop(self._backend)
            raise

    @property
    def node(self) -> Node:
        """What is exported."""
        assert self._backend.node is not None
        return self._backend.node

    def release(self) -> None:
        """Use the node no more."""
        for bitmap in self.bitmaps:
            bitmap.busy = False
        self._block.backends.drop(self._backend)

    def info(self) -> Json:
        """BlockExportInfo."""
        return {
            "id": self.id,
            "type": self.type,
            "node-name": self.node.name,
            "shutting-down": self.shutting_down,
        }

    # -- what the protocol needs -----------------------------------------------------------------

    def size(self) -> int:
        """The node's size in whole sectors."""
        return base.length(self.node) // 512 * 512

    def read(self, offset: int, count: int) -> bytes:
        """The node's data."""
        return base.read(self.node, offset, count)

    def write(self, offset: int, data: bytes) -> None:
        """Into the node."""
        base.write(self.node, offset, data)

    def zero(self, offset: int, count: int) -> None:
        """Zeros into the node."""
        base.zero(self.node, offset, count)

    def status(self, offset: int, end: int) -> Iterator[Range]:
        """The whole chain's."""
        return base.status_above(self.node, None, offset, end)


class Exports:
    """All exports of one machine, newest first, and its NBD server."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.all: list[Export] = []
        self._listener: Listener | None = None
        self._streams: dict[nbd.Connection, Stream] = {}

    # -- the server --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the NBD server listens."""
        return self._listener is not None

    def start(self, address: Json, tls_creds: str | None = None) -> None:
        """nbd-server-start at a flat SocketAddress. Raises QapiError."""
        if self.running:
            raise QapiError("NBD server already running")
        if tls_creds is not None:
            obj = self.block.vm.objects.get(tls_creds)
            if obj is None:
                raise QapiError(f"No TLS credentials with id '{tls_creds}'")
            if not self.block.vm.profile.is_a(obj.type, "tls-creds"):
                raise QapiError(f"Object with id '{tls_creds}' is not TLS credentials")
            raise NotModelledError("NBD over TLS")
        where = {"transport": "socket", **address}
        self._listener = self.block.vm.host.listen(where, self._accept)
        self.block.vm.journal.note("nbd", "start", address=address)

    def stop(self) -> None:
        """nbd-server-stop. Raises QapiError."""
        if self._listener is None:
            raise QapiError("NBD server not running")
        for export in list(self.all):
            self.delete(export)
        for connection in list(self._streams):
            self._hang_up(connection)
        self._listener.close()
        self._listener = None
        self.block.vm.journal.note("nbd", "stop")

    def _accept(self, stream: Stream) -> None:
        connection = nbd.Connection(
            lambda: {e.name: e for e in reversed(self.all)},
            stream.write,
            lambda: self._hang_up(connection),
        )
        stream = GuardedStream(stream, self.block.vm.guard, lambda _: self._hang_up(connection))
        self._streams[connection] = stream
        stream.on_data = lambda data: self._received(connection, data)
        stream.on_close = lambda _error: self._closed(connection)
        connection.start()

    def _received(self, connection: nbd.Connection, data: bytes) -> None:
        connection.receive(data)
        target = connection.target
        if not isinstance(target, Export) or connection in target.clients:
            return
        if connection in self._streams:
            target.clients.append(connection)

    def _closed(self, connection: nbd.Connection) -> None:
        self._streams.pop(connection, None)
        if isinstance(connection.target, Export) and connection in connection.target.clients:
            connection.target.clients.remove(connection)

    def _hang_up(self, connection: nbd.Connection) -> None:
        stream = self._streams.get(connection)
        self._closed(connection)
        if stream is not None:
            stream.close()

    # -- exports -----------------------------------------------------------------------------------

    def find(self, id: str) -> Export | None:
        """The export called `id`."""
        return next((e for e in self.all if e.id == id), None)

    def get(self, id: str) -> Export:
        """The same. Raises QapiError."""
        found = self.find(id)
        if found is None:
            raise QapiError(f"Export '{id}' is not found")
        return found

    def add(self, arguments: Json) -> Export:
        """block-export-add. Raises QapiError."""
        from fakeqemu.model.devices import well_formed

        id = arguments["id"]
        if not well_formed(id):
            raise QapiError("Invalid block export id")
        if self.find(id) is not None:
            raise QapiError(f"Block export id '{id}' is already in use")
        if arguments["type"] != "nbd":
            raise NotModelledError(f"block export {arguments['type']}")
        node = self.block.graph.lookup(None, arguments["node-name"])
        if arguments.get("writable") and node.read_only:
            raise QapiError("Cannot export read-only node as writable")
        if node.inactive and not arguments.get("allow-inactive"):
            self.block.activate_node(node)
        if not self.running:
            raise QapiError("NBD server not running")
        name: str = arguments.get("name") or arguments["node-name"]
        description: str = arguments.get("description", "")
        for noun, text in (("export name", name), ("description", description)):
            if len(c_bytes(text)) > _LONGEST_NAME:
                raise QapiError(f"{noun} '{text}' too long")
        if any(e.name == name for e in self.all):
            raise QapiError(f"NBD server already has export named '{name}'")
        found = self._bitmaps(node, arguments)
        export = Export(self.block, id, node, arguments)
        export.bitmaps = found
        for bitmap in found:
            bitmap.busy = True
        self.all.insert(0, export)
        return export

    def _bitmaps(self, node: Node, arguments: Json) -> list[bitmaps.Bitmap]:
        found = []
        for entry in arguments.get("bitmaps", ()):
            if isinstance(entry, dict):
                bitmap = bitmaps.lookup(self.block.graph, entry["node"], entry["name"])
            else:
                named = next(
                    (b for n in node.chain() for b in n.bitmaps if b.name == entry), None
                )
                if named is None:
                    raise QapiError(f"Bitmap '{entry}' is not found")
                bitmap = named
            bitmap.check(ro=False)
            if bitmap.enabled and not arguments.get("writable"):
                raise QapiError(
                    f"Enabled bitmap '{bitmap.name}' incompatible with readonly export"
                )
            found.append(bitmap)
        return found

    def remove(self, export: Export, mode: str) -> None:
        """block-export-del. Raises QapiError."""
        if export.shutting_down:
            raise QapiError(f"Export '{export.id}' is already shutting down")
        if mode == "safe" and export.clients:
            raise QapiError(
                f"export '{export.id}' still in use", "Use mode='hard' to force client disconnect"
            )
        self.delete(export)

    def delete(self, export: Export) -> None:
        """The export and its clients go: BLOCK_EXPORT_DELETED."""
        export.shutting_down = True
        for connection in list(export.clients):
            self._hang_up(connection)
        self.all.remove(export)
        export.release()
        self.block.vm.events.emit("BLOCK_EXPORT_DELETED", {"id": export.id})

    def close(self) -> None:
        """The process ends."""
        for export in list(self.all):
            self.delete(export)
        if self._listener is not None:
            self.stop()


