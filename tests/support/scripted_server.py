"""The other end of a UNIX socket, for tests: a thread that answers as a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

#: seconds for the other side
PATIENCE = 20.0


class ScriptedServer:
    """Serves one client after the other, until `close`."""

    def __init__(self, path: Path) -> None:
        """Called when what `answer` needs is there: the thread begins at once."""
        self.path = path
        self._client: socket.socket | None = None
        self._closing = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(PATIENCE)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answer(self, client: socket.socket) -> bool:
        """Answer one request; False to hang up."""
        raise NotImplementedError

    def hang_up(self) -> None:
        """End the connection; the next client is served."""
        assert self._client is not None
        self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more clients, and wait for the end of the one that is there."""
        self._closing = True
        # a client wakes the thread, where shutting the listener down does not
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with contextlib.suppress(OSError), self._listener:
            while True:
                self._client, _ = self._listener.accept()
                if self._closing:
                    self._client.close()
                    return
                with self._client as client, contextlib.suppress(OSError):
                    client.settimeout(PATIENCE)
                    while self.answer(client):
                        pass


def exactly(client: socket.socket, size: int) -> bytes:
    """So many bytes. Raises OSError if the other side hangs up before."""
    data = client.recv(size, socket.MSG_WAITALL) if size else b""
    if len(data) < size:
        raise OSError("hung up")
    return data
