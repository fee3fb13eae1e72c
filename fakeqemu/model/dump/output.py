"""A file that is written once from its beginning to its end: a dump, a picture, saved memory.

Most of a guest's memory is zeros that were never stored. They are passed as a count, and become
a hole where the file can have one.

See dump/dump.c: fd_write_vmcore() and write_buffer().
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from fakeqemu.dataclass import dataclass

if TYPE_CHECKING:
    from fakeqemu.model.block.files import BlockFile


@dataclass(frozen=True, slots=True)
class Zeros:
    """So many zero bytes."""

    size: int


#: what a file is made of, in order
Piece = bytes | Zeros


class DumpOutput(Protocol):
    """One file being written."""

    #: bytes that it has taken
    written: int

    @property
    def seekable(self) -> bool:
        """Whether it is a file rather than a pipe."""

    def write(self, pieces: Iterable[Piece]) -> None:
        """Write on. Raises OSError."""

    def close(self) -> None:
        """That was all."""


class MemoryOutput:
    """An output into a file of `MemoryFiles`."""

    seekable = True

    def __init__(self, file: BlockFile) -> None:
        self._file = file
        self.written = 0

    def write(self, pieces: Iterable[Piece]) -> None:
        """Write on."""
        for piece in pieces:
            if isinstance(piece, Zeros):
                self.written += piece.size
                self._file.truncate(self.written)
            else:
                self._file.write(self.written, piece)
                self.written += len(piece)

    def close(self) -> None:
        """That was all."""
        self._file.close()


class NoOutput:
    """An output that forgets everything."""

    written = 0
    seekable = True

    def write(self, pieces: Iterable[Piece]) -> None:
        """Forget."""

    def close(self) -> None:
        """Do nothing."""
