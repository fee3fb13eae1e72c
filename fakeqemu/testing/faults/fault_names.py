"""Refusing what nobody knows: every name a tester writes is checked where it is given.

A misspelt command in a fault would otherwise never match, and the test would pass for the
wrong reason.
"""

from __future__ import annotations

from collections.abc import Iterable

from fakeqemu.testing.names import UnknownNameError

__all__ = ["UnknownNameError", "check_name"]


def check_name(kind: str, name: object, known: Iterable[str]) -> str:
    """`name` if it is one of `known`. Raises UnknownNameError."""
    names = sorted(known)
    if isinstance(name, str) and name in names:
        return name
    raise UnknownNameError(kind, str(name), names)
