"""Whether the host has memory of a size: asked by mapping it, and giving it back at once.

What a kernel refuses depends on its memory, its overcommit policy and the process's limits; a
real QEMU on the same machine is told the same. Nothing is touched, so nothing is used.

See util/oslib-posix.c: qemu_anon_ram_alloc(); util/mmap-alloc.c: qemu_ram_mmap().
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

_FARTHEST = (1 << 63) - 1
#: bytes that a process of x86_64 can map at all
_ADDRESS_SPACE = 1 << 47
#: MAP_NORESERVE of Linux, which the module mmap lacks in Python 3.11
_NO_RESERVE = 0x4000
#: MAP_HUGETLB, and where the size of its pages stands in the flags
_HUGE, _HUGE_SHIFT = 0x40000, 26


class KernelMemory:
    """The memory of this host, as far as its kernel gives it."""

    def map_error(self, size: int, *, reserve: bool = True, page: int = 0) -> int:
        """The errno of mapping `size` bytes; 0 if that can be.

        `reserve`: whether the kernel has to have room for them all, as QEMU's `reserve=on` asks.
        `page`: bytes in the huge pages to map; 0: private memory of the usual pages.
        """
        import mmap

        if size > _FARTHEST:
            return errno.ENOMEM
        if not size:
            return 0
        flags = mmap.MAP_ANONYMOUS | (0 if reserve else _NO_RESERVE)
        if page:
            flags |= mmap.MAP_SHARED | _HUGE | page.bit_length() - 1 << _HUGE_SHIFT
        else:
            flags |= mmap.MAP_PRIVATE
        try:
            mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE).close()
        except (OSError, OverflowError) as error:
            return getattr(error, "errno", 0) or errno.ENOMEM
        return 0

    def shared_error(self, size: int) -> int:
        """The errno of giving a nameless shared memory file `size` bytes; 0 if that can be."""
        if size > _FARTHEST:
            return errno.EINVAL
        fd = os.memfd_create("fakeqemu", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            return error.errno or errno.EINVAL
        finally:
            os.close(fd)
        return 0

    def device_error(self, path: str) -> int:
        """The errno of mapping a pipe, socket or device; 0 if that can be, or it is none."""
        import mmap

        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return 0  # whoever opens it is told
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                mmap.mmap(fd, mmap.PAGESIZE).close()
        except OSError as error:
            return error.errno or errno.ENODEV
        finally:
            os.close(fd)
        return 0


class PretendedMemory(KernelMemory):
    """As much memory as an address space holds, whatever the host has.

    A test's guest has the size that the test gives it, on every machine that the test runs on;
    huge pages are there or not all the same.
    """

    def map_error(self, size: int, *, reserve: bool = True, page: int = 0) -> int:
        """See `KernelMemory`."""
        if not page and size <= _ADDRESS_SPACE:
            return 0
        return super().map_error(size, reserve=reserve, page=page)

    def shared_error(self, size: int) -> int:
        """See `KernelMemory`."""
        return 0 if size <= _ADDRESS_SPACE else super().shared_error(size)


def create_file(path: str, size: int, say: Callable[[str], None]) -> int:
    """Make the file that memory is to be kept in; the bytes that were in it. Raises OSError.

    An empty one is given `size` if it can be: what it cannot be mapping it shows.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        info = os.fstat(fd)
        found = info.st_size
        if not found and not stat.S_ISFIFO(info.st_mode):
            os.ftruncate(fd, size)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", 0) or errno.EINVAL
        say(f"ftruncate: {os.strerror(number)}")
    finally:
        os.close(fd)
    return found
