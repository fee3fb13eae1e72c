"""The control channel of a TPM emulator: numbered commands, big-endian, each with a result.

See backends/tpm/tpm_ioctl.h; backends/tpm/tpm_emulator.c: tpm_emulator_ctrlcmd() and tpm_errors[].
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.chardev.blocking import BlockingFrontend


class ControlCommand(IntEnum):
    """CMD_*."""

    GET_CAPABILITY = 1
    INIT = 2
    SHUTDOWN = 3
    GET_STATEBLOB = 0x0C
    SET_STATEBLOB = 0x0D
    STOP = 0x0E
    SET_DATAFD = 0x10
    SET_BUFFERSIZE = 0x11
    LOCK_STORAGE = 0x13


class Cap(IntFlag):
    """PTM_CAP_*: what an emulator can do."""

    INIT = 1 << 0
    SHUTDOWN = 1 << 1
    GET_TPMESTABLISHED = 1 << 2
    SET_LOCALITY = 1 << 3
    RESET_TPMESTABLISHED = 1 << 7
    GET_STATEBLOB = 1 << 8
    SET_STATEBLOB = 1 << 9
    STOP = 1 << 10
    SET_DATAFD = 1 << 12
    SET_BUFFERSIZE = 1 << 13
    LOCK_STORAGE = 1 << 16


#: what each version of the TPM's specification has to be able to do
_ALWAYS = (
    Cap.INIT | Cap.SHUTDOWN | Cap.GET_TPMESTABLISHED | Cap.SET_LOCALITY
    | Cap.SET_DATAFD | Cap.STOP | Cap.SET_BUFFERSIZE
)  # fmt: skip
REQUIRED = {"1.2": _ALWAYS, "2": _ALWAYS | Cap.RESET_TPMESTABLISHED}
#: what migration needs
MIGRATION = Cap.GET_STATEBLOB | Cap.SET_STATEBLOB | Cap.STOP

#: PTM_INIT_FLAG_DELETE_VOLATILE
DELETE_VOLATILE = 1
#: PTM_STATE_FLAG_DECRYPTED
DECRYPTED = 1

_ERRORS = {
    0x03: "a parameter is bad",
    0x09: "operation failed",
    0x0D: "key could not be found",
    0x19: "bad parameter size",
    0x20: "encryption error",
    0x21: "decryption error",
    0x28: "bad key property",
    0x2C: "bad (encryption) mode",
    0x2E: "bad version identifier",
    0x3D: "bad locality",
    0x101: "operation failed",
    0x907: "bad locality",
    0x9A: "insufficient amount of data",
}


def words(result: int) -> str:
    """A result as QEMU shows it: the number, and what it means."""
    return f"0x{result:x} {_ERRORS.get(result, '')}"


class ControlChannel:
    """Sends commands. What the connection does not take or give ends in OSError."""

    def __init__(self, frontend: BlockingFrontend, *, result_first: bool) -> None:
        """`result_first`: the rest of an answer is only waited for where the result is 0."""
        self.frontend = frontend
        self._result_first = result_first

    def ask(
        self, command: ControlCommand, *request: int, answer: int = 0, fds: Sequence[int] = (),
        always: bool = False,
    ) -> tuple[int, ...]:
        """The result, and `answer` further 32-bit numbers (`always`: whatever the result)."""
        self.send(command, *request, fds=fds)
        return self.read(answer, always=always)

    def send(self, command: ControlCommand, *request: int, fds: Sequence[int] = ()) -> None:
        """Only ask: more is to follow before the answer."""
        self.frontend.write_all(struct.pack(f">{1 + len(request)}I", command, *request), fds)

    def read(self, answer: int = 0, *, always: bool = True) -> tuple[int, ...]:
        """The answer to what was sent: the result, and so many numbers."""
        if not answer or always or not self._result_first:
            return self._numbers(1 + answer)
        (result,) = self._numbers(1)
        return (result, *([0] * answer if result else self._numbers(answer)))

    def _numbers(self, count: int) -> tuple[int, ...]:
        """So many numbers; what an emulator that goes has not sent of them counts as 0."""
        size = 4 * count
        return struct.unpack(f">{count}I", self.frontend.read_all(size).ljust(size, b"\0"))
