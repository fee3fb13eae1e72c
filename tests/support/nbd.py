"""An NBD client that keeps every byte of what a server says, and a process that serves."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.processes import QemuProcess

REQUEST, EXTENDED_REQUEST = 0x25609513, 0x21E41C71
SIMPLE, STRUCTURED, EXTENDED = b"\x67\x44\x66\x98", b"\x66\x8e\x33\xef", b"\x6e\x8a\x27\x8c"
LIST, INFO, GO, STRUCTURED_REPLY, LIST_META, SET_META, EXTENDED_HEADERS = 3, 6, 7, 8, 9, 10, 11
READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS = 0, 1, 3, 4, 5, 6, 7


def text(value: str) -> bytes:
    """A text with its length before it."""
    raw = value.encode()
    return struct.pack(">I", len(raw)) + raw


def meta(export: str, *queries: str) -> bytes:
    """The data of LIST_META and SET_META."""
    return text(export) + struct.pack(">I", len(queries)) + b"".join(map(text, queries))


def go(export: str, *infos: int) -> bytes:
    """The data of INFO and GO."""
    return text(export) + struct.pack(f">H{len(infos)}H", len(infos), *infos)


class Talk:
    """A client. `send` takes bytes to the server, `receive` waits for as many from it."""

    def __init__(
        self, send: Callable[[bytes], None], receive: Callable[[int], bytes], flags: int = 3
    ) -> None:
        self._send, self._receive = send, receive
        self.greeting = receive(18)
        send(struct.pack(">I", flags))

    def option(self, number: int, data: bytes = b"") -> list[Any]:
        """(kind, data) of each reply; bytes where there was none."""
        self._send(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        found: list[Any] = []
        while True:
            head = self._receive(20)
            if len(head) < 20:
                return [*found, head]
            _, _, kind, length = struct.unpack(">QIII", head)
            found.append((kind & 0xFFFF if kind < 1 << 31 else -(kind & 0xFFFF),
                          self._receive(length)))  # fmt: skip
            if kind == 1 or kind >> 31:
                return found

    def request(
        self, kind: int, offset: int = 0, length: int = 0, flags: int = 0, data: bytes = b"",
        *, extended: bool = False,
    ) -> list[Any]:  # fmt: skip
        """What comes back: ("simple", error, data), or (flags, kind, data) of each chunk."""
        head = struct.pack(
            ">IHHQQQ" if extended else ">IHHQQI",
            EXTENDED_REQUEST if extended else REQUEST, flags, kind, 7, offset, length,
        )  # fmt: skip
        self._send(head + data)
        found: list[Any] = []
        while True:
            magic = self._receive(4)
            if magic == SIMPLE:
                error = struct.unpack(">IQ", self._receive(12))[0]
                got = self._receive(length) if kind == READ and not error else b""
                return [*found, ("simple", error, got)]
            if magic == STRUCTURED:
                bits, chunk, _, size = struct.unpack(">HHQI", self._receive(16))
            elif magic == EXTENDED:
                bits, chunk, _, _, size = struct.unpack(">HHQQQ", self._receive(28))
            else:
                return [*found, magic]
            found.append((bits, chunk, self._receive(size)))
            if bits & 1:
                return found

    def extents(self, offset: int, length: int, flags: int = 0) -> dict[int, list[tuple[int, int]]]:
        """Block status: lengths and flags of each context by its number."""
        found = {}
        for _, kind, data in self.request(STATUS, offset, length, flags):
            assert kind == 5
            number, *rest = struct.unpack(f">{len(data) // 4}I", data)
            found[number] = list(zip(rest[::2], rest[1::2], strict=True))
        return found


class Server:
    """A QEMU, or a fake one, as a process, by its monitor."""

    def __init__(self, command: list[str], folder: Path) -> None:
        arguments = ["-machine", "none", "-nodefaults"]
        self._process = QemuProcess(command, arguments, folder, cwd=folder)
        self._monitor = socket.socket(socket.AF_UNIX)
        self._monitor.settimeout(60)
        self._monitor.connect(self._process.path)
        self._lines = self._monitor.makefile("rwb", buffering=0)
        self._lines.readline()
        self._links: list[socket.socket] = []
        #: events since they were last looked at
        self.events: list[Any] = []
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """The reply, events that came before put away."""
        members = {name.replace("_", "-"): value for name, value in arguments.items()}
        line = json.dumps({"execute": command, "arguments": members})
        self._lines.write(line.encode() + b"\n")
        while True:
            reply = json.loads(self._lines.readline())
            if "event" not in reply:
                return reply
            self.events.append((reply["event"], reply.get("data")))

    def talk(self, path: Path, flags: int = 3) -> Talk:
        """A client at the server's socket."""
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(60)
        self._links.append(link)
        link.connect(os.fspath(path))

        def receive(count: int) -> bytes:
            out = b""
            while len(out) < count:
                try:
                    more = link.recv(count - len(out))
                except ConnectionError:
                    more = b""
                if not more:
                    break
                out += more
            return out

        return Talk(link.sendall, receive, flags)

    def stop(self) -> None:
        """End it and its clients."""
        for link in self._links:
            link.close()
        self._process.stop()
        self._lines.close()
        self._monitor.close()
