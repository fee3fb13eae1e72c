"""How host forwarding rules of user-mode networks are written. See net/slirp.c: slirp_hostfwd()."""

from __future__ import annotations

import re

from fakeqemu.dataclass import dataclass
from fakeqemu.model.net.sockets.addresses import c_integer, inet_aton
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import digits
from fakeqemu.traits import Traits

#: where a rule arrives: (is UDP, host address as a number, host port)
Place = tuple[bool, int, int]
_PORTS = 65535


@dataclass(frozen=True, slots=True)
class Forward:
    """One rule."""

    place: Place
    #: the guest's address as a number (0: the one DHCP gives first) and port
    guest: tuple[int, int]


def parse(rule: str, traits: Traits) -> Forward:
    """`[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport`. Raises QapiError."""

    def wrong(why: str) -> QapiError:
        return QapiError(f"Invalid host forwarding rule '{rule}' ({why})")

    protocol, colon, rest = rule.partition(":")
    if not colon:
        raise wrong("No : separators")
    if protocol not in ("tcp", "udp", ""):
        raise wrong("Bad protocol name")
    host, colon, rest = rest.partition(":")
    if not colon:
        raise wrong("Missing : separator")
    host_address = _address(host)
    if host_address is None:
        raise wrong("Bad host address")
    text, dash, rest = rest.partition("-")
    if not dash:
        raise wrong("Bad host port separator")
    port = _number(text) if text or traits.forward_port_may_be_empty else None
    if port is None or not 0 <= port <= _PORTS:
        raise wrong("Bad host port")
    guest, colon, text = rest.partition(":")
    if not colon:
        raise wrong("Missing guest address")
    guest_address = _address(guest)
    if guest_address is None:
        raise wrong("Bad guest address")
    guest_port = _number(text)
    if guest_port is None or not 1 <= guest_port <= _PORTS:
        raise wrong("Bad guest port")
    return Forward((protocol == "udp", host_address, port), (guest_address, guest_port))


def parse_place(text: str) -> Place | None:
    """`[tcp|udp]:[hostaddr]:hostport`, what names a rule that is to go; None if it is not that."""
    protocol, _, rest = text.partition(":")
    host, colon, port = rest.partition(":")
    address = _address(host)
    if not colon or protocol not in ("tcp", "udp", "") or address is None:
        return None
    match = re.fullmatch(r"\s*([+-]?)([0-9]+)", port)
    if match is None:
        return None
    number = digits(match[2]) or 0
    return protocol == "udp", address, -number if match[1] == "-" else number


def _address(text: str) -> int | None:
    return inet_aton(text) if text else 0


def _number(text: str) -> int | None:
    """A number as C writes them; nothing at all is 0."""
    return c_integer(text) if text else 0
