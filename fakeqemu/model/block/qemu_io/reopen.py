"""qemu-io's `reopen`: other options for an image that is open, the rest as before.

See qemu-io-cmds.c: reopen_f(); block.c: bdrv_reopen() with keep_old_opts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.backends.legacy_drive import CACHE_MODES
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.operations.reopen import reopen_keeping
from fakeqemu.model.block.qemu_io.command import CmdInfo, QemuIoLine, register
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.qemu_opts import pairs_of

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.legacy_drive import Drives
    from fakeqemu.model.block.graph.node import Node

_WRITES = perms.WRITE | perms.WRITE_UNCHANGED


def _reopen(line: QemuIoLine) -> None:
    backend, node = line.backend, line.node
    direct, no_flush = node.cache_direct, node.cache_no_flush
    writethrough = not backend.writeback
    read_only: bool | None = None
    mode, options = "", dict[str, str]()
    for letter, value in line.options():
        if letter == "c":
            if value not in CACHE_MODES:
                raise QapiError(f"Invalid cache option: {value}")
            mode = value
            direct, no_flush, writethrough = CACHE_MODES[value]
        elif letter == "o":
            options.update(pairs_of(value, None))
        elif read_only is not None:
            raise QapiError("Only one -r/-w option may be given")
        else:
            read_only = letter == "r"
    if line.values:
        raise line.usage()
    if writethrough == backend.writeback and backend.device is not None:
        raise QapiError("Cannot change cache.writeback: Device attached")
    if read_only is None:
        target = node.read_only
    else:
        target = read_only
        if "read-only" in options:
            raise QapiError("Cannot set both -r/-w and 'read-only'")
    if target:
        backend.set_permissions(backend.perm & ~_WRITES, backend.shared)
    if mode and options.keys() & {"cache.direct", "cache.no-flush"}:
        raise QapiError("Cannot set both -c and the cache options")
    wanted = _typed(line.block.drives, node, options)
    if "read-only" not in options:
        wanted["read-only"] = target
    if not options.keys() & {"cache.direct", "cache.no-flush"}:
        wanted["cache"] = {"direct": direct, "no-flush": no_flush}
    reopen_keeping(line.block.graph, node, wanted)
    backend.writeback = not writethrough


def _typed(drives: Drives, node: Node, options: dict[str, str]) -> dict[str, Any]:
    """The options with their types, those of children in objects of their own."""
    found: dict[str, Any] = {}
    for name, edge in node.children.items():
        inner = {
            key.removeprefix(f"{name}."): value
            for key, value in options.items()
            if key.startswith(f"{name}.")
        }
        if inner:
            found[name] = _typed(drives, edge.node, inner)
    own = {k: v for k, v in options.items() if k.partition(".")[0] not in found}
    typed = drives.typed({"driver": node.driver.name, **own})
    if "driver" not in own:
        del typed["driver"]
    return {**typed, **found}


register(
    CmdInfo(
        "reopen", _reopen, "", 0, None, "[(-r|-w)] [-c cache] [-o options]", None,
        "reopens an image with new options", "c:o:rw", explained=True,
    )
)  # fmt: skip
