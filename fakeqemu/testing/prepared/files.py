"""Image files of a prepared machine, and what its copies see and write instead.

Copies read the files that were open and keep what they write in memory, each for itself. The
files stay open, and locked as the prepared machine had them, as long as copies can be made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.intervals import Intervals
from fakeqemu.io.files.image_files import RealFile, RealFiles
from fakeqemu.model.block.files import BlockFile, FileContent, MemoryFile
from fakeqemu.testing.prepared.snapshot import NotCopyableError

_PAGE = 4096
_ZEROS = bytes(_PAGE)


class BaseFile:
    """One real file that copies read."""

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes, fewer at the end."""
        return os.pread(self._fd, count, offset)

    def close(self) -> None:
        """Let it go."""
        os.close(self._fd)


class BaseFiles:
    """The files that were open when a machine was prepared."""

    def __init__(self, files: RealFiles | None) -> None:
        #: device and inode -> the file
        self.files: dict[tuple[int, int], BaseFile] = {}
        self._opened_by = files

    def reduce(self, one: Any) -> Any:
        """What makes an open file in a copy; NotImplemented for anything else."""
        if not isinstance(one, RealFile):
            return NotImplemented
        info = os.fstat(one.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise NotCopyableError("a device of the host is in use, which copies would share")
        key = (info.st_dev, info.st_ino)
        if key not in self.files:
            self.files[key] = BaseFile(one.fileno())
        return _open_again, (self._opened_by, key, one.writable, one.locks)

    def close(self) -> None:
        """Let all go."""
        while self.files:
            self.files.popitem()[1].close()


@dataclass
class OverlayContent(FileContent):
    """A file as one copy has it: pages of its own over those of the real file."""

    base: BaseFile | None = None
    #: up to where the real file still shows
    shown: int = 0
    #: pages of the copy's own
    written: dict[int, bytes] = field(default_factory=dict)

    def page(self, number: int) -> bytes:
        """One page, with zeros behind the end of the file."""
        if (found := self.written.get(number)) is not None:
            return found
        start = number * _PAGE
        count = min(_PAGE, self.shown - start)
        if count <= 0 or self.base is None:
            return _ZEROS
        return self.base.read(start, count).ljust(_PAGE, b"\0")


class OverlayFile(MemoryFile):
    """One open of such a file."""

    def __init__(self, content: OverlayContent, writable: bool) -> None:
        super().__init__(content, writable)
        self._overlay = content

    def allocated(self) -> int:
        """Bytes in pages that are not zeros alone."""
        return sum(count for _, count in self.data_ranges(0, self._overlay.size))

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes; fewer only at the end of the file."""
        end = min(offset + count, self._overlay.size)
        if end <= offset:
            return b""
        first = offset // _PAGE
        pages = [self._overlay.page(each) for each in range(first, (end - 1) // _PAGE + 1)]
        start = offset - first * _PAGE
        return b"".join(pages)[start : start + end - offset]

    def write(self, offset: int, data: bytes) -> None:
        """Keep it in memory."""
        self.check_writable()
        position = 0
        while position < len(data):
            number, start = divmod(offset + position, _PAGE)
            piece = data[position : position + _PAGE - start]
            before = self._overlay.page(number)
            after = before[:start] + piece + before[start + len(piece) :]
            self._overlay.written[number] = after
            position += len(piece)
        self._overlay.size = max(self._overlay.size, offset + len(data))

    def zero(self, offset: int, count: int) -> None:
        """Make a range within the file read as zeros."""
        end, size = min(offset + count, self._overlay.size), self._overlay.size
        while offset < end:
            step = min(_PAGE - offset % _PAGE, end - offset)
            self.write(offset, bytes(step))
            offset += step
        self._overlay.size = size

    def truncate(self, size: int) -> None:
        """Change its size; what was cut off is gone."""
        content = self._overlay
        if size < content.size:
            if rest := size % _PAGE:
                self.zero(size, _PAGE - rest)
            content.written = {n: page for n, page in content.written.items() if n * _PAGE < size}
            content.shown = min(content.shown, size)
        content.size = size

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Offset and length of what is not zeros alone."""
        end = min(end, self._overlay.size)
        numbers = range(start // _PAGE, -(-end // _PAGE))
        used = (each for each in numbers if self._overlay.page(each) != _ZEROS)
        for page, behind in Intervals((each, each + 1) for each in used):
            first, last = max(page * _PAGE, start), min(behind * _PAGE, end)
            if first < last:
                yield first, last - first


class OverlayFiles(RealFiles):
    """The file system of a copy."""

    def __init__(self, base: BaseFiles) -> None:
        super().__init__()
        self._base = base.files
        self._contents: dict[tuple[int, int], OverlayContent] = {}

    def open(self, path: str, *, writable: bool, create: bool = False) -> BlockFile:
        """Open a file; one of the prepared machine's as this copy has it. Raises OSError."""
        try:
            info = os.stat(path)  # noqa: PTH116 - as image_files has it
        except OSError:
            return super().open(path, writable=writable, create=create)
        key = (info.st_dev, info.st_ino)
        if key not in self._base:
            return super().open(path, writable=writable, create=create)
        if create:
            self.again(key, writable=True).truncate(0)
        return self.again(key, writable=writable)

    def again(self, key: tuple[int, int], *, writable: bool) -> OverlayFile:
        """One open of a file that the prepared machine had open."""
        if key not in self._contents:
            base = self._base[key]
            self._contents[key] = OverlayContent(base.size, base=base, shown=base.size)
        return OverlayFile(self._contents[key], writable)


def _open_again(
    files: OverlayFiles, key: tuple[int, int], writable: bool, locks: tuple[int, int]
) -> OverlayFile:
    file = files.again(key, writable=writable)
    file.lock(*locks)
    return file
