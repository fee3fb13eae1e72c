"""Starts a fork server once a process and has children made by it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fakeqemu import poll
from fakeqemu.testing.runners.forkserver import send

#: how long the server may take from its start to its first child, in seconds
_FIRST = 30.0


class ForkServerError(RuntimeError):
    """The fork server does not do what it was asked for."""


class ForkedProcess:
    """A child of the server: as much of `subprocess.Popen` as is wanted."""

    def __init__(self, sock: socket.socket, pid: int, buffer: bytes) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._sock: socket.socket | None = sock
        self._buffer = buffer

    def fileno(self) -> int:
        """A descriptor that can be read when the child has ended."""
        return -1 if self._sock is None else self._sock.fileno()

    def poll(self) -> int | None:
        """The exit status, if it has ended."""
        with contextlib.suppress(TimeoutError):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, below zero for a signal. Raises TimeoutError."""
        if self.returncode is None:
            assert self._sock is not None
            late = f"the child still runs after {timeout} s"
            message, self._buffer = _line(self._sock, self._buffer, timeout, late)
            self.returncode = int(message["status"])
            self.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Forget the child; it lives on if it still runs."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class ForkServerClient:
    """One server, started when the first child is asked for, gone with this process."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._path = ""
        self._owner = 0

    def start(self) -> None:
        """Start the server, unless it runs."""
        if self._server is not None and self._owner == os.getpid():
            if self._server.poll() is None:
                return
            raise ForkServerError(f"the fork server ended with {self._server.returncode}")
        self._owner = os.getpid()
        self._directory = tempfile.TemporaryDirectory(prefix="fq-fork-")
        self._path = f"{self._directory.name}/socket"
        root = Path(__file__).parents[3]
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        with socket.socket(socket.AF_UNIX) as listener:
            # listening before the server is there: connecting needs no waiting
            listener.bind(self._path)
            listener.listen(128)
            self._server = subprocess.Popen(
                [sys.executable, "-m", "fakeqemu", "fork-server", f"fd:{listener.fileno()}"],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        atexit.register(self.stop)

    def spawn(
        self,
        arguments: list[str],
        fds: dict[int, int],
        *,
        env: dict[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> ForkedProcess:
        """A process `fakeqemu ARGUMENTS`. `fds`: number there -> descriptor here.

        Raises ForkServerError.
        """
        self.start()
        sock = socket.socket(socket.AF_UNIX)
        request: dict[str, Any] = {
            "argv": arguments,
            "env": dict(os.environ) if env is None else env,
            "cwd": str(cwd or Path.cwd()),
            "fds": list(fds),
        }
        try:
            sock.connect(self._path)
            send(sock, request, list(fds.values()))
            message, buffer = _line(sock, b"", _FIRST, f"no answer in {_FIRST} s")
        except (OSError, EOFError) as error:
            sock.close()
            raise ForkServerError(f"the fork server gives no child: {error!r}") from None
        return ForkedProcess(sock, message["pid"], buffer)

    def stop(self) -> None:
        """End the server. Its children live on."""
        if self._server is None or self._owner != os.getpid():
            return
        server, self._server = self._server, None
        assert server.stdin is not None
        server.stdin.close()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if self._directory is not None:
            self._directory.cleanup()
        atexit.unregister(self.stop)


#: the server of this process
SERVER = ForkServerClient()


def launch_fork(arguments: list[str], fds: list[int], stderr: int) -> ForkedProcess:
    """As `remote.launch_process`, by the warm server."""
    with open(os.devnull, "r+b") as null:  # noqa: PTH123
        nowhere = null.fileno()
        return SERVER.spawn(
            arguments, {0: nowhere, 1: nowhere, 2: stderr, **{fd: fd for fd in fds}}
        )


def _line(
    sock: socket.socket, buffer: bytes, timeout: float | None, late: str
) -> tuple[dict[str, Any], bytes]:
    """The next message of the server, and what came after it.

    Raises EOFError, and TimeoutError, which says `late`.
    """
    end = None if timeout is None else time.monotonic() + timeout
    while b"\n" not in buffer:
        if not poll.readable(sock, None if end is None else end - time.monotonic()):
            raise TimeoutError(late)
        if not (data := sock.recv(4096)):
            raise EOFError("the fork server hung up")
        buffer += data
    line, _, rest = buffer.partition(b"\n")
    return json.loads(line), rest
