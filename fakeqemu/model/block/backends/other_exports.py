"""Exports to other places than NBD: judged, and refused as not modelled.

See block/export/fuse.c: fuse_export_create(); block/export/vhost-user-blk-server.c:
vu_blk_exp_create(); block/export/vduse-blk.c: vduse_blk_exp_create(); util/block-helpers.c:
check_block_size().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.process import Process

Json = dict[str, Any]
_SMALLEST_BLOCK, _LARGEST_BLOCK = 512, 2 << 20
_LONGEST_QUEUE = 1024
_VDUSE = "/dev/vduse/control"


def refuse(process: Process, backend: Backend, perm: int, arguments: Json) -> NoReturn:
    """Raise QapiError in QEMU's words where it refuses, NotModelledError otherwise."""
    match arguments["type"]:
        case "fuse":
            if arguments.get("growable") or arguments.get("writable"):
                backend.set_permissions(perm | perms.RESIZE, perms.ALL)
            _check_mountpoint(process, arguments["mountpoint"])
        case "vhost-user-blk":
            _check_sizes(process, arguments)
            if arguments["addr"]["type"] not in ("unix", "fd"):
                raise QapiError("Only socket address types 'unix' and 'fd' are supported")
        case "vduse-blk":
            _check_queues(arguments)
            length = arguments.get("queue-size", _LONGEST_QUEUE)
            if length <= 2 or length & (length - 1) or length > _LONGEST_QUEUE:
                raise QapiError("queue-size is invalid")
            _check_block(process, arguments)
            if process.host.path_error(_VDUSE) is not None:
                raise QapiError("failed to create vduse device")
    raise NotModelledError(f"block export {arguments['type']}")


def _check_mountpoint(process: Process, path: str) -> None:
    trouble = process.host.path_error(path)
    if trouble is not None:
        raise QapiError(f"Failed to stat '{path}': {trouble}")
    if process.host.files.kind(path) != "file":
        raise QapiError(f"'{path}' is not a regular file")


def _check_sizes(process: Process, arguments: Json) -> None:
    _check_block(process, arguments)
    _check_queues(arguments)


def _check_queues(arguments: Json) -> None:
    if arguments.get("num-queues", 1) == 0:
        raise QapiError("num-queues must be greater than 0")


def _check_block(process: Process, arguments: Json) -> None:
    size = arguments.get("logical-block-size", _SMALLEST_BLOCK)
    out_of_range, uneven = process.profile.traits.export_block_size_text
    if size and not _SMALLEST_BLOCK <= size <= _LARGEST_BLOCK:
        raise QapiError(out_of_range.format(id=arguments["id"], size=size))
    if size & (size - 1):
        raise QapiError(uneven.format(id=arguments["id"], size=size))
