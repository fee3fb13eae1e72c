"""Files written once: through a buffer, with holes where the file can have them.

Writing waits until the other end of a pipe has taken what came before, as QEMU's does; but an
end that takes nothing at all is given up, for everything else in this process waits too.

See util/osdep.c: qemu_write_full(); dump/dump.c: fd_write_vmcore().
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Iterable

from fakeqemu import poll
from fakeqemu.io.files.fdset_open import Opener
from fakeqemu.model.dump.output import Piece, Zeros

_BUFFER = 1 << 20
#: seconds in which the other end of a pipe has to take something
_PATIENCE = 10.0
#: most zeros that are written where the whole does not fit
_MOST_FILLED = 64 << 20
_NULL_DEVICE = os.makedev(1, 3)


class FdOutput:
    """An output on a descriptor, which it owns."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        with contextlib.suppress(OSError):
            os.set_blocking(fd, False)
        info = os.fstat(fd)
        self._sparse = stat.S_ISREG(info.st_mode)
        #: whether it keeps nothing, so that zeros need not be passed
        self._null = stat.S_ISCHR(info.st_mode) and info.st_rdev == _NULL_DEVICE
        #: bytes that the file has taken
        self.written = 0
        #: bytes of the holes so far
        self._holes = 0

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
            view = view[self._some(view) :]

    def _zeros(self, size: int) -> None:
        if self._null:
            return
        if self._sparse:
            at = os.lseek(self._fd, 0, os.SEEK_CUR)
            if at >= os.fstat(self._fd).st_size:
                self._have_room(at, size)
                os.lseek(self._fd, size, os.SEEK_CUR)
                self.written += size
                return
        zeros = bytes(min(size, _BUFFER))
        while size:
            size -= self._some(zeros[: min(size, _BUFFER)])

    def _have_room(self, at: int, size: int) -> None:
        """Whether zeros would fit that a hole is made of instead. Raises OSError.

        QEMU writes them, so a file that has no room for them must not seem to be complete.
        """
        longest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        limited = longest != resource.RLIM_INFINITY and at + size > longest
        if limited or at + size >> 63:
            if limited:
                self._fill(max(longest - at, 0))
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._holes += size
        found = os.fstatvfs(self._fd)
        room = found.f_bavail * found.f_frsize
        if self._holes > room:
            rest = -at % found.f_frsize  # of the block that the file ends in
            self._fill(max(room + rest - (self._holes - size), 0))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _fill(self, size: int) -> None:
        """Write the zeros that there is room for, or as many holes."""
        if size > _MOST_FILLED:
            os.ftruncate(self._fd, os.lseek(self._fd, size, os.SEEK_CUR))
            self.written += size
            return
        while size:
            size -= self._some(bytes(min(size, _BUFFER)))

    def _some(self, data: bytes | memoryview) -> int:
        """Write what the file takes now, or soon; how much. Raises OSError."""
        while True:
            try:
                count = os.write(self._fd, data)
            except BlockingIOError:
                if not poll.writable(self._fd, _PATIENCE):
                    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
            else:
                self.written += count
                return count


def create_output(opener: Opener, path: str, mode: int) -> FdOutput:
    """Create or truncate the file. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return FdOutput(opener(path, flags, mode))
