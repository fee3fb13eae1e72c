"""How long a tester may have something last: what a 64-bit clock of nanoseconds can count."""

from __future__ import annotations

from typing import Any

from fakeqemu.clock import SECOND

#: seconds
LONGEST = (1 << 63) // SECOND


def is_countable(value: Any) -> bool:
    """Whether this is a number, of seconds say, that fits a clock; it may be negative."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LONGEST


def is_duration(value: Any) -> bool:
    """Whether this is a number of seconds that something can last."""
    return is_countable(value) and bool(value >= 0)
