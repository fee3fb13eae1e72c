"""A scripted back end of vhost-user."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from tests.support.scripted_server import ScriptedServer, exactly

GET_FEATURES, SET_OWNER, CALL, ERR = 1, 3, 13, 14
GET_PROTOCOL, SET_PROTOCOL, QUEUES, ENABLE = 15, 16, 17, 18
REQUEST_FD, RESET, SLOTS = 21, 34, 36
#: bits of features
PROTOCOL, LOG_ALL = 1 << 30, 1 << 26


class ScriptedBackend(ScriptedServer):
    """Answers requests, and notes what was asked."""

    def __init__(
        self,
        folder: Path,
        *,
        features: int = PROTOCOL | LOG_ALL,
        protocol: int = 0xFFFF & ~(1 << 9),
        hangs_up_at: int | None = None,
        flags: int = 5,
        refuses: int | None = None,
    ) -> None:
        """`hangs_up_at`: the request not answered; `flags`: of answers; `refuses`: a request."""
        #: (request, whether consent was asked for, payload, number of descriptors)
        self.asked: list[tuple[int, bool, bytes, int]] = []
        self._numbers = {GET_FEATURES: features, GET_PROTOCOL: protocol, QUEUES: 2, SLOTS: 32}
        self._hangs_up_at = hangs_up_at
        self._flags = flags
        self._refuses = refuses
        self._fds: list[int] = []
        super().__init__(folder / "back-end")

    def close(self) -> None:
        """Serve nobody any more."""
        super().close()
        for fd in self._fds:
            os.close(fd)

    def answer(self, client: socket.socket) -> bool:
        """One request."""
        head, fds, _, _ = socket.recv_fds(client, 12, 1)
        if len(head) < 12:
            return False
        self._fds += fds
        request, flags, size = struct.unpack("=III", head)
        payload = exactly(client, size)
        self.asked.append((request, bool(flags & 8), payload, len(fds)))
        if request == self._hangs_up_at:
            return False
        number = self._numbers.get(request)
        if number is None and flags & 8:
            number = int(request == self._refuses)
        if number is not None:
            client.sendall(struct.pack("=IIIQ", request, self._flags, 8, number))
        return True
