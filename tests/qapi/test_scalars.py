"""Integers, sizes, numbers, switches and identifiers as text, by version."""

from __future__ import annotations

import pytest

from fakeqemu.profile import Profile
from fakeqemu.qapi.readers import scalars
from fakeqemu.qapi.readers.scalars import MalformedError, OutOfRangeError
from fakeqemu.traits import Traits

OLD = Profile.load("7.2").traits
NEW = Traits()


@pytest.mark.parametrize("traits", [OLD, NEW], ids=["7.2", "next"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("1k", 1024), ("1.5M", 3 << 19), (" 1k", 1024), ("+1", 1), ("1.k", 1024),
        ("010", 10), ("0x1e", 30), ("1b", 1), ("1.0", 1), ("15E", 15 << 60), ("1.e", 1 << 60),
        ("18446744073709551615", 2**64 - 1), ("0.0006k", 1), ("0.0004k", 0), ("1.0007M", 1049310),
    ],
)  # fmt: skip
def test_sizes(text, value, traits):
    assert scalars.parse_size(text, traits) == value


@pytest.mark.parametrize("traits", [OLD, NEW], ids=["7.2", "next"])
@pytest.mark.parametrize(
    "text",
    ["", "k", "1.5", "1kB", "1e3", "0x1.8k", ".", "1.1e1k", "0x", "0x1.", "1 k", "1k ", "x", "--1"],
)
def test_no_sizes(text, traits):
    with pytest.raises(MalformedError):
        scalars.parse_size(text, traits)


@pytest.mark.parametrize("traits", [OLD, NEW], ids=["7.2", "next"])
@pytest.mark.parametrize("text", ["16E", "18446744073709551616", "1024P.5", "17179869184.0G"])
def test_sizes_that_do_not_fit(text, traits):
    with pytest.raises(ValueError):
        scalars.parse_size(text, traits)


def test_sizes_that_versions_read_differently():
    assert scalars.parse_size("0x10k", OLD) == 16384
    with pytest.raises(MalformedError):
        scalars.parse_size("0x10k", NEW)
    assert scalars.parse_size(".5k", NEW) == 512
    with pytest.raises(MalformedError):
        scalars.parse_size(".5k", OLD)
    with pytest.raises(MalformedError):
        scalars.parse_size("-1", OLD)
    with pytest.raises(OutOfRangeError):
        scalars.parse_size("-1", NEW)


def test_a_size_with_something_behind_it():
    assert scalars.strtosz("4k rest", NEW) == (4096, 2)
    assert scalars.strtosz("4 rest", NEW, "m") == (4 << 20, 1)
    assert scalars.strtosz("1.5", NEW, "m") == (3 << 19, 3)


def test_integers():
    assert scalars.parse_int64("-0x10") == -16
    assert scalars.parse_int64("010") == 8
    assert scalars.parse_uint64("-1") == 2**64 - 1
    assert scalars.strtou64("0x") == (0, 1)
    for text in ("", "1 ", "1x", "09", "+-1", "\u0661"):
        with pytest.raises(MalformedError):
            scalars.parse_int64(text)
    for text in ("9223372036854775808", "-9223372036854775809"):
        with pytest.raises(OutOfRangeError):
            scalars.parse_int64(text)
    with pytest.raises(OutOfRangeError):
        scalars.parse_uint64("18446744073709551616")


def test_floating_point():
    assert scalars.parse_double("0x1.8p1") == 3.0
    assert scalars.strtod("1.5ms") == (1.5, 3)
    for text in ("inf", "nan", "1e999"):
        with pytest.raises(OutOfRangeError):
            scalars.parse_double(text)
    with pytest.raises(MalformedError):
        scalars.parse_double("one")


def test_switches():
    assert [scalars.parse_switch(text) for text in ("on", "yes", "true", "y")] == [True] * 4
    assert [scalars.parse_switch(text) for text in ("off", "no", "false", "n")] == [False] * 4
    for text in ("ON", "1", "", "on "):
        with pytest.raises(MalformedError):
            scalars.parse_switch(text)


def test_identifiers():
    assert scalars.is_identifier("a-b.c_9")
    for text in ("", "9a", "_a", "a b", "a\n", "\u00e9"):
        assert not scalars.is_identifier(text)
