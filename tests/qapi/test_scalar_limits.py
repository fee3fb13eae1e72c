"""Numbers as C reads and passes them."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.readers.scalars import c_int, digits, parse_int64, parse_uint64


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0), ("007", 7), ("4294967296", 1 << 32), ("0" * 5000 + "1", 1),
        ("", None), ("-1", None), ("+1", None), (" 1", None), ("1e3", None),
        ("\u00b2", None), ("\u0663", None), ("1_000", None),
    ],
)  # fmt: skip
def test_digits_are_ascii_and_nothing_else(text, number):
    assert digits(text) == number


def test_numbers_of_thousands_of_digits_are_too_large_and_no_trouble():
    endless = "9" * 100_000
    assert digits(endless) >= 1 << 64
    for parse in (parse_int64, parse_uint64):
        with pytest.raises(ValueError, match=r"^9+$"):
            parse(endless)


@pytest.mark.parametrize(
    ("value", "kept"),
    [(5, 5), (-1, -1), (1 << 31, -(1 << 31)), ((1 << 32) + 3, 3), (-(1 << 63), 0)],
)
def test_an_int_keeps_the_low_half(value, kept):
    assert c_int(value) == kept
