"""qcow2 images: what is written is read again, by us and by qemu-img."""

from __future__ import annotations

import random

import pytest

from fakeqemu.formats.qcow2 import snapshots as qcow2snapshots
from fakeqemu.formats.qcow2.creation import create_empty
from fakeqemu.formats.qcow2.header import Header, parse_header
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.snapshots import QCowSnapshot
from fakeqemu.model.block.drivers.base import check_request
from fakeqemu.model.block.files import BlockFile, MemoryFiles
from fakeqemu.qapi.errors import QapiError

SIZE = 1 << 20


class Store:
    def __init__(self, file: BlockFile) -> None:
        self._file = file

    def size(self) -> int:
        return self._file.size()

    def read(self, offset: int, count: int) -> bytes:
        check_request(offset, count)
        data = self._file.read(offset, count)
        return data + bytes(count - len(data))

    def write(self, offset: int, data: bytes) -> None:
        check_request(offset, len(data))
        self._file.write(offset, data)

    def zero(self, offset: int, count: int) -> None:
        self._file.zero(offset, count)

    def truncate(self, size: int, prealloc: str = "off") -> None:
        self._file.truncate(size)


def memory_store() -> Store:
    return Store(MemoryFiles().open("/x", writable=True, create=True))


def zeros(_offset: int, count: int) -> bytes:
    return bytes(count)


def churn(image: Qcow2, *, snapshots: bool) -> bytearray:
    """Write, zero, keep and go back at random; what the guest should see then."""
    seen = bytearray(SIZE)
    kept: list[tuple[QCowSnapshot, bytes]] = []
    chance = random.Random(1)
    for number in range(40):
        offset = chance.randrange(SIZE)
        count = min(chance.randrange(1, 50000), SIZE - offset)
        what = chance.random()
        if what < 0.5:
            data = chance.randbytes(count)
            image.write(offset, data, zeros)
            seen[offset : offset + count] = data
        elif what < 0.75 or not snapshots:
            image.zero(offset, count, zeros)
            seen[offset : offset + count] = bytes(count)
        elif what < 0.85:
            new = QCowSnapshot(str(number), f"s{number}", 1, 2, 3)
            qcow2snapshots.take(image, new)
            kept.append((new, bytes(seen)))
        elif kept and what < 0.93:
            qcow2snapshots.apply(image, kept[0][0])
            seen[:] = kept[0][1]
        elif kept:
            qcow2snapshots.delete(image, kept.pop()[0])
        assert image.read(0, SIZE, zeros) == seen
    return seen


@pytest.mark.parametrize(("cluster_bits", "order", "version"), [(16, 4, 3), (9, 3, 3), (12, 4, 2)])
def test_what_was_written_is_read_again(cluster_bits: int, order: int, version: int) -> None:
    store = memory_store()
    header = Header(
        version=version, size=SIZE, cluster_bits=cluster_bits, refcount_order=order
    )
    seen = churn(create_empty(store, header), snapshots=True)
    assert Qcow2(store).read(0, SIZE, zeros) == seen


def test_header_keeps_backing_file_and_unknown_extensions() -> None:
    store = memory_store()
    header = Header(size=SIZE, backing_file="/base", backing_format="raw")
    header.extensions.append((0x12345678, b"kept"))
    image = create_empty(store, header)
    image.set_backing("/other", "qcow2")
    again = parse_header(store)
    assert (again.backing_file, again.backing_format) == ("/other", "qcow2")
    assert (0x12345678, b"kept") in again.extensions


def test_not_an_image() -> None:
    store = memory_store()
    store.truncate(SIZE)
    with pytest.raises(QapiError, match="Image is not in qcow2 format"):
        parse_header(store)


def test_reads_through_to_the_backing_image() -> None:
    image = create_empty(memory_store(), Header(size=SIZE))
    image.write(10, b"own", lambda _at, count: b"b" * count)
    assert image.read(8, 7, lambda _at, count: b"x" * count) == b"bbownbb"


def test_growing_and_shrinking() -> None:
    image = create_empty(memory_store(), Header(size=SIZE, cluster_bits=9))
    image.write(SIZE - 5, b"12345", zeros)
    image.writer.resize(SIZE * 8)
    assert image.read(SIZE - 5, 10, zeros) == b"12345" + bytes(5)
    image.writer.resize(512)
    image.writer.resize(SIZE)
    assert image.read(SIZE - 5, 5, zeros) == bytes(5)
    with pytest.raises(QapiError, match="The new size must be a multiple of 512"):
        image.writer.resize(513)
