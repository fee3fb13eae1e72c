"""Addresses of the older network backends: IPv4 hosts and ports as texts, descriptors by name.

See net/net.c: parse_host_port(); net/socket.c: net_init_socket().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import parse_int64

if TYPE_CHECKING:
    from fakeqemu.model.net.sockets.host_sockets import NetSockets

#: (IPv4 address in dotted form, port)
HostPort = tuple[str, int]

_LONG = 1 << 63
_PORTS = 1 << 16


def host_port(sockets: NetSockets, host: str, port: str) -> HostPort:
    """See net/net.c: convert_host_port(). Raises QapiError."""
    address = "0.0.0.0"
    if host[:1].isdigit():
        number = inet_aton(host)
        if number is None:
            raise QapiError(f"host address '{host}' is not a valid IPv4 address")
        address = dotted(number)
    elif host:
        found = sockets.resolve_ipv4(host)
        if found is None:
            raise QapiError(f"can't resolve host address '{host}'")
        address = found
    number = c_integer(port)
    if number is None:
        raise QapiError(f"port number '{port}' is invalid")
    return address, number % _PORTS


def parse_host_port(sockets: NetSockets, text: str) -> HostPort:
    """`host:port`. See net/net.c: parse_host_port(). Raises QapiError."""
    host, colon, port = text.partition(":")
    if not colon:
        raise QapiError(
            f"host address '{text}' doesn't contain ':' separating host from port"
        )
    return host_port(sockets, host, port)


def inet_aton(text: str) -> int | None:
    """An IPv4 address of one to four numbers, the last filling what is left; None for others."""
    parts = text.split(".")
    numbers: list[int] = []
    for part in parts:
        number = c_integer(part)
        if number is None or not part[:1].isdigit():
            return None
        numbers.append(number)
    *head, last = numbers
    room = 8 * (4 - len(head))
    if len(parts) > 4 or any(not 0 <= n < 256 for n in head) or not 0 <= last < 1 << room:
        return None
    return sum(n << (24 - 8 * i) for i, n in enumerate(head)) | last


def dotted(number: int) -> str:
    """An IPv4 address as it is shown. See inet_ntoa(3)."""
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def is_multicast(address: str) -> bool:
    """Whether an address in dotted form names a group."""
    return 224 <= int(address.split(".", maxsplit=1)[0]) < 240


def c_integer(text: str) -> int | None:
    """A number as strtol(3) with base 0 reads all of `text`; None if it is none."""
    try:
        number = parse_int64(text)
    except ValueError:
        return None
    return number if -_LONG <= number < _LONG else None
