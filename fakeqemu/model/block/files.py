"""Files as block drivers see them: the block layer's only access to real images.

A `FileSystem` opens files by path; `fakeqemu.io.files` does so for real, `MemoryFiles` keeps
all in memory for tests. Failures are `OSError` with an errno; a lock that another process (or
another open of this one) holds is `ImageLocked`.

See block/file-posix.c: raw_open_common() and raw_handle_perm_lock().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Protocol

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.intervals import Intervals

_PAGE = 4096


class ImageLocked(Exception):  # noqa: N818 - says what is, not that something failed
    """Another user of the image holds a conflicting lock.

    `shared`: it already does what we would not share, rather than refusing what we want.
    """

    def __init__(self, bit: int, *, shared: bool) -> None:
        super().__init__(bit)
        self.bit = bit
        self.shared = shared


class BlockFile(Protocol):
    """One open of one file."""

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""

    def is_open(self) -> bool:
        """Whether it has not been closed."""

    def size(self) -> int:
        """Bytes in it."""

    def allocated(self) -> int:
        """Bytes it takes on disk."""

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes; fewer only at the end of the file."""

    def write(self, offset: int, data: bytes) -> None:
        """Write, making the file longer if needed."""

    def zero(self, offset: int, count: int) -> None:
        """Make a range read as zeros, free of disk space where that can be."""

    def truncate(self, size: int) -> None:
        """Change its size."""

    def allocate(self, offset: int, count: int) -> None:
        """Have room on disk for a range beyond the end that then reads as zeros."""

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Offset and length of what is not a hole, in order."""

    def lock(self, held: int, unshared: int) -> None:
        """Tell other users what we do and what they must not (bits). Raises ImageLocked."""

    def close(self) -> None:
        """Give it and its locks back."""


class FileSystem(Protocol):
    """Where images are."""

    def open(self, path: str, *, writable: bool, create: bool = False) -> BlockFile:
        """Open a file, or with `create` create or truncate it. Raises OSError."""

    def open_fd(self, fd: int, *, writable: bool) -> BlockFile:
        """Use a descriptor that a client handed over. Raises OSError."""

    def kind(self, path: str) -> str:
        """`file`, `directory`, `char`, `block` or `other`. Raises OSError."""

    def room(self, path: str) -> int:
        """Bytes that the file system of a file has left. Raises OSError."""

    def absolute(self, path: str) -> str:
        """The path from the root."""

    def resolved(self, path: str) -> str:
        """The same without links: realpath(). Raises OSError where nothing is there."""

    def temporary_folder(self) -> str:
        """Where files go that nobody keeps. Raises OSError, with its name, if none can be made."""

    def remove(self, path: str) -> None:
        """Remove a file, if that can be done."""


# -- in memory -----------------------------------------------------------------------------------


@dataclass
class FileContent:
    """A file that several may have open."""

    size: int = 0
    pages: dict[int, bytearray] = field(default_factory=dict)
    #: open -> (bits held, bits unshared)
    locks: dict[int, tuple[int, int]] = field(default_factory=dict)


class MemoryFile:
    """One open of a file of `MemoryFiles`."""

    def __init__(self, content: FileContent, writable: bool) -> None:
        self._content = content
        self._writable = writable
        self._closed = False

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._writable

    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return not self._closed

    def size(self) -> int:
        """Bytes in it."""
        return self._content.size

    def allocated(self) -> int:
        """Pages in use."""
        return len(self._content.pages) * _PAGE

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes; fewer only at the end of the file."""
        end = min(offset + count, self._content.size)
        out = bytearray()
        while offset < end:
            page, start = divmod(offset, _PAGE)
            step = min(_PAGE - start, end - offset)
            found = self._content.pages.get(page)
            out += found[start : start + step] if found is not None else bytes(step)
            offset += step
        return bytes(out)

    def write(self, offset: int, data: bytes) -> None:
        """Write, making the file longer if needed."""
        self.check_writable()
        position = 0
        while position < len(data):
            page, start = divmod(offset + position, _PAGE)
            step = min(_PAGE - start, len(data) - position)
            found = self._content.pages.setdefault(page, bytearray(_PAGE))
            found[start : start + step] = data[position : position + step]
            position += step
        self._content.size = max(self._content.size, offset + len(data))

    def check_writable(self) -> None:
        """Raise OSError unless it was opened for writing."""
        if not self._writable:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def zero(self, offset: int, count: int) -> None:
        """Make a range read as zeros."""
        end = offset + count
        while offset < end:
            page, start = divmod(offset, _PAGE)
            step = min(_PAGE - start, end - offset)
            if step == _PAGE:
                self._content.pages.pop(page, None)
            elif page in self._content.pages:
                self._content.pages[page][start : start + step] = bytes(step)
            offset += step

    def truncate(self, size: int) -> None:
        """Change its size."""
        if size < self._content.size:
            self.zero(size, self._content.size - size)
            for page in [p for p in self._content.pages if p * _PAGE >= size]:
                del self._content.pages[page]
        self._content.size = size

    def allocate(self, offset: int, count: int) -> None:
        """There is always room."""
        self._content.size = max(self._content.size, offset + count)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Offset and length of what is not a hole."""
        end = min(end, self._content.size)
        pages = Intervals((page, page + 1) for page in sorted(self._content.pages))
        for page, behind in pages:
            first, last = max(page * _PAGE, start), min(behind * _PAGE, end)
            if first < last:
                yield first, last - first

    def lock(self, held: int, unshared: int) -> None:
        """Tell other users. Raises ImageLocked."""
        others = [lock for who, lock in self._content.locks.items() if who != id(self)]
        check_locks(held, unshared, [o[0] for o in others], [o[1] for o in others])
        self._content.locks[id(self)] = (held, unshared)

    def close(self) -> None:
        """Give it and its locks back."""
        self._closed = True
        self._content.locks.pop(id(self), None)


def check_locks(held: int, unshared: int, theirs: list[int], refused: list[int]) -> None:
    """Raise ImageLocked if the wanted permissions conflict with those of others."""
    for bit in range(held.bit_length()):
        if held >> bit & 1 and any(each >> bit & 1 for each in refused):
            raise ImageLocked(bit, shared=False)
    for bit in range(unshared.bit_length()):
        if unshared >> bit & 1 and any(each >> bit & 1 for each in theirs):
            raise ImageLocked(bit, shared=True)


class MemoryFiles:
    """A file system of its own, without folders."""

    def __init__(self) -> None:
        self._contents: dict[str, FileContent] = {}

    def names(self) -> list[str]:
        """The files there are."""
        return list(self._contents)

    def put(self, path: str, data: bytes = b"", size: int | None = None) -> None:
        """Make a file of this content, or an empty one of `size`."""
        file = self.open(path, writable=True, create=True)
        file.write(0, data)
        file.truncate(len(data) if size is None else size)

    def open(self, path: str, *, writable: bool, create: bool = False) -> BlockFile:
        """Open a file. Raises OSError."""
        if create:
            self._contents.setdefault(path, FileContent())
            MemoryFile(self._contents[path], writable=True).truncate(0)
        elif path not in self._contents:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return MemoryFile(self._contents[path], writable)

    def open_fd(self, fd: int, *, writable: bool) -> BlockFile:  # noqa: ARG002
        """There are no descriptors."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def kind(self, path: str) -> str:
        """Always `file`. Raises OSError if there is none."""
        if path not in self._contents:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return "file"

    def room(self, path: str) -> int:  # noqa: ARG002
        """As much as anybody wants."""
        return 1 << 62

    def absolute(self, path: str) -> str:
        """The path itself."""
        return path if path.startswith("/") else f"/{path}"

    def resolved(self, path: str) -> str:
        """The path itself. Raises OSError where no file is."""
        self.kind(path)
        return self.absolute(path)

    def temporary_folder(self) -> str:
        """There are no folders; this is QEMU's."""
        return "/var/tmp"

    def remove(self, path: str) -> None:
        """Forget the file."""
        self._contents.pop(path, None)
