"""Rows of counts are what their counts are alone, for each width that the format has."""

from __future__ import annotations

import random

import pytest

from fakeqemu.formats.qcow2.refcount.block import RefcountWidth
from fakeqemu.formats.qcow2.tables import CachedTable, TableCache

SIZE = 512


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_rows_and_single_counts_agree(bits):
    width, chance = RefcountWidth(bits), random.Random(bits)
    slots = SIZE * 8 // bits
    one, row = CachedTable(bytearray(SIZE)), CachedTable(bytearray(SIZE))
    for _ in range(40):
        first = chance.randrange(slots)
        counts = [
            chance.choice([0, 0, 1, width.most])
            for _ in range(chance.randrange(1, min(40, slots - first) + 1))
        ]
        width.set_row(row, first, counts)
        for slot, count in enumerate(counts, first):
            width.set(one, slot, count)
        assert one.data == row.data
        assert row.dirty
        everything = [width.get(row, slot) for slot in range(slots)]
        assert width.get_row(row, 0, slots) == everything
        start = chance.randrange(slots)
        most = chance.randrange(1, slots - start + 1)
        ahead = everything[start : start + most]
        free = next((n for n, count in enumerate(ahead) if count), most)
        assert width.zeros(row, start, most) == free


class Image:
    """As much of an image as a cache of its tables needs: what is written, in order."""

    cluster = SIZE

    def __init__(self):
        self.store = self
        self.written = []

    def check_write(self, _offset, _size, ignore=""):
        pass

    def read(self, _offset, size):
        return bytes(size)

    def write(self, offset, _data):
        self.written.append(offset)


def test_changed_tables_are_written_in_order_of_their_last_use():
    """Which of them fails first decides what a request says: block/qcow2-cache.c."""
    image = Image()
    cache = TableCache(image, "refcount-block")
    for offset in (512, 1024, 1536, 2048, 512):
        cache.get(offset).dirty = offset != 1536
    cache.flush()
    assert image.written == [1024, 2048, 512]
    cache.flush()
    assert image.written == [1024, 2048, 512]
    cache.get(1024).dirty = True
    cache.forget([1024])
    cache.flush()
    assert image.written == [1024, 2048, 512]
