"""QEMU_VM_COMMAND: what the source tells the destination to do.

See migration/savevm.c: loadvm_process_command(), qemu_savevm_command_send() and
loadvm_handle_cmd_packaged().
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.byte_reader import ByteReader
from fakeqemu.formats.migration_stream.constants import (
    COMMAND_LENGTH,
    PACKAGE_LIMIT,
    PAGE_SIZE,
    PostcopyState,
    VmCommand,
)
from fakeqemu.formats.migration_stream.errors import EAGAIN, EINVAL, EPERM, ERANGE, LoadError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.formats.migration_stream.reader import StreamReader

#: a discard command without ranges: version, length of the name, name, zero
_DISCARD_MINIMUM = 1 + 1 + 1 + 1 + 16


def read(
    reader: StreamReader, pull: ByteReader, out: list[events.Event]
) -> Generator[None, None, bool]:
    """One command after its mark; false if it ends the loop over sections. Raises LoadError."""
    number = yield from pull.number(2)
    size = yield from pull.number(2)
    if pull.error:
        modern = f"Failed to load VM process command: stream error: -{pull.error}"
        raise LoadError(pull.error, modern=modern)
    last = VmCommand.RECV_BITMAP
    if reader.traits.stream_switchover_start:
        last = VmCommand.SWITCHOVER_START
    if not 0 < number <= last:
        raise LoadError(EINVAL, f"MIG_CMD 0x{number:x} unknown (len 0x{size:x})")
    command = VmCommand(number)
    if COMMAND_LENGTH.get(command, size) != size:
        raise LoadError(
            ERANGE,
            f"{command.name} received with bad length - "
            f"expecting {COMMAND_LENGTH[command]}, got {size}",
        )
    if command in _AT_ONCE:
        return _AT_ONCE[command](reader, size, out)
    return (yield from _PARSERS[command](reader, pull, size, out))


_Result = Generator[None, None, bool]


def _open_return_path(reader: StreamReader, size: int, out: list[events.Event]) -> bool:
    del size
    if reader.return_path:
        out.append(events.Report("CMD_OPEN_RETURN_PATH called when RP already open"))
    else:
        reader.return_path = True
        out.append(events.OpenReturnPath())
    return True


def _ping(reader: StreamReader, pull: ByteReader, size: int, out: list[events.Event]) -> _Result:
    del size
    value = yield from pull.number(4)
    if not reader.return_path:
        raise LoadError(EPERM, f"CMD_PING (0x{value:x}) received with no return path")
    out.append(events.Ping(value))
    return True


def _wrong_state(reader: StreamReader, command: VmCommand) -> LoadError:
    return LoadError(EPERM, f"CMD_{command.name} in wrong postcopy state ({int(reader.postcopy)})")


def _advise(reader: StreamReader, pull: ByteReader, size: int, out: list[events.Event]) -> _Result:
    before, reader_on = reader.postcopy, reader.expected.on("postcopy-ram")
    if before != PostcopyState.NONE:
        raise _wrong_state(reader, VmCommand.POSTCOPY_ADVISE)
    reader.postcopy = PostcopyState.ADVISE
    if size == 0:
        if reader_on:
            raise LoadError(EINVAL, "RAM postcopy is enabled but have 0 byte advise")
        out.append(events.PostcopyAdvise())
        return True
    if size != 16:
        raise LoadError(EINVAL, f"CMD_POSTCOPY_ADVISE invalid length ({size})")
    if not reader_on:
        raise LoadError(EINVAL, "RAM postcopy is disabled but have 16 byte advise")
    summary = yield from pull.number(8)
    local = reader.expected.page_size_summary
    if summary != local:
        text = f"Postcopy needs matching RAM page sizes (s={summary:x} d={local:x})"
        raise LoadError(EPERM, text)
    target = yield from pull.number(8)
    if target != PAGE_SIZE:
        text = f"Postcopy needs matching target page sizes (s={target} d={PAGE_SIZE})"
        raise LoadError(EPERM, text)
    out.append(events.PostcopyAdvise())
    return True


def _listen(reader: StreamReader, size: int, out: list[events.Event]) -> bool:
    del size
    if reader.postcopy not in (PostcopyState.ADVISE, PostcopyState.DISCARD):
        raise _wrong_state(reader, VmCommand.POSTCOPY_LISTEN)
    reader.postcopy = PostcopyState.LISTENING
    out.append(events.PostcopyListen())
    return True


def _run(reader: StreamReader, size: int, out: list[events.Event]) -> bool:
    del size
    if reader.postcopy != PostcopyState.LISTENING:
        raise _wrong_state(reader, VmCommand.POSTCOPY_RUN)
    reader.postcopy = PostcopyState.RUNNING
    out.append(events.PostcopyRun())
    return False


def _discard(reader: StreamReader, pull: ByteReader, size: int, out: list[events.Event]) -> _Result:
    name = "CMD_POSTCOPY_RAM_DISCARD"
    if reader.postcopy not in (PostcopyState.ADVISE, PostcopyState.DISCARD):
        raise _wrong_state(reader, VmCommand.POSTCOPY_RAM_DISCARD)
    reader.postcopy = PostcopyState.DISCARD
    if size < _DISCARD_MINIMUM:
        raise LoadError(EPERM, f"{name} invalid length ({size})")
    version = yield from pull.number(1)
    if version != 0:
        raise LoadError(EPERM, f"{name} invalid version ({version})")
    block = yield from pull.counted()
    if not block:
        raise LoadError(EPERM, f"{name} Failed to read RAMBlock ID")
    nil = yield from pull.number(1)
    if nil != 0:
        raise LoadError(EPERM, f"{name} missing nil ({nil})")
    left = size - 3 - len(c_bytes(block))
    if left < 0 or left % 16:
        raise LoadError(EPERM, f"{name} invalid length ({left})")
    ranges = []
    for _ in range(left // 16):
        start = yield from pull.number(8)
        ranges.append((start, (yield from pull.number(8))))
    out.append(events.PostcopyDiscard(block, tuple(ranges)))
    return True


def _packaged(
    reader: StreamReader, pull: ByteReader, size: int, out: list[events.Event]
) -> _Result:
    del size, out
    length = yield from pull.number(4)
    here = yield from pull.want(min(length, PACKAGE_LIMIT))
    if here < length:
        if not pull.ended:
            raise LoadError(EPERM, f"Unreasonably large packaged state: {length}")
        raise LoadError(EAGAIN, f"CMD_PACKAGED: Buffer receive fail ret={here} length={length}")
    package = ByteReader((yield from pull.get(length)), ended=True)
    # POSTCOPY_RUN ends the package; what is left of the stream is read as before
    yield from reader.sections(package)
    return True


def _resume(reader: StreamReader, size: int, out: list[events.Event]) -> bool:
    del size
    if reader.recovering:
        out.append(events.PostcopyResume())
    else:
        mark = "warning: " if reader.traits.load_error_has_cause else ""
        text = "loadvm_postcopy_handle_resume: illegal resume received"
        out.append(events.Report(mark + text))
    return True


def _recv_bitmap(
    reader: StreamReader, pull: ByteReader, size: int, out: list[events.Event]
) -> _Result:
    block = yield from pull.counted()

    def wrong(text: str) -> LoadError:
        return LoadError(EINVAL, f"loadvm_handle_recv_bitmap: {text}", modern=text)

    if not block:
        raise wrong("failed to read block name")
    if size != len(c_bytes(block)) + 1:
        raise wrong(f"invalid payload length ({size})")
    if not reader.has_block(block):
        raise wrong(f"block '{block}' not found")
    out.append(events.RecvBitmap(block))
    return True


def _colo(reader: StreamReader, size: int, out: list[events.Event]) -> bool:
    how = reader.traits.stream_colo
    if how == "refuse":
        text = f"MIG_CMD 0x{int(VmCommand.ENABLE_COLO):x} deprecated (len 0x{size:x})"
        raise LoadError(EINVAL, text)
    if how == "capability" and not reader.expected.on("x-colo"):
        text = "ENABLE_COLO command come in migration stream, but x-colo capability is not set"
        raise LoadError(EINVAL, text)
    out.append(events.EnableColo())
    return True


def _switchover_start(reader: StreamReader, size: int, out: list[events.Event]) -> bool:
    del reader, size
    out.append(events.SwitchoverStart())
    return True


#: those that are no more than their number
_AT_ONCE = {
    VmCommand.OPEN_RETURN_PATH: _open_return_path,
    VmCommand.POSTCOPY_LISTEN: _listen,
    VmCommand.POSTCOPY_RUN: _run,
    VmCommand.ENABLE_COLO: _colo,
    VmCommand.POSTCOPY_RESUME: _resume,
    VmCommand.SWITCHOVER_START: _switchover_start,
}
#: those that bring data to read
_PARSERS = {
    VmCommand.PING: _ping,
    VmCommand.POSTCOPY_ADVISE: _advise,
    VmCommand.POSTCOPY_RAM_DISCARD: _discard,
    VmCommand.PACKAGED: _packaged,
    VmCommand.RECV_BITMAP: _recv_bitmap,
}
