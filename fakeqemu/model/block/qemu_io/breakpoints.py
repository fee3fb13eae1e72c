"""qemu-io's breakpoints: requests that a blkdebug holds until they are resumed.

See qemu-io-cmds.c: break_f(), remove_break_f(), resume_f() and wait_break_f(); block.c:
bdrv_debug_breakpoint() and bdrv_debug_resume().
"""

from __future__ import annotations

from fakeqemu.model.block.drivers.blkdebug import Blkdebug
from fakeqemu.model.block.drivers.driver import listener_below
from fakeqemu.model.block.qemu_io.command import CmdInfo, QemuIoLine, register
from fakeqemu.qapi.errors import NotModelledError

_UNSUPPORTED = "Operation not supported"
_NONE = "No such file or directory"


def _blkdebug(line: QemuIoLine) -> Blkdebug | None:
    node = line.backend.node
    found = listener_below(node) if node is not None else None
    return found if isinstance(found, Blkdebug) else None


def _break(line: QemuIoLine) -> None:
    event, tag = line.words[1:]
    blkdebug = _blkdebug(line)
    why = _UNSUPPORTED
    if blkdebug is not None:
        why = "" if blkdebug.add_breakpoint(event, tag) else _NONE
    if why:
        raise line.refuse(f"Could not set breakpoint: {why}")


def _remove_break(line: QemuIoLine) -> None:
    tag = line.words[1]
    blkdebug = _blkdebug(line)
    why = _UNSUPPORTED
    if blkdebug is not None:
        why = "" if blkdebug.remove_breakpoint(tag) else _NONE
    if why:
        raise line.refuse(f"Could not remove breakpoint {tag}: {why}")


def _resume(line: QemuIoLine) -> None:
    blkdebug = _blkdebug(line)
    why = _UNSUPPORTED
    if blkdebug is not None:
        why = "" if blkdebug.resume(line.words[1]) else _NONE
    if why:
        raise line.refuse(f"Could not resume request: {why}")


def _wait_break(line: QemuIoLine) -> None:
    blkdebug = _blkdebug(line)
    if blkdebug is None or not blkdebug.suspends(line.words[1]):
        # requests come with commands here: QEMU would wait for good, and its monitor with it
        raise NotModelledError("qemu-io wait_break without a suspended request")


register(
    CmdInfo(
        "break", _break, "", 2, 2, "event tag",
        oneline="sets a breakpoint on event and tags the stopped request as tag",
    ),
    CmdInfo(
        "remove_break", _remove_break, "", 1, 1, "tag", oneline="remove a breakpoint by tag"
    ),
    CmdInfo("resume", _resume, "", 1, 1, "tag", oneline="resumes the request tagged as tag"),
    CmdInfo(
        "wait_break", _wait_break, "", 1, 1, "tag",
        oneline="waits for the suspension of a request",
    ),
)  # fmt: skip
