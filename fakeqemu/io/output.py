"""Files written once: through a buffer, with holes where the file can have them.

Writing blocks until the other end of a pipe has taken what came before, as QEMU's does.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable

from fakeqemu.io.paths import Opener
from fakeqemu.model.output import Piece, Zeros

_BUFFER = 1 << 20


class FdOutput:
    """An output on a descriptor, which it owns."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        with contextlib.suppress(OSError):
            os.set_blocking(fd, True)
        self._sparse = stat.S_ISREG(os.fstat(fd).st_mode)

    @property
    def seekable(self) -> bool:
        """Whether it is a file rather than a pipe."""
        try:
            os.lseek(self._fd, 0, os.SEEK_CUR)
        except OSError:
            return False
        return True

    def write(self, pieces: Iterable[Piece]) -> None:
        """Write on. Raises OSError."""
        ends_in_hole = False
        for piece in pieces:
            if isinstance(piece, Zeros):
                self._flush()
                ends_in_hole = self._sparse
                self._zeros(piece.size)
                continue
            ends_in_hole = False
            self._buffer += piece
            if len(self._buffer) >= _BUFFER:
                self._flush()
        self._flush()
        if ends_in_hole:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if os.fstat(self._fd).st_size < end:
                os.ftruncate(self._fd, end)

    def close(self) -> None:
        """That was all."""
        os.close(self._fd)

    def _flush(self) -> None:
        view = memoryview(bytes(self._buffer))
        self._buffer.clear()
        while view:
            view = view[os.write(self._fd, view) :]

    def _zeros(self, size: int) -> None:
        if self._sparse and os.lseek(self._fd, 0, os.SEEK_CUR) >= os.fstat(self._fd).st_size:
            os.lseek(self._fd, size, os.SEEK_CUR)
            return
        zeros = bytes(min(size, _BUFFER))
        while size:
            size -= os.write(self._fd, zeros[: min(size, _BUFFER)])


def create_output(opener: Opener, path: str, mode: int) -> FdOutput:
    """Make the file anew, or empty it. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return FdOutput(opener(path, flags, mode))
