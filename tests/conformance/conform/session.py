"""One client connection of a scenario, as raw lines: nothing is lost or tidied on the way."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from typing import Any

STEP_TIMEOUT = 20.0


class StepError(Exception):
    """A step could not be played at all (time-out, closed socket, ...)."""


async def pause() -> None:
    """Before another look at an emulator's sockets, files and state, which announce nothing."""
    await asyncio.sleep(0.02)


class Session:
    """One client connection to a QMP socket, as raw lines.

    A plain socket, not a StreamReader: an emulator that ends with unread input
    resets the connection, and a StreamReader then drops what had already come
    (the SHUTDOWN event after "quit", say).
    """

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.sock = sock
        self.pending = b""
        self.events: list[dict[str, Any]] = []
        self.text = ""  # the last message as it came, undecoded
        if sock is not None:
            sock.setblocking(False)

    async def connect(self, address: str, process: Any = None) -> None:
        """Connect when somebody listens there, which `process` will not once it has ended."""
        family: int = socket.AF_UNIX
        target: Any = address
        if address.startswith("tcp:"):
            host, port = address[4:].rsplit(":", 1)
            family, target = socket.AF_INET, (host, int(port))
        deadline = time.monotonic() + STEP_TIMEOUT
        while True:
            # looked at before connecting: what it did before it ended counts
            ended = process is not None and process.returncode is not None
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, target)
                self.sock = sock
                return
            except (FileNotFoundError, ConnectionRefusedError) as exc:
                sock.close()
                if time.monotonic() > deadline or ended:
                    raise StepError(f"cannot connect: {exc}") from exc
                await pause()

    async def write(self, data: bytes, fds: list[int] | None = None) -> None:
        """Send these bytes; file descriptors, if any, go with the first of them (SCM_RIGHTS)."""
        assert self.sock is not None
        if fds:
            data = data[socket.send_fds(self.sock, [data], fds) :]
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self) -> bytes:
        """What comes next; b"" once the emulator has closed."""
        assert self.sock is not None
        try:
            return await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        except ConnectionError:
            return b""

    async def readline(self) -> bytes:
        """Up to and with the next newline; what is left, then b"", once the emulator has closed."""
        while b"\n" not in self.pending:
            data = await self.receive()
            if not data:
                raw, self.pending = self.pending, b""
                return raw
            self.pending += data
        raw, _, self.pending = self.pending.partition(b"\n")
        return raw + b"\n"

    async def line(self, timeout: float = STEP_TIMEOUT) -> Any:
        """Next JSON value of the stream; QMP sends one a line (or pretty-printed over several)."""
        text = ""
        async with asyncio.timeout(timeout):
            while True:
                raw = await self.readline()
                if not raw:
                    raise StepError("connection closed by the emulator")
                text += raw.decode("utf-8", "replace")
                if not text.strip():
                    text = ""
                    continue
                try:
                    value = json.loads(text)
                    self.text = text
                    return value
                except json.JSONDecodeError:
                    if not text.lstrip().startswith("{"):
                        raise StepError(f"not JSON: {text[:200]!r}") from None

    async def reply(self, timeout: float = STEP_TIMEOUT) -> Any:
        """Next message that is not an event; events passed on the way are queued."""
        while True:
            message = await self.line(timeout)
            if isinstance(message, dict) and "event" in message:
                self.events.append(message)
                continue
            return message

    async def read(self, until: str | None, settle: float) -> dict[str, Any]:
        """Everything as text until `until` was seen, the other side closed, or it fell silent."""
        text, eof = self.pending.decode("latin-1"), False
        self.pending = b""
        while not (until is not None and until in text):
            try:
                async with asyncio.timeout(settle if until is None else STEP_TIMEOUT):
                    raw = await self.receive()
            except TimeoutError:
                if until is not None:
                    raise StepError(f"{until!r} never came, got {text[-200:]!r}") from None
                break
            if not raw:
                eof = True
                break
            text += raw.decode("latin-1")
        text = re.sub(r'("(?:micro)?seconds": )\d+', r"\1N", text)
        return {"text": text, "eof": eof}

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None
