"""Drivers that reach data by themselves: files and devices.

See block/file-posix.c: raw_open_common() and hdev_open().
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import CHUNK, DATA, ZERO, BlockIoError, Range
from fakeqemu.model.block.drivers.driver import Driver, Reopening, driver
from fakeqemu.model.block.files import BlockFile, ImageLocked
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.fds.fdset import open_failure
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import digits

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Node

#: permissions for which the file has to be open for writing
_WRITERS = perms.WRITE | perms.WRITE_UNCHANGED | perms.RESIZE
_SECTOR = 512
_FDSET = "/dev/fdset/"


@contextlib.contextmanager
def _host_errors(operation: str) -> Iterator[None]:
    """The host's error of a `read` or `write` as the node's BlockIoError."""
    try:
        yield
    except OSError as error:
        failure = BlockIoError(os.strerror(error.errno or errno.EIO))
        failure.operation = operation
        raise failure from None


def lock_error(locked: ImageLocked, path: str) -> QapiError:
    """What stands in the way of an image lock, in QEMU's words."""
    how = "shared " if locked.shared else ""
    return QapiError(
        f'Failed to get {how}"{perms.NAMES[locked.bit]}" lock',
        f"Is another process using the image [{path}]?",
    )


def of_fdset(graph: Graph, path: str, *, writable: bool) -> BlockFile:
    """A copy of a descriptor that a client handed over. Raises OSError.

    See monitor/fds.c: monitor_fdset_dup_fd_add().
    """
    fdset = graph.fdsets.get(digits(path.removeprefix(_FDSET)))
    if fdset is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for each in fdset.fds:
        try:
            file: BlockFile = graph.files.open_fd(each.fd, writable=writable)
        except OSError as error:
            if error.errno != errno.EACCES:
                raise
        else:
            fdset.users.append(file.is_open)
            return file
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def resize(file: BlockFile, size: int, mode: str = "off") -> None:
    """Change a file's size and preallocate what is new. Raises QapiError.

    What could not be preallocated is given back. See block/file-posix.c: handle_aiocb_truncate().
    """
    before, step = 0, "Could not resize file"
    with contextlib.suppress(OSError):  # a pipe has none
        before = file.size()
    if before > size and mode != "off":
        raise QapiError("Cannot use preallocation for shrinking files")
    if mode == "metadata" and size != before:
        raise QapiError(f"Unsupported preallocation mode: {mode}")
    try:
        if mode == "falloc":
            step = "Could not preallocate new data"
            file.allocate(before, size - before)
            return
        file.truncate(size)
        if mode == "full":
            step = "Could not write zeros for preallocation"
            for at in range(before, size, CHUNK):
                file.write(at, bytes(min(CHUNK, size - at)))
    except OSError as error:
        if mode != "off":
            with contextlib.suppress(OSError):
                file.truncate(before)
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise QapiError(f"{step}: {reason}") from None


@driver
class FileDriver(Driver):
    """A file of the host."""

    name = "file"
    is_protocol = True
    supports_create = True
    first_child = None
    has_info = True
    strong = ("filename",)
    #: what has to be at the path
    kinds: tuple[str, ...] = ("file",)
    wanted = "a regular file"
    #: how it is opened besides
    open_flags = 0

    file: BlockFile
    path = ""
    reopens = True
    mutable = ("x-check-cache-dropped",)
    #: what other users of the image were last told
    _locks = (0, 0)

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Open the file. Raises QapiError."""
        self.path = options.pop("filename", "")
        aio = options.pop("aio", node.aio)
        self.locking = options.pop("locking", "auto")
        for name in ("x-check-cache-dropped", "drop-cache", "pr-manager", "aio-max-batch"):
            options.pop(name, None)
        self._open(node)
        if aio == "native" and not node.cache_direct:
            self.file.close()
            raise QapiError(
                "aio=native was specified, but it requires cache.direct=on,"
                " which was not specified."
            )
        kind = self._kind()
        if kind not in self.kinds:
            self.file.close()
            raise QapiError(f"'{self.name}' driver requires '{self.path}' to be {self.wanted}")

    def _kind(self) -> str:
        if self.path.startswith(_FDSET) or self.path in self.graph.temporary.names():
            return "file"
        return self.graph.files.kind(self.path)

    def _open(self, node: Node) -> None:
        writable = not node.read_only and not node.auto_read_only
        try:
            self.file = self._handle(writable=writable)
        except OSError as error:
            if not (node.auto_read_only and not node.read_only and error.errno in _DENIED):
                raise self._cannot_open(error, node, writable=writable) from None
            try:
                self.file = self._handle(writable=False)
            except OSError as second:
                raise self._cannot_open(second, node, writable=False) from None
            node.read_only = True

    def _cannot_open(self, error: OSError, node: Node, *, writable: bool) -> QapiError:
        flags = self.open_flags | (os.O_RDWR if writable else os.O_RDONLY)
        if node.cache_direct:
            flags |= getattr(os, "O_DIRECT", 0)
        named = self.graph.process.profile.traits.fdset_failures_named
        return QapiError(open_failure(self.path, flags, error, steps_named=named))

    def _handle(self, *, writable: bool) -> BlockFile:
        files = self.graph.files
        if self.path in self.graph.temporary.names():
            return self.graph.temporary.open(self.path, writable=writable)
        if self.path.startswith(_FDSET):
            return of_fdset(self.graph, self.path, writable=writable)
        return files.open(self.path, writable=writable)

    def close(self, node: Node) -> None:  # noqa: ARG002
        """Give the file and its locks back."""
        self.file.close()

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Reopening:  # noqa: ARG002
        """Other flags; the file stays the same."""
        for name in ("x-check-cache-dropped", "drop-cache"):
            options.pop(name, None)
        return Reopening()

    def make_writable(self, node: Node) -> None:
        """The node is to be writable from now on. Raises QapiError."""
        if self.file.writable:
            return
        try:
            new = self._handle(writable=True)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise QapiError(f"The device is not writable: {reason}") from None
        self.file.close()
        self.file = new
        self._locks = (0, 0)
        self._lock(node.perm, node.shared, node)

    # -- permissions ---------------------------------------------------------------------------

    def check_permissions(self, node: Node, perm: int, shared: int) -> None:
        """Take the image locks. Raises QapiError."""
        if perm & _WRITERS and not node.read_only:
            self.make_writable(node)
        self._lock(perm, shared, node)

    def _lock(self, perm: int, shared: int, node: Node) -> None:
        if self.locking == "off" or node.force_share:
            return
        if node.inactive:
            perm, shared = 0, perms.ALL
        wanted = perm, ~shared & perms.ALL
        if wanted == self._locks:
            return
        try:
            self.file.lock(*wanted)
        except ImageLocked as locked:
            raise lock_error(locked, self.path) from None
        self._locks = wanted

    def settle(self, node: Node) -> None:
        """Back to the locks of before."""
        self._lock(node.perm, node.shared, node)

    # -- data ----------------------------------------------------------------------------------

    def length(self, node: Node) -> int:  # noqa: ARG002
        """The file's size in whole sectors: block.c: bdrv_co_getlength(). Raises BlockIoError."""
        with _host_errors("read"):
            return -(-self.file.size() // _SECTOR) * _SECTOR

    def read(self, node: Node, offset: int, count: int) -> bytes:  # noqa: ARG002
        """Beyond the end there are zeros. Raises BlockIoError."""
        with _host_errors("read"):
            data = self.file.read(offset, count)
        return data if len(data) == count else data + bytes(count - len(data))

    def write(self, node: Node, offset: int, data: bytes) -> None:  # noqa: ARG002
        """Write into the file. Raises BlockIoError."""
        with _host_errors("write"):
            self.file.write(offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:  # noqa: ARG002
        """A hole, and a longer file where needed. Raises BlockIoError."""
        with _host_errors("write"):
            self.file.zero(offset, count)
            if self.file.size() < offset + count:
                self.file.truncate(offset + count)

    def discard(self, node: Node, offset: int, count: int) -> None:  # noqa: ARG002
        """A hole; the file is no longer for it. See block/file-posix.c: handle_aiocb_discard().

        Raises BlockIoError.
        """
        with _host_errors("write"):
            count = min(count, self.file.size() - offset)
            if count > 0:
                self.file.zero(offset, count)

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:  # noqa: ARG002
        """Data and holes. Raises BlockIoError."""
        with _host_errors("read"):
            found = list(self.file.data_ranges(start, end))
        for first, count in found:
            if start < first:
                yield Range(start, first - start, ZERO)
            yield Range(first, count, DATA)
            start = first + count
        if start < end:
            yield Range(start, end - start, ZERO)

    def truncate(self, node: Node, size: int, prealloc: str = "off") -> None:  # noqa: ARG002
        """Change the file's size. Raises QapiError."""
        resize(self.file, size, prealloc)

    # -- what it shows ---------------------------------------------------------------------------

    def exact_filename(self, node: Node) -> str | None:  # noqa: ARG002
        """The path as given."""
        return self.path

    def allocated(self, node: Node) -> int | None:  # noqa: ARG002
        """Blocks on disk."""
        return self.file.allocated()

    def specific(self, node: Node) -> dict[str, Any] | None:  # noqa: ARG002
        """Nothing about this file worth saying."""
        return {"type": "file", "data": {}}

    def statistics(self, node: Node) -> dict[str, Any] | None:  # noqa: ARG002
        """Counts of discards; no guest makes any."""
        zeros = ("discard-nb-ok", "discard-nb-failed", "discard-bytes-ok")
        return {"driver": self.name, **dict.fromkeys(zeros, 0)}

    def limits(self, node: Node) -> dict[str, Any]:
        """Direct I/O wants sectors."""
        unit = _SECTOR if node.cache_direct else 1
        return {
            "request-alignment": unit,
            "min-mem-alignment": unit,
            "opt-mem-alignment": 4096,
            "max-iov": 1024,
        }


_DENIED = (errno.EPERM, errno.EACCES, errno.EROFS)


@driver
class HostDevice(FileDriver):
    """A device of the host."""

    name = "host_device"
    kinds = ("char", "block")
    wanted = "either a character or block device"


@driver
class HostCdrom(HostDevice):
    """A CD drive of the host."""

    name = "host_cdrom"
    open_flags = os.O_NONBLOCK

    def statistics(self, node: Node) -> dict[str, Any] | None:  # noqa: ARG002
        """Nothing."""
        return None


def require_filename(name: str) -> QapiError:
    """A protocol driver without a file."""
    return QapiError(f"The '{name}' block driver requires a file name")


__all__ = ["FileDriver", "HostCdrom", "HostDevice", "require_filename"]
