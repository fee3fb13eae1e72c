"""Socket addresses between QAPI's form and the kernel's, with QEMU's error texts.

A flat SocketAddress in, a socket out. Texts are those of QEMU's socket helpers, which every
user of sockets (character devices, migration, NBD) shares.

See util/qemu-sockets.c: socket_listen(), socket_connect(), inet_listen_saddr() and
inet_connect_saddr().
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from typing import Any

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes, decode_lossy
from fakeqemu.qapi.readers.scalars import c_int, digits

_PATH_LIMIT = 107
#: bytes of a service that a listener keeps
_PORT_LENGTH = 32

#: Linux's numbers, which other hosts refuse when they are used
_AF_VSOCK = getattr(socket, "AF_VSOCK", 40)
_KEEPIDLE = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", 4))
#: (member of an address, option of a TCP socket, its name in errors), in the order they are set
_KEEP_ALIVE = (
    ("keep-alive-count", socket.TCP_KEEPCNT, "TCP keep-alive count"),
    ("keep-alive-idle", _KEEPIDLE, "TCP keep-alive idle"),
    ("keep-alive-interval", socket.TCP_KEEPINTVL, "TCP keep-alive interval"),
)


def error_text(error: OSError) -> str:
    """The system's words for `error`, as QEMU appends them."""
    return os.strerror(error.errno) if error.errno else str(error)


def remove_file(path: str) -> None:
    """Remove a file if it is there. Raises OSError when it cannot be.

    QEMU removes whatever has the name; a device of the host is spared here.
    """
    with contextlib.suppress(FileNotFoundError):
        if not _is_device(path):
            os.unlink(path)  # noqa: PTH108 - importing pathlib would slow every start


def _is_device(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False  # what cannot be removed either: the host says why
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def describe(address: dict[str, Any]) -> str:
    """An address as it stands in "Failed to connect to '...'"."""
    match address["type"]:
        case "inet":
            return f"{address['host']}:{address['port']}"
        case "unix":
            return str(address["path"])
        case "fd":
            return str(address["str"])
    return f"{address.get('cid')}:{address.get('port')}"


def flat_name(name: Any, family: int) -> dict[str, Any]:
    """A kernel socket name as a flat SocketAddress."""
    if family in (socket.AF_INET, socket.AF_INET6):
        return {"type": "inet", "host": name[0], "port": str(name[1])}
    if family == socket.AF_UNIX:
        if isinstance(name, bytes):
            return {"type": "unix", "path": os.fsdecode(name[1:]), "abstract": True}
        return {"type": "unix", "path": name}
    if family == _AF_VSOCK:
        return {"type": "vsock", "cid": str(name[0]), "port": str(name[1])}
    return {"type": "unix", "path": ""}


def local_name(sock: socket.socket) -> dict[str, Any]:
    """The name of this end."""
    return flat_name(sock.getsockname(), sock.family)


def peer_name(sock: socket.socket) -> dict[str, Any]:
    """The name of the other end; an empty path where it has none."""
    try:
        return flat_name(sock.getpeername(), sock.family)
    except OSError:
        return {"type": "unix", "path": ""}


def listen_on(address: dict[str, Any], backlog: int = 1) -> socket.socket:
    """A listening, non-blocking socket at `address`. Raises QapiError."""
    match address["type"]:
        case "inet":
            sock = _listen_inet(address, backlog)
        case "unix":
            sock = _listen_unix(address, backlog)
        case "fd":
            sock = socket_of_fd(address)
            try:
                sock.listen(backlog)
            except OSError as error:
                sock.detach()
                raise QapiError(
                    f"Failed to listen on fd socket: {error_text(error)}"
                ) from None
        case "vsock":
            sock = _listen_vsock(address, backlog)
        case kind:
            raise QapiError(f"socket type '{kind}' is not supported here")
    sock.setblocking(False)
    return sock


def new_client(address: dict[str, Any]) -> tuple[socket.socket, Any]:
    """A socket for a connection to `address`, and what connect(2) takes. Raises QapiError."""
    family: int = socket.AF_UNIX
    if address["type"] == "unix":
        # QEMU hands over all of a struct sockaddr_un, in which no path is an abstract name
        target: Any = unix_target(address) or bytes(_PATH_LIMIT + 1)
    elif address["type"] == "vsock":
        family, target = _AF_VSOCK, vsock_target(address)
    else:
        family, target = resolve(address, passive=False)[0]
    inet = address["type"] == "inet"
    failure = f"Failed to create socket family {family:d}" if inet else "Failed to create socket"
    sock = new_socket(family, failure=failure, protocol=_protocol(address))
    if inet:
        _keep_alive(sock, address)
    return sock, target


def connect_error(address: dict[str, Any], error: OSError) -> QapiError:
    """QEMU's words for a connection that was refused."""
    return QapiError(f"Failed to connect to '{describe(address)}': {error_text(error)}")


def unix_target(address: dict[str, Any]) -> str | bytes:
    """What bind(2) and connect(2) take for a UNIX address. Raises QapiError if too long."""
    path = address["path"]
    if address.get("abstract"):
        name = b"\0" + os.fsencode(path)
        return name if address.get("tight", True) else name.ljust(_PATH_LIMIT + 1, b"\0")
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise QapiError(
            f"UNIX socket path '{path}' is too long",
            f"Path must be less than {_PATH_LIMIT + 1} bytes",
        )
    return str(path)


def vsock_target(address: dict[str, Any]) -> tuple[int, int]:
    """What bind(2) and connect(2) take for a vsock address. Raises QapiError for no numbers."""
    return _vsock_number(address, "cid"), _vsock_number(address, "port")


def _vsock_number(address: dict[str, Any], member: str) -> int:
    text = str(address[member])
    match = re.fullmatch(r"[ \t]*\+?([0-9]+)", text)
    number = digits(match[1]) if match is not None else None
    if number is None or number >= 1 << 32:
        raise QapiError(f"Failed to parse {member} '{text}'")
    return number


def new_socket(
    family: int,
    kind: int = socket.SOCK_STREAM,
    failure: str = "Failed to create socket",
    *,
    protocol: int = 0,
) -> socket.socket:
    """A socket. Raises QapiError, beginning with `failure`, where the host gives none."""
    try:
        return socket.socket(family, kind, protocol)
    except OSError as error:
        raise QapiError(f"{failure}: {error_text(error)}") from None


def _protocol(address: dict[str, Any]) -> int:
    """What an address asks for beyond its family: multipath TCP, or what is usual."""
    return getattr(socket, "IPPROTO_MPTCP", 262) if address.get("mptcp") else 0


def _keep_alive(sock: socket.socket, address: dict[str, Any]) -> None:
    """Have connections looked after by the kernel, as the address asks.

    A listening socket hands it on to those it accepts, as since 10.1; before, the resolver left
    the members out (io/dns-resolver.c: qio_dns_resolver_lookup_sync_inet()). Closes the socket and
    raises QapiError where the kernel does not take a value.
    """
    if not address.get("keep-alive"):
        return
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, "keep-alive")]
    for member, option, name in _KEEP_ALIVE:
        if value := address.get(member):
            options.append((socket.IPPROTO_TCP, option, value, name))
    for level, option, value, name in options:
        try:
            sock.setsockopt(level, option, c_int(value))
        except OSError as error:
            sock.close()
            raise QapiError(
                f"Unable to set {name} option on socket: {error_text(error)}"
            ) from None


def resolve(address: dict[str, Any], *, passive: bool) -> list[tuple[int, Any]]:
    """(family, socket name) of an inet address, in the resolver's order. Raises QapiError."""
    host, port = address.get("host", ""), c_bytes(address["port"])
    if passive:
        # what a listener keeps of it (inet_listen_saddr())
        port = port[:_PORT_LENGTH]
    if passive and not host:
        host = None  # everywhere; nobody can be connected to there
    elif isinstance(host, str):
        host = c_bytes(host)  # as it is: names need not be good ones
    family = _family(address)
    flags = socket.AI_PASSIVE if passive else socket.AI_V4MAPPED | socket.AI_ADDRCONFIG
    if passive and address.get("numeric"):
        # who connects looks names up all the same (inet_parse_connect_saddr())
        flags |= socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, flags)
    except socket.gaierror as error:
        raise QapiError(
            f"address resolution failed for {address.get('host', '')}:{decode_lossy(port)}:"
            f" {error.strerror}"
        ) from None
    return [(int(entry[0]), entry[4]) for entry in found]


def _family(address: dict[str, Any]) -> int:
    """The one family that `ipv4` and `ipv6` leave, or any. Raises QapiError if they leave none."""
    ipv4, ipv6 = address.get("ipv4"), address.get("ipv6")
    if ipv4 is False and ipv6 is False:
        raise QapiError("Cannot disable IPv4 and IPv6 at same time")
    if ipv4 and ipv6:
        return socket.AF_UNSPEC
    if ipv6 or ipv4 is False:
        return socket.AF_INET6
    if ipv4 or ipv6 is False:
        return socket.AF_INET
    return socket.AF_UNSPEC


def socket_of_fd(address: dict[str, Any]) -> socket.socket:
    """The socket behind a descriptor address; its number in `number` or `str`.

    Raises QapiError if it is not a number, not open or not a socket.
    """
    text = str(address.get("number", address["str"]))
    fd = digits(text)
    if fd is None:
        raise QapiError(f"Unable to parse FD number {text}")
    if c_int(fd) != fd:
        raise QapiError(f"Unable to parse FD number {text}: Numerical result out of range")
    if not _is_socket(fd):
        if "number" in address:
            os.close(fd)  # it was handed over for this
        raise QapiError(f"File descriptor '{address['str']}' is not a socket")
    return socket.socket(fileno=fd)


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _listen_vsock(address: dict[str, Any], backlog: int) -> socket.socket:
    target = vsock_target(address)
    sock = new_socket(_AF_VSOCK)
    try:
        sock.bind(target)
    except OSError as error:
        sock.close()
        raise QapiError(f"Failed to bind socket: {error_text(error)}") from None
    sock.listen(backlog)
    return sock


def _listen_inet(address: dict[str, Any], backlog: int) -> socket.socket:
    last = address.get("to")
    error: OSError | None = None
    failure = "Failed to create a socket"
    for family, target in resolve(address, passive=True):
        for port in range(target[1], (last or target[1]) + 1):
            try:
                sock = socket.socket(family, socket.SOCK_STREAM, _protocol(address))
            except OSError as caught:
                # the host may have nothing of this family, and something of another
                error = caught
                break
            failure = "Failed to find an available port"
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6 and not address.get("ipv4"):
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((target[0], port & 0xFFFF, *target[2:]))
                sock.listen(backlog)
            except OSError as caught:
                error = caught
                sock.close()
                if caught.errno != errno.EADDRINUSE:
                    raise QapiError(f"Failed to bind socket: {error_text(caught)}") from None
                continue
            _keep_alive(sock, address)
            return sock
    if error is None:
        # there is no port between the first and the last
        raise QapiError(failure)
    raise QapiError(f"{failure}: {error_text(error)}")


def _listen_unix(address: dict[str, Any], backlog: int) -> socket.socket:
    target = unix_target(address)
    sock = new_socket(socket.AF_UNIX, failure="Failed to create Unix socket")
    if isinstance(target, str):
        try:
            remove_file(target)
        except OSError as error:
            sock.close()
            raise QapiError(
                f"Failed to unlink socket {target}: {error_text(error)}"
            ) from None
    try:
        sock.bind(target)
    except OSError as error:
        sock.close()
        raise QapiError(
            f"Failed to bind socket to {address['path']}: {error_text(error)}"
        ) from None
    sock.listen(backlog)
    return sock
