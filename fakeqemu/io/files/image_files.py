"""Real image files, with the byte locks that keep QEMUs and qemu-img out of each other's way.

See block/file-posix.c: raw_check_lock_bytes(), raw_apply_lock_bytes() and raw_open_common().
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator

from fakeqemu.model.block.files import BlockFile, ImageLocked, MemoryFiles

#: bytes of the file that stand for "somebody does this" and "somebody refuses this"
_HELD_AT, _REFUSED_AT = 100, 200
_BITS = 4
_FLOCK = "hhqqi4x"
_FALLOC_KEEP_SIZE, _FALLOC_PUNCH_HOLE = 1, 2
_CHUNK = 1 << 20


def _byte_lock(fd: int, kind: int, offset: int, *, test: bool = False) -> int:
    """Set or test a lock of one byte; when testing, the kind of the conflicting lock.

    Without locks of open files, which other hosts than Linux have not, there are none.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return fcntl.F_UNLCK
    request = struct.pack(_FLOCK, kind, os.SEEK_SET, offset, 1, 0)
    command = fcntl.F_OFD_GETLK if test else fcntl.F_OFD_SETLK
    answer = fcntl.fcntl(fd, command, request)
    found: int = struct.unpack(_FLOCK, answer)[0]
    return found


class RealFile:
    """One open of one real file."""

    def __init__(self, fd: int, writable: bool, opened: set[RealFile]) -> None:
        """`opened`: those of the machine that are not closed yet."""
        self._fd = fd
        self._writable = writable
        self._opened = opened
        self._held = 0
        self._unshared = 0
        opened.add(self)

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._writable

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    @property
    def locks(self) -> tuple[int, int]:
        """What `lock` has taken."""
        return self._held, self._unshared

    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return self in self._opened

    def size(self) -> int:
        """Bytes in it; devices are asked where they end."""
        info = os.fstat(self._fd)
        return info.st_size if stat.S_ISREG(info.st_mode) else os.lseek(self._fd, 0, os.SEEK_END)

    def allocated(self) -> int:
        """Bytes it takes on disk."""
        return os.fstat(self._fd).st_blocks * 512

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes; fewer only at the end of the file."""
        first = os.pread(self._fd, count, offset)
        if len(first) == count or not first:
            return first
        out = bytearray(first)
        while len(out) < count:
            piece = os.pread(self._fd, count - len(out), offset + len(out))
            if not piece:
                break
            out += piece
        return bytes(out)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written

    def zero(self, offset: int, count: int) -> None:
        """Punch a hole, or write zeros where that cannot be done."""
        end = min(offset + count, self.size())
        if end <= offset:
            return
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        mode = _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE
        where = ctypes.c_int64(offset), ctypes.c_int64(end - offset)
        if hasattr(libc, "fallocate") and libc.fallocate(self._fd, mode, *where) == 0:
            return
        while offset < end:
            step = min(_CHUNK, end - offset)
            self.write(offset, bytes(step))
            offset += step

    def truncate(self, size: int) -> None:
        """Change its size."""
        if size >> 63:  # negative once it is an off_t
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        os.ftruncate(self._fd, size)

    def allocate(self, offset: int, count: int) -> None:
        """Have room on disk for a range that reads as zeros so far."""
        if count >> 63:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if count and not hasattr(os, "posix_fallocate"):
            os.ftruncate(self._fd, max(self.size(), offset + count))
        elif count:
            os.posix_fallocate(self._fd, offset, count)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Offset and length of what is not a hole."""
        end = min(end, self.size())
        if not hasattr(os, "SEEK_DATA") and start < end:
            yield start, end - start
            return
        while start < end:
            try:
                first = os.lseek(self._fd, start, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                first = start
            if first >= end:
                return
            try:
                last = min(os.lseek(self._fd, first, os.SEEK_HOLE), end)
            except OSError:
                last = end
            yield first, last - first
            start = last

    def lock(self, held: int, unshared: int) -> None:
        """Take the locks; release them again if those of others conflict."""
        if held == self._held and unshared == self._unshared:
            return
        before = self._held, self._unshared
        self._take(held | self._held, unshared | self._unshared)
        try:
            self._check(held, unshared)
        except ImageLocked:
            self._take(*before)
            raise
        self._take(held, unshared)

    def _take(self, held: int, unshared: int) -> None:
        for base, want, now in (
            (_HELD_AT, held, self._held),
            (_REFUSED_AT, unshared, self._unshared),
        ):
            for bit in range(_BITS):
                if (want ^ now) >> bit & 1:
                    kind = fcntl.F_RDLCK if want >> bit & 1 else fcntl.F_UNLCK
                    with contextlib.suppress(OSError):
                        _byte_lock(self._fd, kind, base + bit)
        self._held, self._unshared = held, unshared

    def _check(self, held: int, unshared: int) -> None:
        for base, want, shared in ((_REFUSED_AT, held, False), (_HELD_AT, unshared, True)):
            for bit in range(_BITS):
                if not want >> bit & 1:
                    continue
                try:
                    found = _byte_lock(self._fd, fcntl.F_WRLCK, base + bit, test=True)
                except OSError:
                    continue
                if found != fcntl.F_UNLCK:
                    raise ImageLocked(bit, shared=shared)

    def close(self) -> None:
        """Give it and its locks back; again does nothing."""
        if self in self._opened:
            self._opened.remove(self)
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


class ReadOnlyFile(RealFile):
    """A real file that keeps nothing of what is written, and locks nothing."""

    def write(self, offset: int, data: bytes) -> None:
        """Forget it."""

    def zero(self, offset: int, count: int) -> None:
        """Forget it."""

    def truncate(self, size: int) -> None:
        """Forget it."""

    def allocate(self, offset: int, count: int) -> None:
        """Forget it."""

    def lock(self, held: int, unshared: int) -> None:
        """Take no lock."""


class RealFiles:
    """The machine's own file system."""

    def __init__(self) -> None:
        self._opened: set[RealFile] = set()

    def close(self) -> None:
        """Close what is open, as the end of a process does: others may have the images then."""
        for file in tuple(self._opened):
            file.close()

    def open(self, path: str, *, writable: bool, create: bool = False) -> BlockFile:
        """Open a file. Raises OSError."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT
        fd = os.open(path, flags, 0o644)
        file = RealFile(fd, writable, self._opened)
        if create:
            try:
                file.lock(2 | 8, 8)
            except ImageLocked:
                file.close()
                raise
        return file

    def open_fd(self, fd: int, *, writable: bool) -> BlockFile:
        """Use a copy of a descriptor that was opened the right way. Raises OSError."""
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if mode != (os.O_RDWR if writable else os.O_RDONLY):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return RealFile(os.dup(fd), writable, self._opened)

    def kind(self, path: str) -> str:
        """What is at `path`. Raises OSError."""
        mode = os.stat(path).st_mode  # noqa: PTH116 - importing pathlib would slow every start
        tests = (
            (stat.S_ISREG, "file"),
            (stat.S_ISDIR, "directory"),
            (stat.S_ISCHR, "char"),
            (stat.S_ISBLK, "block"),
        )
        return next((name for test, name in tests if test(mode)), "other")

    def room(self, path: str) -> int:
        """Bytes that the file system of a file has left. Raises OSError."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def absolute(self, path: str) -> str:
        """The path from the root."""
        return path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109

    def resolved(self, path: str) -> str:
        """The path without links. Raises OSError where nothing is there."""
        return os.path.realpath(path, strict=True)

    def temporary_folder(self) -> str:
        """As util/oslib-posix.c: create_tmp_file() has it. Raises OSError if none can be made."""
        folder = os.environ.get("TMPDIR") or "/var/tmp"
        if not os.path.isdir(folder):  # noqa: PTH112
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return folder

    def remove(self, path: str) -> None:
        """Remove what an attempt to make a file has left, as far as it can be.

        QEMU removes whatever has the name; a device of the host is spared here.
        """
        with contextlib.suppress(OSError):
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                os.unlink(path)  # noqa: PTH108


class ReadOnlyFiles(RealFiles):
    """The machine's file system for those who only look: nothing is made, changed or locked."""

    def __init__(self) -> None:
        super().__init__()
        self._made = MemoryFiles()

    def remove(self, path: str) -> None:
        """Remove nothing but what was made in memory."""
        self._made.remove(path)

    def open(self, path: str, *, writable: bool, create: bool = False) -> BlockFile:
        """Open a file for reading, whatever is asked for; make one in memory. Raises OSError."""
        if create or path in self._made.names():
            return self._made.open(path, writable=writable, create=create)
        return ReadOnlyFile(
            os.open(path, os.O_RDONLY | os.O_CLOEXEC), writable, self._opened
        )
