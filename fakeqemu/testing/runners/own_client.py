"""The client of a machine's own: what `vm.client` is, on a monitor that nobody else sees."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qemu.qmp import QMPClient


class OwnClient:
    """A `qemu.qmp.QMPClient` on the client's end of a socket pair."""

    def __init__(self, side: socket.socket) -> None:
        self._side = side
        self._client: QMPClient | None = None
        #: its transport closes the socket then
        self._begun = False

    async def connect(self) -> None:
        """Negotiate. Raises what QMPClient raises."""
        from qemu.qmp import QMPClient

        client = QMPClient("fakeqemu")
        self._begun = True
        await client.connect(self._side)
        self._client = client

    async def disconnect(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.disconnect()

    def close(self) -> None:
        """Close the socket, if nothing else will."""
        self._client = None
        if not self._begun:
            self._side.close()

    @property
    def client(self) -> QMPClient | None:
        """None unless it is connected."""
        return self._client
