"""Where a -vnc wants to listen: `host:display` or `unix:path`.

See ui/vnc.c: vnc_display_get_address().
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import digits

_FIRST_PORT = 5900
_LAST_PORT = 65535
_ON = ("on", "yes", "true", "y")


def parse(pairs: Iterable[tuple[str, str]], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Flat SocketAddresses of all `vnc` among an option's keys; none for `none`.

    Raises QapiError.
    """
    texts = [text for key, text in pairs if key == "vnc"]
    if not texts or texts[-1] in ("none", ""):
        return []
    to = int(values.get("to", 0))
    offset = 0 if values.get("reverse") in _ON else _FIRST_PORT
    families = {name: values[name] in _ON for name in ("ipv4", "ipv6") if name in values}
    return [_one(text, offset, to, families) for text in texts]


def _one(text: str, offset: int, to: int, families: dict[str, bool]) -> dict[str, Any]:
    if text.startswith("unix:"):
        if to:
            raise QapiError("Port range not support with UNIX socket")
        return {"type": "unix", "path": text.removeprefix("unix:")}
    host, colon, number = text.rpartition(":")
    if not colon:
        raise QapiError("no vnc port specified")
    if not number:
        raise QapiError("vnc port cannot be empty")
    port = digits(number.strip().removeprefix("+"))
    if port is None or port >= 1 << 64:
        raise QapiError(f"can't convert to a number: {number}")
    port += offset
    if port > _LAST_PORT:
        raise QapiError(f"port {number} out of range")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    address = {"type": "inet", "host": host, "port": str(port), **families}
    return {**address, "to": to + offset} if to else address
