"""Sets of numbers as intervals, beside Python's own sets."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from fakeqemu.formats.intervals import Intervals

RANGE = st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda at: (at[0], at[0] + at[1]))
CHANGES = st.lists(st.tuples(st.booleans(), RANGE), max_size=10)


def both(changes: list[tuple[bool, tuple[int, int]]]) -> tuple[Intervals, set[int]]:
    made, plain = Intervals(), set[int]()
    for adds, (first, end) in changes:
        if adds:
            made.add(first, end)
            plain |= set(range(first, end))
        else:
            made.remove(first, end)
            plain -= set(range(first, end))
    return made, plain


def numbers(intervals: Intervals) -> set[int]:
    return {number for first, end in intervals for number in range(first, end)}


@settings(max_examples=100, derandomize=True)
@given(CHANGES, CHANGES, RANGE)
def test_they_hold_what_a_set_holds(one, other, place):
    mine, plain = both(one)
    its, others = both(other)
    first, end = place
    assert (numbers(mine), mine.total, bool(mine)) == (plain, len(plain), bool(plain))
    assert {number for number in range(90) if number in mine} == plain
    assert numbers(mine | its) == plain | others
    assert numbers(mine & its) == plain & others
    assert numbers(mine - its) == plain - others
    inside = plain & set(range(first, end))
    assert numbers(Intervals(mine.within(first, end))) == inside
    assert list(mine.units(7)) == sorted({number // 7 for number in plain})
    mine.clip(first)
    assert numbers(mine) == {number for number in plain if number < first}


@settings(max_examples=100, derandomize=True)
@given(CHANGES, st.integers(0, 12))
def test_bits(changes, cut):
    mine, plain = both(changes)
    data = mine.to_bits(0, 12)
    assert {at for at in range(96) if data[at // 8] >> at % 8 & 1} == plain
    again = Intervals()
    again.append_bits(0, data[:cut])
    again.append_bits(cut * 8, data[cut:])
    assert again == mine
    assert mine.to_bits(cut * 8, 12 - cut) == data[cut:]
    assert mine.to_bits(3, 1)[0] == int.from_bytes(data[:2], "little") >> 3 & 0xFF


def test_neighbours_cost_one_interval():
    mine = Intervals((at, at + 1) for at in range(0, 1 << 62, 1 << 55))
    mine.add(0, 1 << 62)
    assert (mine.pieces, mine.total) == (1, 1 << 62)
