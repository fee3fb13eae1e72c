"""TPM emulators for machines under test: a scripted one, and a real swtpm."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.scripted_server import PATIENCE, ScriptedServer, exactly
from tests.support.waiting import block_until

ALL = 0xFFFF
TPM_2, TPM_1_2 = 0x8001, 0xC4
#: command -> numbers in its request and, after the result, in its answer
_SIZES = {0x01: (0, 1), 0x02: (1, 0), 0x11: (1, 3), 0x13: (1, 0)}
CAPABILITY, INIT, SHUTDOWN, GET_BLOB, SET_BLOB = 0x01, 0x02, 0x03, 0x0C, 0x0D
STOP, DATA_FD, BUFFER_SIZE, LOCK = 0x0E, 0x10, 0x11, 0x13


class ScriptedTpm(ScriptedServer):
    """Answers on the control channel, and notes what was asked."""

    def __init__(
        self,
        folder: Path,
        *,
        results: dict[int, int] | None = None,
        capabilities: int = ALL,
        tag: int = TPM_2,
        blobs: dict[int, bytes] | None = None,
        hangs_up_at: int | None = None,
    ) -> None:
        """`results`: command -> result that is not 0. `hangs_up_at`: the command not answered."""
        #: (command, its numbers), without the test command of the data channel
        self.asked: list[tuple[int, ...]] = []
        #: type -> bytes
        self.blobs = dict(blobs or {})
        self._results = results or {}
        self._capabilities = capabilities
        self._tag = tag
        self._hangs_up_at = hangs_up_at
        self._data: socket.socket | None = None
        super().__init__(folder / "tpm")

    @property
    def argv(self) -> list[str]:
        """What attaches it as `t`."""
        chardev = f"socket,id=c,path={self.path}"
        return ["-chardev", chardev, "-tpmdev", "emulator,id=t,chardev=c"]

    def close(self) -> None:
        """Wait for the client's end."""
        super().close()
        if self._data is not None:
            self._data.close()

    def answer(self, client: socket.socket) -> bool:
        """One command."""
        head, fds, _, _ = socket.recv_fds(client, 4, 1)
        if not head:
            return False
        (command,) = struct.unpack(">I", head)
        request, answer = _SIZES.get(command, (0, 0))
        if command in (GET_BLOB, SET_BLOB):
            request = 3
        numbers = struct.unpack(f">{request}I", exactly(client, 4 * request))
        self.asked.append((command, *numbers))
        if command == self._hangs_up_at:
            return False
        result = self._results.get(command, 0)
        if command == GET_BLOB:
            blob = self.blobs.get(numbers[1], b"")
            client.sendall(struct.pack(">4I", result, 0, len(blob), len(blob)) + blob)
            return True
        if command == SET_BLOB:
            self.blobs[numbers[1]] = exactly(client, numbers[2])
        figures = {CAPABILITY: [self._capabilities], BUFFER_SIZE: [4096, 2808, 4096]}
        values = figures.get(command, []) if not result else []
        assert len(values) in (0, answer)
        client.sendall(struct.pack(f">{1 + len(values)}I", result, *values))
        if fds:
            self._data = socket.socket(fileno=fds[0])
        if command == DATA_FD and not result:
            self._answer_test()
        return bool(command != SHUTDOWN)

    def _answer_test(self) -> None:
        data = self._data
        assert data is not None
        data.settimeout(PATIENCE)
        # a TPM 2 answers the first of two, the other one both
        for _ in range(1 if self._tag == TPM_2 else 2):
            assert len(data.recv(10)) == 10
            data.sendall(struct.pack(">HII", self._tag, 10, 0))


@contextlib.contextmanager
def swtpm(program: str, folder: Path, *, tpm2: bool = True) -> Iterator[Path]:
    """A real emulator with its state and `log` in `folder`; the path of its control channel."""
    path = folder / "control"
    state = folder / "state"
    state.mkdir()
    process = subprocess.Popen(
        [program, "socket", "--tpmstate", f"dir={state}", "--terminate",
         "--ctrl", f"type=unixio,path={path}", "--log", f"file={folder}/log,level=20",
         *(["--tpm2"] if tpm2 else [])],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        block_until(lambda: path.exists() or process.poll() is not None, f"swtpm at {path}")
        assert process.poll() is None, "swtpm has ended"
        yield path
    finally:
        process.kill()
        process.wait()
