"""QMP clients that show bytes as they come: one for event loops, one that blocks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

from fakeqemu.testing import FakeQemu

#: seconds after which a machine that should answer has failed
DEADLINE = 20.0


class RawClient:
    """One connection to a machine of an event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, machine: FakeQemu, *, negotiate: bool = False) -> RawClient:
        """Connect; `negotiate` leaves capabilities negotiation behind."""
        client = cls(*await asyncio.open_unix_connection(machine.socket_path, limit=1 << 22))
        if negotiate:
            await client.negotiate()
        return client

    async def negotiate(self) -> None:
        """Take the greeting and negotiate without capabilities."""
        await self.line()
        assert await self.ask("qmp_capabilities") == {"return": {}, "id": "qmp_capabilities"}

    def send(self, *messages: str | dict[str, Any]) -> None:
        """Messages in one piece; a command's name stands for that command with its name as id."""
        whole = [
            each if isinstance(each, dict) else {"execute": each, "id": each} for each in messages
        ]
        self.writer.write(b"".join(json.dumps(each).encode() for each in whole))

    async def ask(self, *messages: str | dict[str, Any]) -> Any:
        """The next message after sending these."""
        self.send(*messages)
        return await self.message()

    async def line(self) -> bytes:
        """The next line, b"" at the end. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readline()

    async def message(self) -> Any:
        """The next line's value. Raises TimeoutError."""
        return json.loads(await self.line())

    async def piece(self) -> bytes:
        """What comes next, as the machine wrote it. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read(1 << 16)

    async def rest(self) -> bytes:
        """Everything to the end. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
        return b""

    async def quiet(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes for a while: only time can show that."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    async def hang_up(self) -> bytes:
        """End the connection and wait until the machine has seen it; what still came."""
        self.writer.write_eof()
        rest = await self.rest()
        self.close()
        return rest

    def close(self) -> None:
        """End the connection."""
        self.writer.close()


class RawSession:
    """One connection to a running QEMU, byte by byte."""

    SYNC = b'\n{"execute":"query-name","id":"sync"}\n'

    def __init__(self, path: str) -> None:
        self._path = path
        self.connect()

    def connect(self) -> None:
        """Connect and negotiate."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(self._path)
        self.file = self.socket.makefile("rb")
        self.greeting = json.loads(self.file.readline())["QMP"]
        assert self.ask(b'{"execute":"qmp_capabilities"}\n') == b'{"return": {}}\r\n'

    def reconnect(self) -> None:
        """A new connection in place of this one."""
        self.close()
        self.connect()

    def ask(self, data: bytes) -> bytes:
        """The next line after sending this."""
        self.socket.sendall(data)
        return self.file.readline()

    def talk(self, data: bytes) -> bytes:
        """What comes back before the reply to a command at the end."""
        self.socket.sendall(data + self.SYNC)
        lines = []
        while b'"id": "sync"' not in (line := self.file.readline()):
            assert line
            lines.append(line)
        return b"".join(lines)

    def close(self) -> None:
        """Hang up."""
        self.file.close()
        self.socket.close()
