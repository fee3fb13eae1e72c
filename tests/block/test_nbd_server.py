"""The NBD server, byte by byte: what a client can agree on, ask and read of an export."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.clock import SECOND
from tests.support.nbd import (
    CACHE,
    EXTENDED_HEADERS,
    FLUSH,
    GO,
    INFO,
    LIST,
    LIST_META,
    READ,
    SET_META,
    STATUS,
    STRUCTURED_REPLY,
    TRIM,
    WRITE,
    ZEROES,
    Talk,
    go,
    meta,
)  # fmt: skip

KB, MB = 1 << 10, 1 << 20
#: contexts of block status
ALLOCATION, DEPTH, BITMAP = 0, 1, 2


class Stream:
    """What a client's socket is to the machine."""

    def __init__(self) -> None:
        self.on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None
        self.out = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.out += data

    def close(self) -> None:
        self.closed = True

    def send(self, data: bytes) -> None:
        assert self.on_data is not None
        self.on_data(data)

    def receive(self, count: int) -> bytes:
        found = bytes(self.out[:count])
        del self.out[:count]
        return found


class Served:
    """A machine with an NBD server, and its clients."""

    def __init__(self, machine: Any, **options: Any) -> None:
        self.machine = machine
        self._accept: Callable[[Any], None]
        host = machine.vm.host

        def listen(address: Any, accept: Callable[[Any], None]) -> Any:
            self._accept = accept
            return type(host).listen(host, address, accept)

        host.listen = listen
        address = {"type": "unix", "data": {"path": "/s"}}
        machine.ask("nbd-server-start", addr=address, **options)

    def export(self, id: str, **arguments: Any) -> None:
        self.machine.ask("block-export-add", type="nbd", id=id, **arguments)

    def connect(self) -> Stream:
        stream = Stream()
        self._accept(stream)
        return stream

    def talk(self, *contexts: str, export: str = "") -> Talk:
        """A client, which uses an export where one is named."""
        stream = self.connect()
        talk = Talk(stream.send, stream.receive)
        if export:
            assert talk.option(STRUCTURED_REPLY) == [(1, b"")]
            talk.option(SET_META, meta(export, *contexts))
            assert talk.option(GO, go(export))[-1] == (1, b"")
        return talk


@pytest.fixture
def served(machine: Any) -> Served:
    return Served(machine)


def write(machine: Any, node: str, pattern: int, offset: int, length: int) -> None:
    machine.vm.block.write(node, offset, bytes([pattern]) * length)


def refusal(talk: Talk, kind: int, *arguments: Any) -> str:
    """The text of an error chunk."""
    ((flags, chunk, data),) = talk.request(kind, *arguments)
    assert (flags, chunk) == (1, 1 << 15 | 1)
    return bytes(data[6:]).decode()


# -- contexts --------------------------------------------------------------------------------------


def test_a_bitmap_shows_what_was_written(served: Served) -> None:
    machine = served.machine
    machine.image("a", 4 * MB)
    machine.ask("block-dirty-bitmap-add", node="a", name="b", granularity=64 * KB)
    write(machine, "a", 1, 128 * KB, 1)
    write(machine, "a", 1, MB, 96 * KB)
    machine.ask("block-dirty-bitmap-disable", node="a", name="b")
    served.export("e", node_name="a", bitmaps=["b"])
    talk = served.talk("qemu:dirty-bitmap:b", export="a")
    assert talk.extents(0, 4 * MB) == {
        BITMAP: [(128 * KB, 0), (64 * KB, 1), (832 * KB, 0), (128 * KB, 1), (2944 * KB, 0)]
    }
    assert talk.extents(130 * KB, 10 * KB) == {BITMAP: [(10 * KB, 1)]}


def test_several_contexts_answer_in_their_order(served: Served) -> None:
    machine = served.machine
    for name in ("a", "c"):
        machine.image(name, MB)
        write(machine, name, 7, 64 * KB, 64 * KB)
    machine.ask("block-dirty-bitmap-add", node="a", name="b", disabled=True)
    machine.ask("block-dirty-bitmap-add", node="c", name="d")
    write(machine, "c", 7, 0, 512)
    bitmaps = ["b", {"node": "c", "name": "d"}]
    served.export("e", node_name="a", bitmaps=bitmaps, allocation_depth=True)
    names = ["qemu:dirty-bitmap:d", "qemu:dirty-bitmap:b", "base:allocation"]
    talk = served.talk("qemu:allocation-depth", *names, export="a")
    assert talk.extents(0, 256 * KB) == {
        ALLOCATION: [(64 * KB, 3), (64 * KB, 0), (128 * KB, 3)],
        DEPTH: [(64 * KB, 0), (64 * KB, 1), (128 * KB, 0)],
        BITMAP: [(256 * KB, 0)],
        BITMAP + 1: [(64 * KB, 1), (192 * KB, 0)],
    }
    one = talk.extents(0, 256 * KB, 8)
    assert [len(extents) for extents in one.values()] == [1, 1, 1, 1]


def test_depth_counts_the_images_of_a_chain(served: Served) -> None:
    machine = served.machine
    machine.image("base", 2 * MB)
    write(machine, "base", 1, 0, 256 * KB)
    machine.image("mid", MB)
    machine.image("top", 3 * MB)
    machine.ask("blockdev-snapshot", node="base", overlay="mid")
    machine.ask("blockdev-snapshot", node="mid", overlay="top")
    write(machine, "mid", 2, 64 * KB, 64 * KB)
    write(machine, "top", 3, 128 * KB, 64 * KB)
    served.export("e", node_name="top", allocation_depth=True)
    talk = served.talk("qemu:allocation-depth", export="top")
    assert talk.extents(0, 3 * MB) == {
        DEPTH: [
            (64 * KB, 3), (64 * KB, 2), (64 * KB, 1), (64 * KB, 3), (768 * KB, 0), (2 * MB, 2),
        ]
    }  # fmt: skip


def test_queries_name_contexts_and_namespaces(served: Served) -> None:
    machine = served.machine
    machine.add("null-co", "n", size=MB)
    for name in ("b1", "b2"):
        machine.ask("block-dirty-bitmap-add", node="n", name=name, disabled=True)
    served.export("e", node_name="n", bitmaps=["b1", "b2"])
    talk = served.talk()
    zero = bytes(4)
    both = [(4, zero + b"qemu:dirty-bitmap:b1"), (4, zero + b"qemu:dirty-bitmap:b2"), (1, b"")]
    everything = [(4, zero + b"base:allocation"), *both]
    assert talk.option(LIST_META, meta("n")) == everything
    assert talk.option(LIST_META, meta("n", "base:", "qemu:")) == everything
    assert talk.option(LIST_META, meta("n", "qemu:dirty-bitmap:", "", "x:y")) == both
    assert talk.option(LIST_META, meta("n", "qemu:allocation-depth")) == [(1, b"")]
    ((kind, words),) = talk.option(SET_META, meta("n", "base:allocation"))
    assert kind == -3
    assert words.endswith(b"structured reply is not negotiated")
    assert talk.option(STRUCTURED_REPLY) == [(1, b"")]
    assert talk.option(SET_META, meta("n", "base:", "qemu:")) == [(1, b"")]
    assert talk.option(SET_META, meta("n", "qemu:dirty-bitmap:b2")) == [
        (4, struct.pack(">I", BITMAP + 1) + b"qemu:dirty-bitmap:b2"), (1, b""),
    ]  # fmt: skip


def test_contexts_of_another_export_are_forgotten(served: Served) -> None:
    for name in ("a", "b"):
        served.machine.add("null-co", name, size=MB)
        served.export(name, node_name=name)
    talk = served.talk()
    talk.option(STRUCTURED_REPLY)
    talk.option(SET_META, meta("a", "base:allocation"))
    talk.option(GO, go("b"))
    assert refusal(talk, STATUS, 0, MB) == "CMD_BLOCK_STATUS not negotiated"


@pytest.mark.parametrize(
    ("bitmaps", "text"),
    [
        (["x"], "Bitmap 'x' is not found"),
        (["on"], "Enabled bitmap 'on' incompatible with readonly export"),
        ([{"node": "n", "name": "x"}], "Dirty bitmap 'x' not found"),
        (
            ["used"],
            "Bitmap 'used' is currently in use by another operation and cannot be used",
        ),
    ],
)
def test_bitmaps_that_cannot_be_exported(served: Served, bitmaps: Any, text: str) -> None:
    machine = served.machine
    machine.add("null-co", "n", size=MB)
    machine.ask("block-dirty-bitmap-add", node="n", name="on")
    machine.ask("block-dirty-bitmap-add", node="n", name="used", disabled=True)
    served.export("first", node_name="n", name="first", bitmaps=["used"])
    said = machine.desc(
        "block-export-add", type="nbd", id="e", node_name="n", bitmaps=bitmaps
    )
    assert said == text
    machine.ask("block-export-del", id="first")
    served.export("e", node_name="n", bitmaps=["used"])


# -- agreeing --------------------------------------------------------------------------------------


def test_description_and_sizes(served: Served) -> None:
    served.machine.add("null-co", "n", size=MB + 100)
    served.export("e", node_name="n", name="x", description="what it is", writable=True)
    talk = served.talk()
    sizes = struct.pack(">HIII", 3, 1, 4096, 32 * MB)
    assert talk.option(INFO, go("x", 1)) == [
        (3, b"\0\1x"),
        (3, b"\0\2what it is"),
        (3, sizes),
        (3, struct.pack(">HQH", 0, MB, 1 | 4 | 8 | 32 | 64 | 256 | 1024 | 2048)),
        (1, b""),
    ]
    assert talk.option(LIST) == [(2, b"\0\0\0\1xwhat it is"), (1, b"")]


def test_one_client_at_a_time(machine: Any) -> None:
    served = Served(machine, max_connections=1)
    machine.add("null-co", "n", size=MB)
    served.export("e", node_name="n")
    first, second = served.connect(), served.connect()
    talk = Talk(first.send, first.receive)
    (_, info), _ = talk.option(GO, go("n"))[1:]
    assert not struct.unpack(">HQH", info)[2] & 256
    assert not second.out
    assert first.on_close is not None
    first.on_close(None)
    assert second.out.startswith(b"NBDMAGIC")


def test_a_client_that_does_not_choose_has_to_go(machine: Any) -> None:
    served = Served(machine, handshake_max_seconds=3)
    idle = served.connect()
    machine.clock.advance(2 * SECOND)
    assert not idle.closed
    machine.clock.advance(SECOND)
    assert idle.closed


def test_versions_without_extended_headers(start: Any) -> None:
    served = Served(start(profile="7.2"))
    words = b"Unsupported option 11 (<unknown>)"
    assert served.talk().option(EXTENDED_HEADERS) == [(-1, words)]


def test_extended_headers_choose_contexts_of_a_request(served: Served) -> None:
    machine = served.machine
    machine.image("a", MB)
    machine.ask("block-dirty-bitmap-add", node="a", name="b", disabled=True)
    served.export("e", node_name="a", bitmaps=["b"])
    talk = served.talk()
    assert talk.option(EXTENDED_HEADERS) == [(1, b"")]
    talk.option(SET_META, meta("a", "base:allocation", "qemu:dirty-bitmap:b"))
    talk.option(GO, go("a"))

    def status(*wanted: int) -> list[Any]:
        data = struct.pack(f">Q{len(wanted)}I", 64 * KB, *wanted)
        return talk.request(STATUS, 0, len(data), 32, data, extended=True)

    extents = struct.pack(">IIQQ", BITMAP, 1, 64 * KB, 0)
    assert status(BITMAP) == [(1, 6, extents)]
    ((_, kind, words),) = status(DEPTH)
    assert kind == 1 << 15 | 1
    assert words.endswith(b"CMD_BLOCK_STATUS payload not valid")


# -- requests --------------------------------------------------------------------------------------


def test_reads_come_as_data_and_holes(served: Served) -> None:
    machine = served.machine
    machine.image("a", MB)
    write(machine, "a", 5, 64 * KB, 64 * KB)
    served.export("e", node_name="a")
    talk = served.talk(export="a")
    at = struct.Struct(">Q")
    assert talk.request(READ, 0, 192 * KB) == [
        (0, 2, struct.pack(">QI", 0, 64 * KB)),
        (0, 1, at.pack(64 * KB) + b"\5" * 64 * KB),
        (1, 2, struct.pack(">QI", 128 * KB, 64 * KB)),
    ]
    whole = at.pack(60 * KB) + bytes(4 * KB) + b"\5" * 4 * KB
    assert talk.request(READ, 60 * KB, 8 * KB, 4) == [(1, 1, whole)]


def test_requests_that_are_refused_leave_the_client_connected(served: Served) -> None:
    served.machine.add("null-co", "n", size=MB)
    served.export("e", node_name="n")
    talk = served.talk(export="n")
    assert refusal(talk, WRITE, 0, 2, 0, b"ab") == "Export is read-only"
    past = f"operation past EOF; From: {MB}, Len: 1, Size: {MB}"
    assert refusal(talk, READ, MB, 1) == past
    assert refusal(talk, READ, 0, 1, 16) == "unsupported flags for command read (got 0x10)"
    assert refusal(talk, 9) == "invalid request type (9) received"
    assert talk.request(FLUSH) == [("simple", 0, b"")]


def test_fast_zeros_only_where_they_are_fast(served: Served) -> None:
    machine = served.machine
    machine.image("a", MB)
    machine.add("null-co", "n", size=MB)
    for name in ("a", "n"):
        served.export(name, node_name=name, writable=True)
    write(machine, "a", 1, 0, 512)
    assert served.talk(export="a").request(ZEROES, 0, 512, 16) == [("simple", 0, b"")]
    assert served.talk(export="a").request(READ, 0, 1, 4)[0][2][8:] == b"\0"
    ((_, _, data),) = served.talk(export="n").request(ZEROES, 0, 512, 16)
    assert data == struct.pack(">IH", 95, 22) + b"writing to file failed"


def test_trim_and_cache(served: Served) -> None:
    machine = served.machine
    machine.image("base", MB)
    write(machine, "base", 9, 0, 64 * KB)
    machine.image("top", MB, discard="unmap")
    machine.ask("blockdev-snapshot", node="base", overlay="top")
    machine.ask("block-dirty-bitmap-add", node="top", name="b")
    served.export("e", node_name="top", writable=True, allocation_depth=True, bitmaps=["b"])
    talk = served.talk("qemu:allocation-depth", "qemu:dirty-bitmap:b", export="top")
    talk.request(CACHE, 100, 10)
    assert talk.extents(0, 128 * KB) == {
        DEPTH: [(64 * KB, 1), (64 * KB, 0)], BITMAP: [(128 * KB, 0)]
    }  # fmt: skip
    talk.request(TRIM, 0, 64 * KB)
    assert talk.extents(0, 64 * KB)[BITMAP] == [(64 * KB, 1)]


def test_a_read_that_fails_ends_the_connection(served: Served) -> None:
    rule = {"event": "none", "errno": 5, "iotype": "read"}
    served.machine.add(
        "blkdebug", "d", image={"driver": "null-co", "size": MB}, inject_error=[rule]
    )
    served.export("e", node_name="d")
    stream = served.connect()
    talk = Talk(stream.send, stream.receive)
    talk.option(STRUCTURED_REPLY)
    talk.option(GO, go("d"))
    assert refusal(talk, READ, 0, 512, 4) == "reading from file failed"
    talk.request(READ, 0, 512)
    assert stream.closed


# -- an export's life ------------------------------------------------------------------------------


def test_an_export_in_use_goes_only_by_force(served: Served) -> None:
    machine = served.machine
    machine.add("null-co", "n", size=MB)
    served.export("e", node_name="n")
    stream = served.connect()
    Talk(stream.send, stream.receive).option(GO, go("n"))
    assert machine.desc("block-export-del", id="e") == "export 'e' still in use"
    machine.ask("block-export-del", id="e", mode="hard", work=False)
    assert stream.closed
    (shown,) = machine.ask("query-block-exports", work=False)
    assert shown["shutting-down"]
    text = machine.desc("block-export-del", id="e", work=False)
    assert text == "Export 'e' is already shutting down"
    machine.clock.run_until_idle()
    assert machine.events[-1] == ("BLOCK_EXPORT_DELETED", {"id": "e"})


def test_an_export_of_a_device_goes_with_its_medium(start: Any) -> None:
    served = Served(start("-drive", "if=none,id=d,driver=null-co,size=1M"))
    machine = served.machine
    machine.ask("nbd-server-add", device="d")
    machine.ask("eject", device="d")
    assert machine.events[-1] == ("BLOCK_EXPORT_DELETED", {"id": "d"})
    assert machine.ask("query-block-exports") == []


def test_an_exported_node_keeps_its_size(served: Served) -> None:
    served.machine.image("a", MB)
    served.export("e", node_name="a", writable=True)
    text = served.machine.desc("block_resize", node_name="a", size=2 * MB)
    assert "'resize'" in text or "resize" in text


def test_iothreads_of_exports(start: Any) -> None:
    served = Served(
        start(
            "-object", "iothread,id=io", "-blockdev", "driver=null-co,node-name=n,size=1048576",
            "-device", "virtio-blk-pci,drive=n,share-rw=on",
        )
    )  # fmt: skip
    wanted = {"type": "nbd", "id": "e", "node_name": "n"}
    text = served.machine.desc("block-export-add", **wanted, iothread="nope")
    assert text == 'iothread "nope" not found'
    text = served.machine.desc(
        "block-export-add", **wanted, iothread="io", fixed_iothread=True
    )
    assert text == "Cannot change iothread of active block backend"
    served.export("e", node_name="n", iothread="io")
