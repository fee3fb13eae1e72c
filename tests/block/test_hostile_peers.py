"""NBD clients and servers that send whatever they like: an answer or the end, and no memory."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fakeqemu.formats.nbd.client import Answer, Client
from fakeqemu.model.block.files import MemoryFiles
from tests.block.test_nbd_server import Served, Stream
from tests.support.machines import BlockMachine
from tests.support.nbd import (
    EXTENDED_HEADERS,
    GO,
    READ,
    SET_META,
    STATUS,
    STRUCTURED_REPLY,
    WRITE,
    go,
    meta,
)

MB = 1 << 20
SETTINGS = settings(
    max_examples=30, derandomize=True, suppress_health_check=list(HealthCheck)
)
NUMBERS = st.sampled_from([0, 1, 2, 7, 8, 511, 512, 4 * MB, (1 << 31) + 1, 1 << 62, (1 << 64) - 1])


@pytest.fixture(scope="module", params=["7.2", "10.0", "11.1"])
def served(request: Any) -> Served:
    machine = BlockMachine(MemoryFiles(), profile=request.param)
    found = Served(machine)
    machine.image("a", 4 * MB)
    machine.ask("block-dirty-bitmap-add", node="a", name="b", disabled=True)
    found.export("e", node_name="a", writable=True, bitmaps=["b"], allocation_depth=True)
    return found


def option(number: int, data: bytes, announced: int | None = None) -> bytes:
    size = len(data) if announced is None else announced & 0xFFFFFFFF
    return b"IHAVEOPT" + struct.pack(">II", number & 0xFFFFFFFF, size) + data


BODIES = st.one_of(
    st.binary(max_size=30),
    st.builds(go, st.sampled_from(["a", "", "x"]), st.integers(0, 0xFFFF)),
    st.builds(meta, st.just("a"), st.sampled_from(["base:", "qemu:dirty-bitmap:b", "x"])),
)
OPTIONS = st.lists(
    st.builds(
        option,
        st.one_of(st.integers(0, 12), NUMBERS),
        BODIES,
        st.one_of(st.none(), st.none(), NUMBERS),
    ),
    max_size=4,
).map(b"".join)
MODES = st.sampled_from([b"", option(STRUCTURED_REPLY, b""), option(EXTENDED_HEADERS, b"")])
CHOICE = option(SET_META, meta("a", "base:allocation", "qemu:dirty-bitmap:b")) + option(
    GO, go("a")
)


def request(magic: int, flags: int, kind: int, offset: int, length: int, data: bytes) -> bytes:
    wide = magic == 0x21E41C71
    head = struct.pack(
        ">IHHQQQ" if wide else ">IHHQQI", magic, flags, kind, 5, offset,
        length if wide else length & 0xFFFFFFFF,
    )  # fmt: skip
    return head + data


REQUESTS = st.lists(
    st.builds(
        request,
        st.sampled_from([0x25609513, 0x21E41C71, 0x25609513, 0x21E41C71, 0]),
        st.sampled_from([0, 0, 1, 2, 4, 8, 16, 32, 33, 0xFFFF]),
        st.one_of(st.integers(0, 9), st.just(0xFFFF)),
        NUMBERS,
        NUMBERS,
        st.binary(max_size=40),
    ),
    max_size=5,
).map(b"".join)


@SETTINGS
@given(options=OPTIONS, mode=MODES, requests=REQUESTS, cut=st.integers(1, 90))
def test_whatever_a_client_says(
    served: Served, options: bytes, mode: bytes, requests: bytes, cut: int
) -> None:
    said = b"\0\0\0\3" + options + mode + CHOICE + requests
    stream = served.connect()
    for at in range(0, len(said), cut):
        if not stream.closed:
            stream.send(said[at : at + cut])
    assert len(stream.out) < 64 * MB
    if not stream.closed:
        assert stream.on_close is not None
        stream.on_close(None)
    served.machine.clock.run_until_idle()
    assert bugs(served.machine) == []
    talk = served.talk(export="a")
    assert talk.request(READ, 0, 512)[-1][0] == 1


def bugs(machine: BlockMachine) -> list[Any]:
    return [entry.data for entry in machine.vm.journal if entry.kind == "bug"]


class Sluggish(Stream):
    """A client that takes nothing before it is told to."""

    drained: Any = None

    @property
    def queued(self) -> int:
        return len(self.out)

    def when_drained(self, call: Any) -> None:
        self.drained = call

    def take(self) -> int:
        size = len(self.out)
        self.out.clear()
        self.drained()
        return size


def test_a_client_that_reads_no_answers_is_not_asked_for_more(served: Served) -> None:
    stream = Sluggish()
    served._accept(stream)
    ask = request(0x25609513, 0, READ, 0, 4 * MB, b"") * 20
    stream.send(b"\0\0\0\3" + option(GO, go("a")) + ask)
    most = 0
    taken = 0
    while stream.out:
        assert (stream.on_data is None) == (stream.queued > 32 * MB)
        most = max(most, stream.queued)
        taken += stream.take()
    assert most < 40 * MB
    assert taken > 80 * MB
    assert stream.on_data is not None
    assert stream.on_close is not None
    stream.on_close(None)


# -- servers -----------------------------------------------------------------------------------


def reply(kind: int, data: bytes, announced: int | None = None, option: int = GO) -> bytes:
    size = len(data) if announced is None else announced & 0xFFFFFFFF
    return struct.pack(">QIII", 0x3E889045565A9, option, kind & 0xFFFFFFFF, size) + data


#: what a server answers before it is asked for the export: it has simple replies only
SIMPLE = reply(1 << 31 | 1, b"", option=STRUCTURED_REPLY)
#: or structured ones, and the context that block status comes from
STRUCTURED = reply(1, b"", option=STRUCTURED_REPLY) + (
    reply(4, b"\0\0\0\5base:allocation", option=SET_META) + reply(1, b"", option=SET_META)
)


REPLIES = st.lists(
    st.builds(
        reply,
        st.one_of(st.integers(0, 4), st.sampled_from([1 << 31 | n for n in range(11)]), NUMBERS),
        st.one_of(
            st.binary(max_size=14),
            st.builds(lambda size, flags: struct.pack(">HQH", 0, size, flags), NUMBERS,
                      st.integers(0, 0xFFFF)),
        ),
        st.one_of(st.none(), st.none(), NUMBERS),
    ),
    max_size=4,
).map(b"".join)  # fmt: skip
CHUNKS = st.builds(
    lambda magic, flags, kind, cookie, length, data: (
        struct.pack(">IHHQI", magic, flags, kind, cookie, length & 0xFFFFFFFF) + data
    ),
    st.sampled_from([0x668E33EF, 0x668E33EF, 0x67446698]),
    st.sampled_from([0, 1, 1, 0xFFFF]),
    st.sampled_from([0, 1, 2, 5, 0x8001, 0x8002, 3]),
    st.integers(1, 3),
    st.sampled_from([0, 4, 6, 8, 12, 12, 20, 512, 520, 0xFFFFFFFF]),
    st.binary(max_size=24),
)
ANSWERS = st.lists(
    st.one_of(
        st.builds(
            lambda magic, error, cookie: struct.pack(">IIQ", magic, error & 0xFFFFFFFF, cookie),
            st.sampled_from([0x67446698, 0x67446698, 0x668E33EF]),
            NUMBERS,
            st.one_of(st.integers(1, 3), NUMBERS),
        ),
        CHUNKS,
    ),
    max_size=4,
).map(b"".join)
GOOD = reply(3, struct.pack(">HQH", 0, MB, 1)) + reply(1, b"")


class Asking:
    """A client that asks for three things as soon as it can, and what came of it."""

    def __init__(self, *, context: str = "base:allocation") -> None:
        self.done: list[str] = []
        self.lost = 0
        self.answers: list[tuple[int, Answer]] = []
        self.client = Client("x", context, lambda _data: None, self._ended, self._lost)

    def _ended(self, error: str) -> None:
        self.done.append(error)
        if not error:
            for kind in (READ, WRITE, STATUS):
                self.client.request(
                    kind, 0, 512, b"", lambda answer, kind=kind: self.answers.append((kind, answer))
                )

    def _lost(self) -> None:
        self.lost += 1


@SETTINGS
@given(
    greeting=st.sampled_from([b"NBDMAGICIHAVEOPT\0\3"] * 4 + [b"NBDMAGICIHAVEOPT\0\0", b"x" * 18]),
    before=st.sampled_from([SIMPLE, STRUCTURED, b""]),
    replies=REPLIES,
    good=st.sampled_from([GOOD, GOOD, b""]),
    answers=ANSWERS,
    cut=st.integers(1, 50),
)
def test_whatever_a_server_says(
    greeting: bytes, before: bytes, replies: bytes, good: bytes, answers: bytes, cut: int
) -> None:
    said = greeting + before + replies + good + answers
    asking = Asking()
    client = asking.client
    for at in range(0, len(said), cut):
        client.receive(said[at : at + cut])
        assert len(client._buffer) <= len(said)
    client.hung_up(None)
    assert len(asking.done) == 1
    assert client.error
    assert asking.lost == (asking.done == [""])
    for kind, answer in asking.answers:
        assert answer.error or kind != READ or len(answer.data) == 512


def told(*pieces: bytes) -> str:
    """What becomes of a client whose server says this and goes."""
    asking = Asking()
    asking.client.receive(b"".join(pieces))
    asking.client.hung_up(None)
    return asking.done[0] or asking.client.error


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ((b"NBDMAGIX",), "Bad initial magic received: 0x4e42444d41474958"),
        ((b"NBDMAGIC",), "Failed to read server magic: Unexpected end-of-file"
                         " before all bytes were read"),
        ((b"NBDMAGICIHAVEOPX",), "Bad server magic received: 0x49484156454f5058"),
        ((bytes(20),), "Unexpected option reply magic"),
        ((reply(1, b"x", option=STRUCTURED_REPLY),),
         "Option 8 ('structured reply') response length is 1 (it should be zero)"),
        ((STRUCTURED[:20], reply(4, b"\0\0\0\5other", option=SET_META)),
         "Failed to negotiate meta context 'base:allocation', server answered with different"
         " context 'other'"),
        ((STRUCTURED[:20], reply(4, b"x", option=SET_META)),
         "Failed to negotiate meta context, server answered with unexpected length 1"),
        ((SIMPLE, reply(1, b"")), "broken server omitted NBD_INFO_EXPORT"),
        ((SIMPLE, reply(1, b"x")), "server sent invalid NBD_REP_ACK"),
        ((SIMPLE, reply(2, b"")), "unexpected reply type 2 (server), expected 3 (info)"),
        ((SIMPLE, reply(3, b"\0")), "NBD_REP_INFO length 1 is too short"),
        ((SIMPLE, reply(3, bytes(3))), "remaining export info len 1 is unexpected size"),
        ((SIMPLE, reply(1 << 31 | 2, b"")), "Denied by server for option 7 (go)"),
        ((SIMPLE, reply(1 << 31 | 3, b"", 1 << 31)),
         "server error 2147483651 (invalid) message is too long"),
        ((SIMPLE, reply(3, b"\0\1", 0xFFFFFFFF), b"x" * 100),
         "Failed to read info payload: Unexpected end-of-file before all bytes were read"),
        ((SIMPLE, reply(3, b"\0\3" + struct.pack(">III", 3, 4096, MB))),
         "server minimum block size 3 is not a power of two"),
        ((SIMPLE, reply(3, b"\0\3" + struct.pack(">III", 512, 4096, MB)),
          reply(3, struct.pack(">HQH", 0, 513, 1))),
         "export size 513 is not multiple of minimum block size 512"),
        ((STRUCTURED, GOOD, struct.pack(">IHHQI", 0x668E33EF, 1, 5, 3, 12),
          struct.pack(">III", 6, 512, 0)),
         "Protocol error: unexpected context id 6 for NBD_REPLY_TYPE_BLOCK_STATUS, when negotiated"
         " context id is 5"),
        ((STRUCTURED, GOOD, struct.pack(">IHHQIQ", 0x668E33EF, 1, 1, 1, 521, 0), bytes(513)),
         "Protocol error: server sent chunk exceeding requested region"),
        ((SIMPLE, GOOD, struct.pack(">IHHQI", 0x668E33EF, 1, 0, 1, 0)),
         "unexpected structured reply"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_server(pieces: tuple[bytes, ...], text: str) -> None:
    greeting = b"" if pieces[0].startswith(b"NBD") else b"NBDMAGICIHAVEOPT\0\3"
    assert told(greeting, *pieces) == text
