"""Exceptions of a verb on their way from a machine's process to the tester's."""

from __future__ import annotations

from typing import Any

from fakeqemu.qapi.errors import QapiError, error_of_class
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.testing.clock.timekeeper import ClockError
from fakeqemu.testing.names import UnknownNameError

#: what is raised again as it was; all else is a RuntimeError
_KNOWN: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (ClockError, LookupError, SchemaViolation, TypeError, UnknownNameError, ValueError)
}


def to_plain(error: Exception) -> dict[str, Any]:
    """An exception as JSON."""
    if isinstance(error, QapiError):
        return {"kind": "QapiError", "class": error.error_class, "text": error.desc}
    plain: dict[str, Any] = {"kind": type(error).__name__, "text": str(error)}
    if isinstance(error, UnknownNameError):
        plain |= {"name": error.name, "nearest": error.nearest}
    return plain


def from_plain(plain: dict[str, Any]) -> Exception:
    """The exception again."""
    kind, text = plain["kind"], plain["text"]
    if kind == "QapiError":
        return error_of_class(plain["class"], text)
    if kind == "UnknownNameError":
        return UnknownNameError.again(text, plain["name"], plain["nearest"])
    if kind in _KNOWN:
        return _KNOWN[kind](text)
    return RuntimeError(f"{kind}: {text}")
