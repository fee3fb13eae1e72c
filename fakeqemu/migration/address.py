"""Migration addresses: URIs to QAPI MigrationAddress and back, and what a transport can do.

An address is a plain dict as the QAPI union shows it, `transport` first. The parser for
`tcp:` of 11.1 is a key=value parser with real option names; before, it only searched the
text for options it knew, so that unknown ones went unseen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fakeqemu.migration.parameters import Parameters
from fakeqemu.migration.stringinput import (
    SizeFormatError,
    SizeRangeError,
    parse_size_text,
    parse_switch,
)
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.numbers import parse_int, parse_uint
from fakeqemu.traits import Traits

Address = dict[str, Any]

#: socket types that may be connected to several times
MULTI_CHANNEL_SOCKETS = frozenset({"inet", "unix", "vsock"})

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


def looks_like_uri(text: str) -> bool:
    """Whether an `-incoming` argument is taken for a URI: letters, then a colon."""
    return re.match(r"[A-Za-z]*:", text) is not None


def parse_uri(uri: str, traits: Traits) -> Address:
    """The address a migration URI names. Raises QapiError."""
    scheme, colon, rest = uri.partition(":")
    known = bool(colon) and scheme in ("exec", "rdma", "tcp", "unix", "vsock", "fd")
    if colon and scheme == "file" and traits.migration_channels:
        return _file(rest, traits)
    if not known:
        raise QapiError(f"unknown migration protocol: {uri}")
    if scheme == "exec":
        return {"transport": "exec", "args": ["/bin/sh", "-c", rest]}
    if scheme == "rdma":
        return {"transport": "rdma", **_rdma(rest, traits)}
    if scheme == "tcp":
        return {"transport": "socket", "type": "inet", **parse_inet(rest, traits)}
    if scheme == "vsock":
        return {"transport": "socket", "type": "vsock", **_vsock(rest)}
    if scheme == "unix":
        if not rest:
            raise QapiError("invalid Unix socket address")
        return {"transport": "socket", "type": "unix", "path": rest}
    if not rest and traits.migration_channels:
        raise QapiError("invalid file descriptor address")
    return {"transport": "socket", "type": "fd", "str": rest}


def parse_inet(text: str, traits: Traits) -> Address:
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
        try:
            address["to"] = parse_int(match[1])
        except ValueError:
            raise QapiError("error parsing to= argument") from None
    for name in _SWITCHES:
        at = options.find(f",{name}")
        if at < 0:
            continue
        flag = options[at + len(name) + 1 :].partition(",")[0]
        switch = {"": True, "=on": True, "=off": False}.get(flag)
        if switch is None:
            raise QapiError(f"error parsing '{name}' flag '{flag}'")
        address[name] = switch
    return address


def _inet_options(options: str) -> Address:
    given: dict[str, str | None] = {}
    for option in filter(None, options.split(",")):
        name, equals, value = option.partition("=")
        if name not in (*_SWITCHES, *_NUMBERS, "numeric"):
            raise QapiError(f"Invalid parameter '{name}'")
        given[name] = value if equals else None
    address: Address = {}
    for name, text in given.items():
        if name in _NUMBERS:
            try:
                address[name] = parse_uint(text or "")
            except ValueError:
                raise QapiError(f"Parameter '{name}' expects a number") from None
            continue
        switch = True if text is None else parse_switch(text)
        if switch is None:
            raise QapiError(f"Parameter '{name}' expects 'on' or 'off'")
        address[name] = switch
    return address


def _rdma(text: str, traits: Traits) -> Address:
    try:
        return parse_inet(text, traits)
    except QapiError:
        if traits.migration_channels:
            raise
        raise QapiError(f"RDMA ERROR: bad RDMA migration address '{text}'") from None


def _vsock(text: str) -> Address:
    match = re.match(r"([^:]{1,32}):([^,]{1,32})", text)
    if match is None:
        raise QapiError(f"error parsing address '{text}'")
    if match.end() != len(text):
        raise QapiError(f"trailing characters in address '{text}'")
    return {"cid": match[1], "port": match[2]}


def _file(text: str, traits: Traits) -> Address:
    filename, option, offset_text = text.partition(",offset=")
    offset = 0
    if option:
        try:
            offset = parse_size_text(offset_text, traits)
        except SizeFormatError:
            raise QapiError(f"file URI has bad offset {offset_text}: Invalid argument") from None
        except SizeRangeError:
            why = "Numerical result out of range"
            raise QapiError(f"file URI has bad offset {offset_text}: {why}") from None
    return {"transport": "file", "filename": filename, "offset": offset}


def socket_uri(address: Address) -> str:
    """A SocketAddress in the short form HMP prints."""
    kind = address["type"]
    if kind == "inet":
        return f"tcp:{address['host']}:{address['port']}"
    if kind == "unix":
        return f"unix:{address['path']}"
    if kind == "vsock":
        return f"vsock:{address['cid']}:{address['port']}"
    return f"fd:{address['str']}"


# -- what a transport can do ---------------------------------------------------------------------


def supports_multi_channel(address: Address, mapped_ram: bool = False) -> bool:
    """Whether the transport takes several connections at once."""
    if address["transport"] == "socket":
        return address["type"] in MULTI_CHANNEL_SOCKETS
    return address["transport"] == "file" and mapped_ram


def _is_unix(address: Address) -> bool:
    return bool(address["transport"] == "socket" and address["type"] == "unix")


def check_transport(
    address: Address, capability: Callable[[str], bool], parameters: Parameters
) -> None:
    """Refuse a transport that the capabilities in force cannot use. Raises QapiError."""
    is_file = address["transport"] == "file"
    if capability("mapped-ram") and not is_file:
        raise QapiError("Migration requires seekable transport (e.g. file)")
    if (capability("multifd") or capability("postcopy-preempt")) and not supports_multi_channel(
        address, capability("mapped-ram")
    ):
        raise QapiError("Migration requires multi-channel URIs (e.g. tcp)")
    if capability("multifd") and parameters.get("direct-io") and not is_file:
        raise QapiError("Migration requires a transport that allows for extra fds (e.g. file)")
    if parameters.get("local") and parameters.get("mode") != "cpr-exec" and not _is_unix(address):
        raise QapiError("local migration requires a UNIX domain socket channel")
    if parameters.get("mode") == "cpr-transfer" and is_file:
        raise QapiError("Migration requires streamable transport (eg unix)")
