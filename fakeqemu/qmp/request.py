"""What a message from a client asks for, and what a message to one looks like.

See qapi/qmp-dispatch.c: qmp_dispatch_check_obj() and qmp_error_response().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import QapiError

#: whether a message carries an id: null is one
NO_ID: Any = object()
#: arguments that are not there
_NOTHING: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Request:
    """A command as the client wrote it."""

    name: str
    arguments: dict[str, Any]
    #: asked for with exec-oob
    oob: bool


def id_of(message: Any) -> Any:
    """The id to send back, or NO_ID."""
    return message.get("id", NO_ID) if isinstance(message, dict) else NO_ID


def command_of(message: Any) -> str | None:
    """The command that a message names, right or wrong as the rest of it may be."""
    if not isinstance(message, dict):
        return None
    name = message.get("execute", message.get("exec-oob"))
    return name if isinstance(name, str) else None


def looks_out_of_band(message: Any) -> bool:
    """Whether the message overtakes the queue, right or wrong as it may be."""
    return isinstance(message, dict) and "exec-oob" in message and "execute" not in message


def parse_request(message: Any, oob_enabled: bool) -> Request:
    """`message` as a request. Raises QapiError for the first mistake in QEMU's order."""
    if not isinstance(message, dict):
        raise QapiError("QMP input must be a JSON object")
    if (
        (name := message.get("execute")).__class__ is str
        and (given := message.get("arguments", _NOTHING)).__class__ is dict
        and len(message) == 1 + (given is not _NOTHING) + ("id" in message)
    ):
        return Request(name, {} if given is _NOTHING else given, False)
    found: str | None = None
    for name, value in qdict.items(message):
        if name == "execute" or (name == "exec-oob" and oob_enabled):
            if not isinstance(value, str):
                raise QapiError(f"QMP input member '{name}' must be a string")
            if found is not None:
                raise QapiError(f"QMP input member '{name}' clashes with '{found}'")
            found = name
        elif name == "arguments":
            if not isinstance(value, dict):
                raise QapiError("QMP input member 'arguments' must be an object")
        elif name != "id":
            raise QapiError(f"QMP input member '{name}' is unexpected")
    if found is None:
        raise QapiError("QMP input lacks member 'execute'")
    return Request(message[found], message.get("arguments", {}), found == "exec-oob")


def success(value: Any, id: Any) -> dict[str, Any]:
    """The reply to a command that succeeded; None is an empty object."""
    return _with_id({"return": {} if value is None else value}, id)


def failure(error: QapiError, id: Any) -> dict[str, Any]:
    """The reply to a command that was refused."""
    return _with_id({"error": {"class": error.error_class, "desc": error.desc}}, id)


def _with_id(reply: dict[str, Any], id: Any) -> dict[str, Any]:
    if id is not NO_ID:
        reply["id"] = id
    return reply
