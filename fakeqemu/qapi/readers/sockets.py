"""Socket addresses as text: HOST:PORT with options, UNIX paths, descriptors, vsock.

See util/qemu-sockets.c: inet_parse(), vsock_parse(), socket_parse(). Since 11.1 the options are
key=value and unknown ones are refused; before, the text was searched for those that are known.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.qemu_opts import parse_bool, parse_number

Address = dict[str, Any]


class InetTraits(Protocol):
    """How a version reads the options of an address; see `Traits`."""

    @property
    def inet_refuses_unknown_options(self) -> bool:
        """Options are key=value, unknown ones are refused."""


_HOST_PORT = (
    # (how the text starts, pattern, what is blamed)
    (":", re.compile(r":([^,]{1,32})"), "error parsing port in address '{}'"),
    ("[", re.compile(r"\[([^]]{1,64})\]:([^,]{1,32})"), "error parsing IPv6 address '{}'"),
    ("", re.compile(r"([^:]{1,64}):([^,]{1,32})"), "error parsing address '{}'"),
)

#: the same where options have been split off before: nothing is too long
_HOST_PORT_WHOLE = (
    (":", re.compile(r":(.+)", re.DOTALL), "error parsing address '{}'"),
    ("[", re.compile(r"\[([^]]+)\]:(.+)", re.DOTALL), "error parsing IPv6 address '{}'"),
    ("", re.compile(r"([^:]+):(.+)", re.DOTALL), "error parsing address '{}'"),
)

#: boolean options of tcp:, searched for in this order
_SWITCHES = ("ipv4", "ipv6", "keep-alive", "mptcp")
#: numeric options of tcp: where unknown ones are refused
_NUMBERS = ("to", "keep-alive-count", "keep-alive-idle", "keep-alive-interval")



def socket_parse(text: str, traits: InetTraits) -> Address:
    """`unix:PATH`, `fd:NAME`, `vsock:CID:PORT` or `[tcp:]HOST:PORT` as a SocketAddress.

    Raises QapiError.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "unix":
        if not rest:
            raise QapiError("invalid Unix socket address")
        return {"type": "unix", "path": rest}
    if colon and kind == "fd":
        if not rest:
            raise QapiError("invalid file descriptor address")
        return {"type": "fd", "str": rest}
    if colon and kind == "vsock":
        return {"type": "vsock", **vsock_parse(rest)}
    return {"type": "inet", **inet_parse(text.removeprefix("tcp:"), traits)}


def inet_parse(text: str, traits: InetTraits) -> Address:
    """`HOST:PORT[,options]` as an InetSocketAddress. Raises QapiError."""
    if traits.inet_refuses_unknown_options:
        address, options = _keyval_head(text)
        return {**_host_port(address, _HOST_PORT_WHOLE)[0], **_inet_options(options)}
    found, end = _host_port(text)
    return {**found, **_inet_searched(text[end:])}


def _keyval_head(text: str) -> tuple[str, str]:
    """What stands before the first comma, a doubled one being part of it, and what after."""
    head = re.match(r"(?:[^,]|,,)*", text)
    assert head is not None
    return head[0].replace(",,", ","), text[head.end() + 1 :]


def _host_port(
    text: str, forms: tuple[tuple[str, re.Pattern[str], str], ...] = _HOST_PORT
) -> tuple[Address, int]:
    start, pattern, blame = next(form for form in forms if text.startswith(form[0]))
    match = pattern.match(text)
    if match is None:
        raise QapiError(blame.format(text))
    host, port = ("", match[1]) if start == ":" else (match[1], match[2])
    return {"host": host, "port": port}, match.end()


def _inet_searched(options: str) -> Address:
    """Options as they were found before 11.1: by looking for `,name` anywhere."""
    address: Address = {}
    at = options.find(",to=")
    if at >= 0:
        match = re.match(r"[ \t]*([+-]?[0-9]+)(?=,|\Z)", options[at + 4 :])
        if match is None:
            raise QapiError("error parsing to= argument")
        address["to"] = int(match[1])
    for name in _SWITCHES:
        at = options.find(f",{name}")
        if at < 0:
            continue
        rest = options[at + len(name) + 1 :]
        flag, _, behind = rest.partition(",")
        # a doubled comma is none of QEMU's separators, and what follows is blamed too
        flag = rest if behind.startswith(",") else flag
        switch = {"": True, "=on": True, "=off": False}.get(flag)
        if switch is None:
            raise QapiError(f"error parsing '{name}' flag '{flag}'")
        address[name] = switch
    return address


def _inet_options(options: str) -> Address:
    given: dict[str, str | None] = {}
    for option in filter(None, options.replace(",,", "\0").split(",")):
        name, equals, value = option.replace("\0", ",").partition("=")
        if name not in (*_SWITCHES, *_NUMBERS, "numeric"):
            raise QapiError(f"Invalid parameter '{name}'")
        given[name] = value if equals else None
    address: Address = {}
    for name, text in given.items():
        if name in _NUMBERS:
            address[name] = parse_number(name, text or "")
        else:
            address[name] = True if text is None else parse_bool(name, text)
    return address


def vsock_parse(text: str) -> Address:
    """`CID:PORT` as a VsockSocketAddress's members. Raises QapiError."""
    match = re.match(r"([^:]{1,32}):([^,]{1,32})", text)
    if match is None:
        raise QapiError(f"error parsing address '{text}'")
    if match.end() != len(text):
        raise QapiError(f"trailing characters in address '{text}'")
    return {"cid": match[1], "port": match[2]}
