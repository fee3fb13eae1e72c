"""Migration addresses: URIs to QAPI MigrationAddress and back, and what a transport can do.

An address is a plain dict as the QAPI union shows it, `transport` first. The parser for
`tcp:` of 11.1 is a key=value parser with real option names; before, it only searched the text for
options it knew, so that unknown ones were ignored.

See migration/migration.c: migrate_uri_parse() and migration_channels_and_transport_compatible();
util/qemu-sockets.c: socket_parse().
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fakeqemu.migration.parameters.parameters import Parameters
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import OutOfRangeError, parse_size
from fakeqemu.qapi.readers.sockets import inet_parse, vsock_parse
from fakeqemu.traits import Traits

Address = dict[str, Any]

#: socket types that may be connected to several times
MULTI_CHANNEL_SOCKETS = frozenset({"inet", "unix", "vsock"})

UNIX_SOCKET_REQUIRED = "local migration requires a UNIX domain socket channel"


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
        return {"transport": "socket", "type": "inet", **inet_parse(rest, traits)}
    if scheme == "vsock":
        return {"transport": "socket", "type": "vsock", **vsock_parse(rest)}
    if scheme == "unix":
        if not rest:
            raise QapiError("invalid Unix socket address")
        return {"transport": "socket", "type": "unix", "path": rest}
    if not rest and traits.migration_channels:
        raise QapiError("invalid file descriptor address")
    return {"transport": "socket", "type": "fd", "str": rest}


def _rdma(text: str, traits: Traits) -> Address:
    try:
        return inet_parse(text, traits)
    except QapiError:
        if traits.migration_channels:
            raise
        raise QapiError(f"RDMA ERROR: bad RDMA migration address '{text}'") from None


def _file(text: str, traits: Traits) -> Address:
    filename, option, offset_text = text.partition(",offset=")
    offset = 0
    if option:
        try:
            offset = parse_size(offset_text, traits)
        except ValueError as exc:
            out_of_range = isinstance(exc, OutOfRangeError)
            why = "Numerical result out of range" if out_of_range else "Invalid argument"
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


def requires_unix_socket(parameters: Parameters) -> bool:
    """Whether descriptors go along with the stream, in migration parameter `local`."""
    return bool(parameters.get("local")) and parameters.get("mode") != "cpr-exec"


def check_transport(
    address: Address, capability: Callable[[str], bool], parameters: Parameters
) -> None:
    """Raise QapiError for a transport that the enabled capabilities cannot use."""
    is_file = address["transport"] == "file"
    if capability("mapped-ram") and not is_file:
        raise QapiError("Migration requires seekable transport (e.g. file)")
    if (capability("multifd") or capability("postcopy-preempt")) and not supports_multi_channel(
        address, capability("mapped-ram")
    ):
        raise QapiError("Migration requires multi-channel URIs (e.g. tcp)")
    if capability("multifd") and parameters.get("direct-io") and not is_file:
        raise QapiError("Migration requires a transport that allows for extra fds (e.g. file)")
    if requires_unix_socket(parameters) and address.get("type") not in ("unix", "fd"):
        raise QapiError(UNIX_SOCKET_REQUIRED)
    if parameters.get("mode") == "cpr-transfer" and is_file:
        raise QapiError("Migration requires streamable transport (eg unix)")


def with_family(address: dict[str, Any]) -> dict[str, Any]:
    """The address with `ipv4`/`ipv6` set as the listening socket's family is."""
    if address["type"] == "inet" and not {"ipv4", "ipv6"} & set(address):
        address["ipv6" if ":" in str(address["host"]) else "ipv4"] = True
    return address
