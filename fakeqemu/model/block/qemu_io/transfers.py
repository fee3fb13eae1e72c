"""qemu-io's reads, writes, discards and flushes.

See qemu-io-cmds.c: read_f(), write_f(), readv_f(), writev_f(), aio_read_f(), aio_write_f(),
discard_f() and aio_flush_f().
"""

from __future__ import annotations

import os
from collections.abc import Callable

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats import extents
from fakeqemu.formats.extents import MustWaitError
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.waiting import RetriedAccess
from fakeqemu.model.block.qemu_io import report
from fakeqemu.model.block.qemu_io.command import (
    REQUEST_MAX,
    CmdInfo,
    QemuIoLine,
    RefusedError,
    register,
)
from fakeqemu.qapi.errors import NotModelledError, QapiError

_FILLER = 0xCD
_SECTOR = 512


@dataclass(slots=True)
class _Transfer:
    """A request as its options say."""

    line: QemuIoLine
    #: letters given
    flags: set[str] = field(default_factory=set)
    pattern: int | None = None
    offset: int = 0
    count: int = 0
    #: when it began
    start: int = 0

    @property
    def asynchronous(self) -> bool:
        """Whether it counts in the backend's statistics."""
        return self.line.command.name.startswith("aio_")

    def check(self) -> None:
        """Whether the medium has the range. Raises QapiError.

        See block/block-backend.c: blk_check_byte_request().
        """
        if self.offset + self.count > base.length(self.line.node):
            raise extents.BlockIoError

    def perform(self, act: Callable[[], None], failed: str, kind: str = "") -> None:
        """Do it, or print that it failed. Raises RefusedError then.

        `kind`: what a failure counts as in the backend's statistics.
        """
        self.start = self.line.block.process.clock.now()
        try:
            act()
        except NotModelledError:
            raise
        except QapiError as error:
            if kind:
                self.line.backend.traffic.count_failed(kind)
            raise self.line.refuse(f"{failed} failed: {error.desc}") from None

    def done(self, operation: str, data: bytes | None = None) -> None:
        """Print what has been done, unless -q is given."""
        if "q" in self.flags:
            return
        if data and "v" in self.flags:
            self.line.say(report.dump(data, self.offset))
        took = self.line.block.process.clock.now() - self.start
        self.line.say(
            report.statistics(
                operation, self.offset, self.count, self.count, took, parsable="C" in self.flags
            )
        )

    def expect(self, data: bytes, start: int, count: int) -> None:
        """Print it if a part of what was read is not all the byte of -P."""
        if self.pattern is None:
            return
        if data.count(self.pattern, start, start + count) != count:
            at = self.offset + start
            self.line.say(f"Pattern verification failed at offset {at}, {count} bytes")

    def aligned(self) -> None:
        """Whether it is in whole sectors. Raises RefusedError."""
        for value, name in ((self.offset, "offset"), (self.count, "count")):
            if value % _SECTOR:
                raise self.line.refuse(f"{value} is not a sector-aligned value for '{name}'")


def _read(line: QemuIoLine) -> None:
    request, part = _Transfer(line), dict[str, int]()
    for letter, value in line.options():
        if letter in "ls":
            part[letter] = line.number(value)
        _take(request, letter, value)
    if len(line.values) != 2:
        raise line.usage()
    request.offset = line.number(line.values[0])
    request.count = line.length(line.values[1])
    if part and request.pattern is None:
        raise line.usage()
    start = part.get("s", 0)
    count = part.get("l", request.count - start)
    if count < 0 or start + count > request.count:
        raise line.refuse("pattern verification range exceeds end of read data")
    if "b" in request.flags:
        request.aligned()
        if "r" in request.flags:
            raise line.refuse("I/O buffer registration is not supported when reading from vmstate")
        raise NotModelledError("qemu-io read -b")
    data = _fetch(request, "read", counted=False)
    request.expect(data, start, count)
    request.done("read", data)


def _readv(line: QemuIoLine) -> None:
    request = _vector(line)
    if request is None:
        return

    def act() -> None:
        data = _fetch(request, "readv", counted=request.asynchronous)
        request.expect(data, 0, request.count)
        request.done("read", data)

    _submit(request, act)


def _fetch(request: _Transfer, name: str, *, counted: bool) -> bytes:
    found = b""

    def act() -> None:
        nonlocal found
        request.check()
        found = request.line.backend.read(request.offset, request.count, counted=counted)

    request.perform(act, name, "rd" if counted else "")
    return found


def _write(line: QemuIoLine) -> None:
    request, source = _Transfer(line), None
    for letter, value in line.options():
        if letter == "s":
            source = value
        _take(request, letter, value)
    if len(line.values) != 2:
        raise line.usage()
    _check_write(request, named=source is not None)
    request.offset = line.number(line.values[0])
    request.count = line.number(line.values[1])
    if request.count > REQUEST_MAX and "n" not in request.flags:
        raise line.refuse(f"length cannot exceed {REQUEST_MAX} without -n, given {line.values[1]}")
    if request.flags & {"b", "c"}:
        request.aligned()
    if "n" in request.flags:
        _check_fallback(request)
    if request.flags >= {"z", "r"}:
        raise line.refuse("cannot combine zero write with registered I/O buffer")
    if "b" in request.flags:
        raise NotModelledError("qemu-io write -b")
    data = _of_file(request, source) if source is not None else None
    request.perform(lambda: _store(request, data, counted=False), "write")
    request.done("wrote")


def _check_fallback(request: _Transfer) -> None:
    """Raise NotModelledError where BDRV_REQ_NO_FALLBACK may count: zeros for parts of clusters."""
    node = request.line.backend.node
    assert node is not None
    cluster = node.driver.cluster_size(node) or 1
    if request.offset % cluster or request.count % cluster:
        raise NotModelledError("qemu-io write -n of parts of clusters")


def _check_write(request: _Transfer, *, named: bool) -> None:
    """Whether the letters of `write` go together. Raises RefusedError."""
    line, flags = request.line, request.flags
    if flags >= {"b", "z"}:
        raise line.refuse("-b and -z cannot be specified at the same time")
    if "f" in flags and flags & {"b", "c"}:
        raise line.refuse("-f and -b or -c cannot be specified at the same time")
    for letter in "nu":
        if letter in flags and "z" not in flags:
            raise line.refuse(f"-{letter} requires -z to be specified")
    if ("z" in flags) + (request.pattern is not None) + named > 1:
        raise line.refuse("Only one of -z, -P, and -s can be specified at the same time")


def _of_file(request: _Transfer, path: str) -> bytes:
    """The content of a file, over and over. Raises RefusedError."""
    line = request.line
    try:
        data = line.block.process.host.read_file(path)[: request.count]
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        line.complain(f"{path}: {reason}")
        raise RefusedError from None
    if not data:
        line.complain(f"{path}: file is empty")
        raise RefusedError
    return (data * (-(-request.count // len(data))))[: request.count]


def _store(request: _Transfer, data: bytes | None, *, counted: bool) -> None:
    request.check()
    backend, flags = request.line.backend, request.flags
    offset, count, fua = request.offset, request.count, "f" in flags
    if "z" in flags:
        backend.zero(offset, count, counted=False, fua=fua)
    elif data is not None:
        backend.write(offset, data, counted=counted, compress="c" in flags, fua=fua)
    else:
        byte = bytes([_FILLER if request.pattern is None else request.pattern])
        for at in range(offset, offset + count, extents.CHUNK):
            step = min(extents.CHUNK, offset + count - at)
            last = fua and at + step == offset + count
            backend.write(at, byte * step, counted=False, compress="c" in flags, fua=last)
        if counted:
            backend.traffic.count("wr", count, request.line.block.process.clock.now())


def _writev(line: QemuIoLine) -> None:
    request = _vector(line)
    if request is None:
        return
    counted = request.asynchronous and "z" not in request.flags
    kind = "wr" if counted else ""

    def act() -> None:
        request.perform(lambda: _store(request, None, counted=counted), line.command.name, kind)
        if request.asynchronous and "z" in request.flags:
            request.start = 0  # as in QEMU: what has passed since the host's clock began
        request.done("wrote")

    _submit(request, act)


def _submit(request: _Transfer, act: Callable[[], None]) -> None:
    """Do it; one of aio_* may be held at a breakpoint, and is done when that is resumed."""
    if not request.asynchronous:
        act()
        return
    waiting = request.line.block.graph.waiting

    def attempt() -> None:
        try:
            with waiting.holding(access):
                act()
        except MustWaitError:
            return
        except RefusedError:
            pass
        access.forget()

    access = RetriedAccess(waiting, attempt)
    attempt()


def _vector(line: QemuIoLine) -> _Transfer | None:
    """A request with the lengths of its buffers; None for one that option -i ended.

    Raises RefusedError.
    """
    request, writes = _Transfer(line), "write" in line.command.name
    kind = "write" if writes else "read"
    counts = line.backend.traffic
    for letter, value in line.options():
        if letter == "i":
            line.say(f"injecting invalid {kind} request")
            counts.count_invalid("wr" if writes else "rd")
            return None
        _take(request, letter, value)
    if len(line.values) < 2:
        raise line.usage()
    flags = request.flags
    if "z" in flags and len(line.values) != 2:
        raise line.refuse("-z supports only a single length parameter")
    if "u" in flags and "z" not in flags:
        raise line.refuse("-u requires -z to be specified")
    if flags >= {"z", "r"}:
        raise line.refuse("cannot combine zero write with registered I/O buffer")
    request.offset = line.number(line.values[0])
    if "z" in flags:
        request.count = line.number(line.values[1])
        return request
    try:
        request.count = line.lengths(line.values[1:])
    except RefusedError:
        if request.asynchronous:
            counts.count_invalid("wr" if writes else "rd")
        raise
    return request


def _take(request: _Transfer, letter: str, value: str) -> None:
    """Note a letter, and the byte of -P. Raises RefusedError."""
    if letter == "P":
        request.pattern = request.line.pattern(value)
    request.flags.add(letter)


def _discard(line: QemuIoLine) -> None:
    request = _Transfer(line)
    for letter, value in line.options():
        _take(request, letter, value)
    if len(line.values) != 2:
        raise line.usage()
    request.offset = line.number(line.values[0])
    limited = not request.asynchronous
    request.count = (line.length if limited else line.number)(line.values[1])

    def act() -> None:
        request.check()
        line.backend.discard(request.offset, request.count)
        if request.asynchronous:
            line.backend.traffic.count("unmap", request.count, line.block.process.clock.now())

    request.perform(act, line.command.name, "unmap" if request.asynchronous else "")
    request.done("discarded " if request.asynchronous else "discard")


def _flush(line: QemuIoLine) -> None:
    node = line.backend.node
    if node is None:
        return
    try:
        base.flush(node)
    except NotModelledError:
        raise
    except QapiError as error:  # which qemu-io itself would exit with
        line.block.process.journal.note("qemu-io", f"flush: {error.desc}")


def _aio_flush(line: QemuIoLine) -> None:
    """All that was begun is done, but for what is held at a breakpoint."""
    traffic = line.backend.traffic
    traffic.count("flush", 0, line.block.process.clock.now())


_ONE, _MANY = "off len", "off len [len..]"
_READS, _WRITES = "reads a number of bytes", "writes a number of bytes"
_AT = " at a specified offset"

register(
    CmdInfo(
        "read", _read, "r", 2, None, f"[-abCqrv] [-P pattern [-s off] [-l len]] {_ONE}",
        f"[-abCqv] [-P pattern [-s off] [-l len]] {_ONE}", _READS + _AT, "bCl:pP:qrs:v",
        explained=True,
    ),
    CmdInfo(
        "readv", _readv, "", 2, None, f"[-Cqrv] [-P pattern] {_MANY}",
        f"[-Cqv] [-P pattern] {_MANY}", _READS + _AT, "CP:qrv", explained=True,
    ),
    CmdInfo(
        "write", _write, "w", 2, None, f"[-bcCfnqruz] [-P pattern | -s source_file] {_ONE}",
        f"[-bcCfnquz] [-P pattern | -s source_file] {_ONE}", _WRITES + _AT, "bcCfnpP:qrs:uz",
        perms.WRITE, explained=True,
    ),
    CmdInfo(
        "writev", _writev, "", 2, None, f"[-Cfqr] [-P pattern] {_MANY}",
        f"[-Cfq] [-P pattern] {_MANY}", _WRITES + _AT, "CfP:qr", perms.WRITE, explained=True,
    ),
    CmdInfo(
        "aio_read", _readv, "", 2, None, f"[-Ciqrv] [-P pattern] {_MANY}",
        f"[-Ciqv] [-P pattern] {_MANY}", f"asynchronously {_READS}", "CiP:qrv", explained=True,
    ),
    CmdInfo(
        "aio_write", _writev, "", 2, None, f"[-Cfiqruz] [-P pattern] {_MANY}",
        f"[-Cfiquz] [-P pattern] {_MANY}", f"asynchronously {_WRITES}", "CfiP:qruz",
        perms.WRITE, explained=True,
    ),
    CmdInfo("aio_flush", _aio_flush, oneline="completes all outstanding aio requests"),
    CmdInfo("flush", _flush, "f", oneline="flush all in-core file state to disk"),
    CmdInfo(
        "discard", _discard, "d", 2, None, f"[-Cq] {_ONE}", None,
        f"discards a number of bytes{_AT}", "Cq", perms.WRITE, explained=True,
    ),
    CmdInfo(
        "aio_discard", _discard, "", 2, None, f"[-Cq] {_ONE}", None,
        "asynchronously discards a number of bytes", "Cq", perms.WRITE, explained=True,
        trait="qemu_io_zones",
    ),
)  # fmt: skip
