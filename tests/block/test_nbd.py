"""NBD without sockets: our client against our server, and exports' life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakeqemu.formats.nbd.server import Connection
from fakeqemu.model.block.backends.exports import Exports
from fakeqemu.model.block.drivers.nbd import NbdClient

MB = 1 << 20


class Pipe:
    """A stream whose other end is a function."""

    def __init__(self) -> None:
        self.on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None
        self.deliver: Callable[[bytes], None] = lambda _data: None
        self.closed = False

    def write(self, data: bytes) -> None:
        self.deliver(data)

    def close(self) -> None:
        self.closed = True


def connect(exports: Exports, name: str) -> tuple[NbdClient, list[str]]:
    pipe, said = Pipe(), list[str]()
    client = NbdClient(pipe, name, said.append)

    def to_client(data: bytes) -> None:
        assert pipe.on_data is not None
        pipe.on_data(data)

    named = {e.name: e for e in exports.all}
    traits = exports.block.vm.profile.traits
    server = Connection(lambda: named, to_client, pipe.close, traits)
    pipe.deliver = server.receive
    server.start()
    return client, said


def serving(machine: Any) -> Exports:
    machine.add("null-co", "n", size=MB, read_zeroes=True)
    address = {"type": "unix", "data": {"path": "/s"}}
    machine.ask("nbd-server-start", addr=address)
    return machine.vm.block.exports


def export(machine: Any, **arguments: Any) -> None:
    machine.ask("block-export-add", type="nbd", **arguments)


def test_what_a_client_writes_is_in_the_node(machine: Any) -> None:
    exports = serving(machine)
    export(machine, id="e", node_name="n", writable=True, name="x")
    machine.ask("block-dirty-bitmap-add", node="n", name="b")
    client, said = connect(exports, "x")
    assert (said, client.size) == ([""], MB)
    client.write(65536, b"data")
    client.zero(0, 512)
    assert not client.when_idle(lambda: None)
    assert machine.node("n")["dirty-bitmaps"][0]["count"] == 2 * 65536


def test_an_export_that_is_not_there(machine: Any) -> None:
    exports = serving(machine)
    client, said = connect(exports, "x")
    assert said == ["Requested export not available"]
    assert client.error


def test_a_read_only_export_refuses_writes(machine: Any) -> None:
    exports = serving(machine)
    export(machine, id="e", node_name="n", name="x")
    client, _ = connect(exports, "x")
    client.write(0, b"data")
    assert client.error == "Invalid argument"


def test_exports_come_and_go(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    text = machine.desc("nbd-server-add", device="a")
    assert text == "NBD server not running"
    serving(machine)
    export(machine, id="e", node_name="a")
    text = machine.desc("block-export-add", type="nbd", id="f", node_name="n", name="a")
    assert text == "NBD server already has export named 'a'"
    assert machine.desc("blockdev-del", node_name="a") == "Node a is in use"
    machine.ask("nbd-server-stop")
    assert machine.events[-1] == ("BLOCK_EXPORT_DELETED", {"id": "e"})
    machine.ask("blockdev-del", node_name="a")
