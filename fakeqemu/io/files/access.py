"""Files of the host as one machine opens them; what does it is imported when the first is.

See util/osdep.c: qemu_open_internal().
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.io.files.image_files import RealFiles
    from fakeqemu.model.dump.output import DumpOutput


class FileAccess:
    """The part of an `OsHost` that opens files."""

    @cached_property
    def files(self) -> RealFiles:
        """Those of block nodes."""
        from fakeqemu.io.files.image_files import RealFiles

        return RealFiles()

    def close_files(self) -> None:
        """Close those of block nodes."""
        if "files" in self.__dict__:
            self.files.close()

    def create_file(self, path: str, size: int) -> int:
        """Make the file, or give an empty one its size if it can be; the size it had."""
        from fakeqemu.io.host_memory import create_file

        return create_file(path, size, self.say)

    def remove_file(self, path: str) -> None:
        """Remove a file, if that can be done."""
        self.files.remove(path)

    def create_output(self, path: str, mode: int = 0o666, *, fdsets: bool = True) -> DumpOutput:
        """Create or truncate a file; `fdsets`: or use that of `/dev/fdset/N`. Raises OSError."""
        from fakeqemu.io.files.output import create_output

        return create_output(self._open_path if fdsets else os.open, path, mode)

    def output_of_fd(self, fd: int) -> DumpOutput:
        """Write to a descriptor, and close it in the end. Raises OSError."""
        from fakeqemu.io.files.output import FdOutput

        return FdOutput(fd)

    def read_file(self, path: str) -> bytes:
        """A file's content."""
        with open(path, "rb") as file:  # noqa: PTH123 - to pathlib an empty name is a folder
            return file.read()

    def say(self, text: str) -> None:
        """Lines on standard error as they are."""
        raise NotImplementedError

    def _open_path(self, path: str, flags: int, mode: int) -> int:
        """A descriptor, a copy of one of an fdset's where it is named. Raises OSError."""
        raise NotImplementedError
