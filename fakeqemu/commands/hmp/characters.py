"""A number that the human monitor prints as a character. See monitor/hmp.c: monitor_printc()."""

from __future__ import annotations

_NAMED = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r"}


def character(number: int) -> str:
    """An int of C in quotes: what cannot be printed is escaped, with all of its digits."""
    code = number & 0xFFFFFFFF
    char = chr(code) if code <= 126 else ""
    shown = _NAMED.get(char) or (char if code >= 32 else "") or f"\\x{code:02x}"
    return f"'{shown}'"
