"""Matchers for arguments that a test expects: each is equal to what it fits.

    vm.expect("migrate", {"uri": Glob("unix:*")})
    vm.expect_in_order("stop", ("blockdev-del", {"node-name": OneOf("a", "b")}), "cont")

They may stand anywhere in an argument, in lists and objects too, and beside those of others that
are equal to what they fit (`unittest.mock.ANY`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any


class Matcher:
    """Equal to what `fits` says."""

    def __init__(self, *given: Any) -> None:
        self._given = given

    def fits(self, value: Any) -> bool:
        """Whether it is equal to `value`."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return self.fits(other)

    def __hash__(self) -> int:
        raise TypeError("what fits has hashes of its own")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._given))})"


class Glob(Matcher):
    """Text that fits a pattern with `*`, `?` and `[...]`."""

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        self._pattern = pattern

    def fits(self, value: Any) -> bool:
        """Whether it is such text."""
        return isinstance(value, str) and fnmatchcase(value, self._pattern)


class Regex(Matcher):
    """Text in which a regular expression is found."""

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        self._pattern = re.compile(pattern)

    def fits(self, value: Any) -> bool:
        """Whether it is such text."""
        return isinstance(value, str) and self._pattern.search(value) is not None


class OneOf(Matcher):
    """One of some values, which may be matchers."""

    def fits(self, value: Any) -> bool:
        """Whether it is one of them."""
        return any(each == value for each in self._given)


class InRange(Matcher):
    """A number from `low` to `high`, both included."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(low, high)
        self._low, self._high = low, high

    def fits(self, value: Any) -> bool:
        """Whether it is such a number."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self._low <= value <= self._high


class Has(Matcher):
    """An object that has these members, and perhaps others."""

    def __init__(self, members: dict[str, Any]) -> None:
        super().__init__(members)
        self._members = members

    def fits(self, value: Any) -> bool:
        """Whether it is such an object."""
        return isinstance(value, dict) and all(
            name in value and wanted == value[name] for name, wanted in self._members.items()
        )


class Check(Matcher):
    """Whatever a function says is right."""

    def __init__(self, function: Callable[[Any], object]) -> None:
        super().__init__(function)
        self._function = function

    def fits(self, value: Any) -> bool:
        """Whether the function says so."""
        return bool(self._function(value))
