"""Rows of counts are what their counts are alone, for each width that the format has."""

from __future__ import annotations

import random

import pytest

from fakeqemu.formats.qcow2.refcount.block import RefcountWidth
from fakeqemu.formats.qcow2.tables import CachedTable

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
