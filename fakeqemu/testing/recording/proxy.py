"""A proxy between a client and a real QEMU that writes down what they say.

Bytes are passed on as they come, so neither side notices; the recording is made from a copy.
Descriptors that a client passes along are not handed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from fakeqemu.profile import Profile
from fakeqemu.qapi.json.streamer import JsonStream, ParseError
from fakeqemu.testing.addresses import parse_address


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an address. Raises OSError, ValueError."""
    kind, where = parse_address(address)
    if kind == "unix":
        return await asyncio.open_unix_connection(str(where))
    assert isinstance(where, tuple)
    return await asyncio.open_connection(*where)


async def serve(address: str, client: Callable[..., Any]) -> asyncio.Server:
    """Listen at an address. Raises OSError, ValueError."""
    kind, where = parse_address(address)
    try:
        if kind == "unix":
            return await asyncio.start_unix_server(client, str(where))
        assert isinstance(where, tuple)
        return await asyncio.start_server(client, *where)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), address) from None


def remove_socket(address: str) -> None:
    """Delete the socket file of an address that is no longer served."""
    kind, where = parse_address(address)
    if kind == "unix":
        Path(str(where)).unlink(missing_ok=True)


class Recorder:
    """Passes on and writes down. `async with Recorder(client_address, real_address, file)`."""

    def __init__(
        self,
        client_side: str,
        real_side: str,
        out: TextIO,
        failed: Callable[[OSError], None] = lambda _: None,
    ) -> None:
        """`failed`: called once when nothing can be written any more."""
        self.failed = failed
        self._client_side = client_side
        self._real_side = real_side
        self._out = out
        #: what kept it from writing on; the conversation goes on without a recording
        self.failure: OSError | None = None
        self._connections = 0
        self._began = time.monotonic_ns()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._traits = Profile.load("11.1").traits

    async def __aenter__(self) -> Recorder:
        self._server = await serve(self._client_side, self._serve)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        remove_socket(self._client_side)  # every line was flushed when it was written

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._note(number, opened=True)
        try:
            real_reader, real_writer = await connect(self._real_side)
        except OSError as error:
            self._note(number, closed=str(error))
            writer.close()
            self._tasks.discard(task)
            return
        pumps = [
            asyncio.ensure_future(self._pump(number, "client", reader, real_writer)),
            asyncio.ensure_future(self._pump(number, "server", real_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            # what is under way still arrives
            await asyncio.wait(pumps, timeout=0.05)
        except asyncio.CancelledError:
            pass  # the recorder ends, and this connection with it
        finally:
            for pump in pumps:
                pump.cancel()
            for each in (writer, real_writer):
                each.close()
            self._note(number, closed=True)
            self._tasks.discard(task)

    async def _pump(
        self,
        number: int,
        sender: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        stream = JsonStream(self._traits)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                stream.push(data)
                while (message := stream.next_message()) is not None:
                    if isinstance(message, ParseError):
                        self._note(number, **{"from": sender, "text": message.text})
                    else:
                        self._note(number, **{"from": sender, "message": message.value})
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    def _note(self, connection: int, **what: Any) -> None:
        microseconds = (time.monotonic_ns() - self._began) // 1000
        entry = {"time": microseconds, "connection": connection, **what}
        if self.failure is not None:
            return
        try:
            self._out.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._out.flush()
        except OSError as error:
            self.failure = error
            self.failed(error)
