"""Host forwarding rules of user-mode network backends: how they are written, which are set.

No port of the host is opened for one, so a rule is refused for its syntax or because an equal one
is set already, never because another program has the port.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import digits, parse_int64, parse_uint64
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


def add(forwards: list[Forward], rule: str, traits: Traits) -> None:
    """Set a rule besides `forwards`. Raises QapiError."""
    forward = parse(rule, traits)
    # port 0 is any that is free
    if forward.place[2] and any(each.place == forward.place for each in forwards):
        raise QapiError(f"Could not set up host forwarding rule '{rule}'")
    forwards.append(forward)


def remove(forwards: list[Forward], place: Place) -> bool:
    """Take a rule away; False if there is none that arrives there."""
    found = next((each for each in forwards if each.place == place), None)
    if found is None:
        return False
    forwards.remove(found)
    return True


def loose_address(text: str) -> int | None:
    """An IPv4 address of one to four numbers, the last filling what is left."""
    parts = text.split(".")
    try:
        numbers = [parse_uint64(part) for part in parts]
    except ValueError:
        return None
    *head, last = numbers
    room = 8 * (4 - len(head))
    if len(parts) > 4 or any(not 0 <= n < 256 for n in head) or not 0 <= last < 1 << room:
        return None
    return sum(n << (24 - 8 * i) for i, n in enumerate(head)) | last


def _address(text: str) -> int | None:
    return loose_address(text) if text else 0


def _number(text: str) -> int | None:
    """A number as C writes them; nothing at all is 0."""
    try:
        return parse_int64(text) if text else 0
    except ValueError:
        return None
