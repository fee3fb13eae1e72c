"""Transports of character devices that are no sockets and not stdio: files, pipes, ptys, udp.

See chardev/char-file.c: qmp_chardev_open_file(); chardev/char-pipe.c: qemu_chr_open_pipe();
chardev/char-pty.c: char_pty_open(); chardev/char-udp.c: qmp_chardev_open_udp().
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import Any

from fakeqemu.io.addresses import error_text, new_socket, remove_file, resolve
from fakeqemu.io.chardev.link_transport import LinkTransport
from fakeqemu.io.chardev.terminal import make_raw
from fakeqemu.io.files.fdset_open import Opener
from fakeqemu.io.link import FileEnd, SocketEnd
from fakeqemu.io.loop import Handle, Loop
from fakeqemu.io.process.error_prefix import print_text
from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.qapi.errors import NotModelledError, QapiError

_PTY_POLL = 1.0


class OutputFile:
    """A file: written at once, because files never make one wait; perhaps read from another."""

    def __init__(self, loop: Loop, chardev: Chardev, opener: Opener) -> None:
        options = chardev.options
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if options.get("append") else os.O_TRUNC)
        self._out = _open(options["out"], flags, opener)
        self._input: LinkTransport | None = None
        if "in" in options:
            try:
                source = _open(options["in"], os.O_RDONLY, opener)
            except QapiError:
                os.close(self._out)
                raise
            self._input = LinkTransport(loop, chardev, FileEnd(source, -1))

    def write(self, data: bytes) -> None:
        """Write; a full disk is the user's affair."""
        with contextlib.suppress(OSError):
            os.write(self._out, data)

    def set_reading(self, reading: bool) -> None:
        """Only an input file has anything to read."""
        if self._input is not None:
            self._input.set_reading(reading)

    def disconnect(self) -> None:
        """There is no client to drop."""

    def add_client(self, fd: int) -> bool:  # noqa: ARG002
        """There can be none."""
        return False

    def flush(self, timeout: float) -> None:
        """Nothing is ever queued."""

    def close(self) -> None:
        """Close the files."""
        os.close(self._out)
        if self._input is not None:
            self._input.close()


class PtyTransport(LinkTransport):
    """A pseudo-terminal; connected while its other end is open, which only polling shows."""

    def __init__(self, loop: Loop, chardev: Chardev) -> None:
        try:
            master, slave = os.openpty()
        except OSError as error:
            raise QapiError(f"Failed to create PTY: {error_text(error)}") from None
        self._name = os.ttyname(slave)
        make_raw(slave, signals=False)
        os.close(slave)
        self._master = master
        self._timer: Handle | None = None
        self._reading = False
        self._closed = False
        #: a link that leads to the terminal
        self._link_path = chardev.options.get("path")
        if self._link_path is not None:
            try:
                os.symlink(self._name, self._link_path)  # noqa: PTH211
            except OSError as error:
                os.close(master)
                raise QapiError(
                    f"Failed to create PTY symlink: {error_text(error)}"
                ) from None
        super().__init__(loop, chardev, FileEnd(master, master))
        chardev.named(f"pty:{self._name}")
        self._look()

    def write(self, data: bytes) -> None:
        """Send, if connected."""
        if self._chardev.connected:
            super().write(data)

    def set_reading(self, reading: bool) -> None:
        """Read only while connected: a terminal without another end reads as an error."""
        self._reading = reading
        self._link.set_reading(reading and self._chardev.connected)

    def close(self) -> None:
        """Stop asking too."""
        self._closed = True
        if self._link_path is not None:
            remove_file(self._link_path)
        if self._timer is not None:
            self._timer.cancel()
        super().close()

    def _look(self) -> None:
        if self._closed:
            return
        poll = select.poll()
        poll.register(self._master, select.POLLHUP)
        hung_up = bool(poll.poll(0))
        if hung_up == self._chardev.connected:
            if hung_up:
                self._link.set_reading(False)
                self._chardev.closed()
            else:
                self._chardev.opened()
                self._link.set_reading(self._reading)
        self._timer = self._loop.call_later(_PTY_POLL, self._look)


def open_file_like(loop: Loop, chardev: Chardev, opener: Opener = os.open) -> None:
    """Give a chardev that is no socket its transport. Raises QapiError."""
    match chardev.backend:
        case "stdio":
            from fakeqemu.io.chardev.stdio import StdioTransport

            chardev.transport = StdioTransport(loop, chardev)
        case "file":
            chardev.transport = OutputFile(loop, chardev, opener)
        case "pipe":
            end = _pipe(chardev.options["device"], opener)
            chardev.transport = LinkTransport(loop, chardev, end)
        case "pty":
            chardev.transport = PtyTransport(loop, chardev)
            return
        case "udp":
            chardev.transport = LinkTransport(loop, chardev, _udp(chardev.options))
        case "serial" | "parallel":
            fd = _open(chardev.options["device"], os.O_RDWR | os.O_NONBLOCK, opener)
            if chardev.backend == "parallel":
                os.close(fd)
                raise QapiError("not a parallel port: Inappropriate ioctl for device")
            chardev.transport = LinkTransport(loop, chardev, FileEnd(fd, fd))
        case backend:
            raise NotModelledError(f"chardev {backend}")
    chardev.opened()


def _open(path: str, flags: int, opener: Opener) -> int:
    try:
        return opener(path, flags, 0o666)
    except OSError as error:
        raise QapiError(f"Could not open '{path}': {error_text(error)}") from None


def _pipe(device: str, opener: Opener) -> FileEnd:
    """PATH.in and PATH.out if both are there, else PATH for both directions."""
    fds: list[int] = []
    with contextlib.suppress(QapiError):
        for name in (f"{device}.in", f"{device}.out"):
            fds.append(_open(name, os.O_RDWR, opener))
        return FileEnd(*fds)
    for fd in fds:
        os.close(fd)
    fd = _open(device, os.O_RDWR, opener)
    return FileEnd(fd, fd)


def _udp(options: dict[str, Any]) -> SocketEnd:
    if options["remote"].get("type", "inet") != "inet":
        raise QapiError("socket type unsupported for datagram")
    remote = {"host": "localhost", **options["remote"].get("data", {})}
    local = options.get("local", {}).get("data", {"host": "", "port": "0"})
    if not remote.get("host"):
        remote["host"] = "localhost"
    if not remote.get("port"):
        raise QapiError("remote port not specified")
    family, peer = resolve(remote, passive=False)[0]
    sock = new_socket(
        family, socket.SOCK_DGRAM, f"Failed to create socket family {family:d}"
    )
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(_own_name(local, family))
    except QapiError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise QapiError(f"Failed to bind socket: {error_text(error)}") from None
    sock.connect(peer)
    return SocketEnd(sock)


def _own_name(local: dict[str, Any], family: int) -> Any:
    """The name to bind to: any host and port where none is said. Raises QapiError."""
    host = local.get("host") or ("::" if family == socket.AF_INET6 else "0.0.0.0")
    address = {**local, "host": host, "port": local.get("port") or "0"}
    families = {"ipv4": family == socket.AF_INET, "ipv6": family == socket.AF_INET6}
    return resolve({**address, **families}, passive=True)[0][1]


def announce_pty(chardev: Chardev) -> None:
    """The line QEMU prints on standard output for a terminal made by the command line."""
    name = chardev.filename.removeprefix("pty:")
    print_text(f"char device redirected to {name} (label {chardev.id})\n")
