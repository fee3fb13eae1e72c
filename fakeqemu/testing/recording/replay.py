"""Serves a recorded conversation to a client.

Strictly in order by default: a request that is not the next one is refused, and the replay
counts as failed. With `match="content"` requests may come in any order and again; each gets
what was answered to the same request, the last answer when they are used up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.streamer import JsonStream, ParseError
from fakeqemu.qmp.request import NO_ID, failure, id_of
from fakeqemu.qmp.session import encode_line
from fakeqemu.testing.names import check_name
from fakeqemu.testing.recording.format import Conversation, Exchange
from fakeqemu.testing.recording.proxy import remove_socket, serve

MATCHES = ("order", "content")


class Replay:
    """`async with Replay(conversations, address)`; one conversation for each connection."""

    def __init__(
        self, conversations: list[Conversation], address: str, match: str = "order"
    ) -> None:
        self._conversations = conversations
        self._address = address
        self._by_content = check_name("way to match", match, MATCHES) == "content"
        self._server: asyncio.Server | None = None
        self._served = 0
        self._writers: set[asyncio.StreamWriter] = set()
        #: what was asked for and not expected
        self.complaints: list[str] = []

    async def __aenter__(self) -> Replay:
        self._server = await serve(self._address, self._serve)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        remove_socket(self._address)
        await asyncio.sleep(0)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Where it listens."""
        assert self._server is not None
        return tuple(self._server.sockets)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        # connections beyond the recorded ones get the last conversation again
        index = min(self._served, len(self._conversations) - 1)
        self._served += 1
        conversation = self._conversations[index] if self._conversations else Conversation()
        try:
            with contextlib.suppress(ConnectionError):
                await self._converse(conversation, reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _converse(
        self, told: Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        def send(message: dict[str, Any]) -> None:
            writer.write(encode_line(message, False))

        if told.greeting is not None:
            send(told.greeting)
        for event in told.early:
            send(event)
        left = list(told.exchanges)
        used: list[Exchange] = []
        stream = JsonStream(Profile.load("11.1").traits)
        while data := await reader.read(65536):
            stream.push(data)
            while (message := stream.next_message()) is not None:
                if isinstance(message, ParseError):
                    self.complaints.append(f"not JSON: {message.text}")
                    send(failure(QapiError(message.text), NO_ID))
                    continue
                exchange = self._find(message.value, left, used)
                if exchange is None:
                    expected = left[0].command if left else "nothing more"
                    text = f"replay: expected {expected}, got {json.dumps(message.value)}"
                    self.complaints.append(text)
                    send(failure(QapiError(text), id_of(message.value)))
                    continue
                for event in exchange.before:
                    send(event)
                if exchange.reply is not None:
                    send(_with_id(exchange.reply, message.value))
                for event in exchange.after:
                    send(event)
            await writer.drain()

    def _find(
        self, request: Any, left: list[Exchange], used: list[Exchange]
    ) -> Exchange | None:
        candidates = left if self._by_content else left[:1]
        for exchange in candidates:
            if exchange.same_as(request):
                left.remove(exchange)
                used.append(exchange)
                return exchange
        if self._by_content:
            return next((each for each in reversed(used) if each.same_as(request)), None)
        return None


def _with_id(reply: dict[str, Any], request: Any) -> dict[str, Any]:
    plain = {key: value for key, value in reply.items() if key != "id"}
    id = id_of(request)
    return plain if id is NO_ID else {**plain, "id": id}
