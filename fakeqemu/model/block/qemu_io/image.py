"""What qemu-io asks of an image as a whole: its size, what is allocated, what it is.

See qemu-io-cmds.c: truncate_f(), length_f(), info_f(), alloc_f(), map_f() and zone_report_f().
"""

from __future__ import annotations

from fakeqemu.formats.extents import HOLE
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import inserted
from fakeqemu.model.block.drivers.qcow2.driver import Qcow2Driver
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.image_info import specific_text
from fakeqemu.model.block.qemu_io.command import CmdInfo, QemuIoLine, register
from fakeqemu.model.block.qemu_io.report import size_text
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.scalars import parse_int64

_SECTOR = 512
_MOST_ZONES = (1 << 32) - 1
_SIGNALS = 65
_UNSUPPORTED = "Operation not supported"


def _truncate(line: QemuIoLine) -> None:
    mode = "off"
    options = list(line.options())
    for _, mode in options:
        if mode not in line.block.process.profile.schema.enum_values("PreallocMode"):
            raise QapiError(f"Invalid preallocation mode '{mode}'")
    # QEMU names the first word here, whichever it could not read
    first = f"-m{options[0][1]}" if options else None
    if options:
        first = line.words[1] if line.words[1].startswith("-m") else "-m"
    size = line.number(line.values[0] if line.values else None, first)
    if line.backend.node is None or not inserted(line.backend.node):
        raise QapiError("No medium inserted")
    if mode != "off":
        raise NotModelledError(f"qemu-io truncate -m {mode}")
    base.truncate(line.backend.node, size)


def _length(line: QemuIoLine) -> None:
    try:
        line.say(size_text(base.length(line.node)))
    except QapiError as error:
        raise line.refuse(f"getlength: {error.desc}") from None


def _info(line: QemuIoLine) -> None:
    node = line.node
    driver = node.driver
    line.say(f"format name: {driver.name}")
    if driver.is_protocol:
        line.say(f"format name: {driver.name}")
    if not driver.knows_info(node):
        return
    offset = driver.vm_state_offset() if isinstance(driver, Qcow2Driver) else 0
    line.say(f"cluster size: {size_text(driver.cluster_size(node))}")
    line.say(f"vm state offset: {size_text(offset)}")
    specific = driver.specific(node)
    text = specific_text(specific["data"]) if specific is not None else ""
    if text:
        heading = "Format specific information:"
        if line.traits.qemu_io_info_whole:
            line.answer = f"{heading}\n{text}"
        else:
            line.say(heading)
            line.answer = text


def _pieces(line: QemuIoLine, start: int, end: int) -> list[tuple[int, int, bool]]:
    """Offsets and lengths of what is and what is not allocated in a range, joined."""
    found: list[tuple[int, int, bool]] = []
    end = min(end, base.length(line.node))
    for piece in base.status(line.node, start, end) if start < end else ():
        allocated = piece.kind != HOLE
        if found and found[-1][2] == allocated:
            offset, length, _ = found[-1]
            found[-1] = offset, length + piece.length, allocated
        else:
            found.append((piece.offset, piece.length, allocated))
    return found


def _alloc(line: QemuIoLine) -> None:
    start = line.number(line.words[1])
    count = line.number(line.words[2]) if len(line.words) > 2 else _SECTOR
    try:
        pieces = _pieces(line, start, start + count)
    except NotModelledError:
        raise
    except QapiError as error:
        raise line.refuse(f"is_allocated failed: {error.desc}") from None
    looked_at = sum(length for _, length, _ in pieces)
    total = sum(length for _, length, allocated in pieces if allocated)
    line.say(f"{total}/{looked_at} bytes allocated at offset {size_text(start)}")


def _map(line: QemuIoLine) -> None:
    try:
        pieces = _pieces(line, 0, base.length(line.node))
    except NotModelledError:
        raise
    except QapiError as error:
        raise QapiError(f"Failed to query image length: {error.desc}") from None
    for offset, length, allocated in pieces:
        kind = "    allocated" if allocated else "not allocated"
        line.say(
            f"{size_text(length)} (0x{length:x}) bytes {kind}"
            f" at offset {size_text(offset)} (0x{offset:x})"
        )


# -- zones: no image of the model has any ----------------------------------------------------------


def _zone_report(line: QemuIoLine) -> None:
    line.number(line.words[1])
    if line.number(line.words[2]) > _MOST_ZONES:
        raise line.refuse("Number of zones must be less than 2^32")
    raise line.refuse(f"zone report failed: {_without_zones(line)}")


def _zone_change(line: QemuIoLine) -> None:
    offset, length = (line.number(word) for word in line.words[1:3])
    name = line.command.name.replace("_", " ")
    raise line.refuse(f"{name} failed: {_without_zones(line, offset + length)}")


def _zone_append(line: QemuIoLine) -> None:
    list(line.options())
    if not line.values:
        raise line.usage()
    line.number(line.values[0])
    line.lengths(line.values[1:])
    raise line.refuse(f"zone append failed: {_without_zones(line)}")


def _without_zones(line: QemuIoLine, end: int = 0) -> str:
    """Why nothing can be done with zones, in the system's words."""
    if line.backend.node is None:
        return "No medium found"
    return "Input/output error" if end > base.length(line.backend.node) else _UNSUPPORTED


# -- the process -----------------------------------------------------------------------------------


def _sleep(line: QemuIoLine) -> None:
    try:
        duration = parse_int64(line.words[1])
    except ValueError:
        duration = -1
    if duration < 0:
        raise line.refuse(f"{line.words[1]} is not a valid number")
    raise NotModelledError("qemu-io sleep")


def _sigraise(line: QemuIoLine) -> None:
    if line.number(line.words[1]) > _SIGNALS:
        raise line.refuse(f"signal argument '{line.words[1]}' is too large to be a valid signal")
    raise NotModelledError("qemu-io sigraise")


def _abort(_line: QemuIoLine) -> None:
    raise NotModelledError("qemu-io abort")


#: names, short names and what `help` says
_ZONE_CHANGES = (
    ("zone_open", "zo", "explicit open a range of zones in zone block device"),
    ("zone_close", "zc", "close a range of zones in zone block device"),
    ("zone_finish", "zf", "finish a range of zones in zone block device"),
    ("zone_reset", "zrs", "reset a zone write pointer in zone block device"),
)

register(
    CmdInfo(
        "truncate", _truncate, "t", 1, 3, "[-m prealloc_mode] off", None,
        "truncates the current file at the given offset", "m:", perms.WRITE | perms.RESIZE,
    ),
    CmdInfo("length", _length, "l", oneline="gets the length of the current file"),
    CmdInfo("info", _info, "i", oneline="prints information about the current file"),
    CmdInfo(
        "alloc", _alloc, "a", 1, 2, "offset [count]",
        oneline="checks if offset is allocated in the file",
    ),
    CmdInfo("map", _map, args="", oneline="prints the allocated areas of a file"),
    CmdInfo(
        "zone_report", _zone_report, "zrp", 2, 2, "offset number",
        oneline="report zone information", trait="qemu_io_zones",
    ),
    *(
        CmdInfo(name, _zone_change, alias, 2, 2, "offset len", None, oneline, trait="qemu_io_zones")
        for name, alias, oneline in _ZONE_CHANGES
    ),
    CmdInfo(
        "zone_append", _zone_append, "zap", 3, 4, "offset len [len..]", None,
        "append write a number of bytes at a specified offset", "p", trait="qemu_io_zones",
    ),
    CmdInfo("abort", _abort, oneline="simulate a program crash using abort(3)"),
    CmdInfo("sleep", _sleep, "", 1, 1, oneline="waits for the given value in milliseconds"),
    CmdInfo(
        "sigraise", _sigraise, "", 1, 1, "signal", None, "raises a signal", explained=True
    ),
)  # fmt: skip
