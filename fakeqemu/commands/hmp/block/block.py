"""Human monitor commands of the block layer: what they do.

See block/monitor/block-hmp-cmds.c: hmp_drive_add(), hmp_drive_mirror(), hmp_snapshot_blkdev(),
hmp_eject() and hmp_block_set_io_throttle().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.block import (
    block_core as block_commands,
    block_export,
    block_jobs,
)
from fakeqemu.commands.hmp.option_strings import parse_noisily, printed
from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.block.backends.backend import Backend
from fakeqemu.model.block.backends.legacy_drive import FormatHelp
from fakeqemu.model.block.operations import blockdev as starting
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.sockets import socket_parse

Json = dict[str, Any]


# -- drives --------------------------------------------------------------------------------------


@hmp("drive_add")
def drive_add(vm: Machine, pci_addr: str, opts: str, node: bool = False) -> str:  # noqa: ARG001
    """Add a drive without a device, or a node."""
    entry, lines = parse_noisily(vm, "drive", opts, implied=False)
    reported = printed(lines)
    if entry is None:
        return reported
    values = dict(entry.values)
    if node:
        if "node-name" not in values:
            return reported + _complaint(vm, "'node-name' needs to be specified")
        try:
            vm.block.add(vm.block.drives.typed(values))
        except NotModelledError:
            raise
        except QapiError as error:
            return reported + _complaint(vm, error.desc)
        return reported
    id = values.pop("id", None)
    if id is not None and id in vm.block.backends.named:
        return f"Duplicate ID '{id}' for drive\n"
    try:
        backend = vm.block.drives.add(values, id)
    except FormatHelp as help:
        return reported + help.text
    except NotModelledError:
        raise
    except QapiError as error:
        return reported + _complaint(vm, error.desc)
    place = vm.block.drives.place(backend)
    if place is not None and place.interface != "none":
        vm.block.drives.forget(backend)
        vm.block.backends.drop(backend)
        kind = _INTERFACES.index(place.interface)
        return reported + _complaint(vm, f"Can't hot-add drive to type {kind}")
    return f"{reported}OK\n"


def _complaint(vm: Machine, text: str) -> str:
    """A refusal that is printed, not raised."""
    return f"Error: {text}\n" if vm.profile.traits.hmp_drive_errors_marked else f"{text}\n"


_INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")


@hmp("drive_del")
def drive_del(vm: Machine, id: str) -> str:
    """Take a drive away, even from under a device; or a node."""
    block = vm.block
    if id in block.graph.nodes:
        try:
            block.delete(id)
        except QapiError as error:
            return _complaint(vm, error.desc)
        return ""
    backend = block.backends.named.get(id)
    if backend is None:
        return _complaint(vm, texts.device_not_found(id))
    if not backend.legacy.get("drive"):
        return _complaint(vm, "Deleting device added with blockdev-add is not supported")
    if backend.node is not None:
        try:
            backend.node.check_operation("drive-del")
        except QapiError as error:
            return _complaint(vm, error.desc)
    block.drives.forget(backend)
    if backend.device is None:
        block.backends.drop(backend)
    else:
        _hide(vm, backend)
    return ""


def _hide(vm: Machine, backend: Backend) -> None:
    """The name is free again, the device keeps a backend without a medium.

    Errors stop the guest no more. See block/monitor/block-hmp-cmds.c: hmp_drive_del().
    """
    backend.remove()
    backend.on_error = {"read": "report", "write": "report"}
    del vm.block.backends.named[backend.name]
    backend.name = ""


@hmp("change")
def change(
    vm: Machine, *, device: str, target: str, arg: str | None = None,
    read_only_mode: str | None = None, force: bool = False,
) -> str | None:  # fmt: skip
    """Put another medium in, or change the password of VNC."""
    if device == "vnc":
        from fakeqemu.commands.hmp.ui import change_vnc

        return change_vnc(vm, target, arg)
    arguments: Json = {"device": device, "filename": target, "force": force}
    if arg is not None:
        arguments["format"] = arg
    if read_only_mode is not None:
        modes = vm.profile.schema.enum_values("BlockdevChangeReadOnlyMode")
        if read_only_mode not in modes:
            raise QapiError(texts.value_not_accepted("read-only-mode", read_only_mode))
        arguments["read-only-mode"] = read_only_mode
    block_commands.blockdev_change_medium(vm, arguments)
    return None


@hmp("block_set_io_throttle")
def block_set_io_throttle(
    vm: Machine, *, device: str, bps: int, bps_rd: int, bps_wr: int,
    iops: int, iops_rd: int, iops_wr: int,
) -> None:  # fmt: skip
    """Limit a device, by its name or id."""
    arguments: Json = {
        "bps": bps, "bps_rd": bps_rd, "bps_wr": bps_wr,
        "iops": iops, "iops_rd": iops_rd, "iops_wr": iops_wr,
    }  # fmt: skip
    key = "device" if device in vm.block.backends.named else "id"
    block_commands.block_set_io_throttle(vm, {**arguments, key: device})


@hmp("commit")
def commit(vm: Machine, device: str) -> str:
    """Write a medium's changes into the image below, at once."""
    block = vm.block
    if device == "all":
        for backend in block.backends.all:
            if backend.node is not None and backend.node.skip_filters().cow is not None:
                block.commit_all_of(backend.node)
        return ""
    found = block.backends.named.get(device)
    node = found.node if found is not None else block.graph.find(device)
    if found is None and node is None:
        return _complaint(vm, texts.device_not_found(device))
    if node is None:
        return _complaint(vm, f"Device '{device}' has no medium")
    error = block.commit_all_of(node)
    return _complaint(vm, f"'commit' error for '{device}': {error}") if error else ""


# -- jobs ----------------------------------------------------------------------------------------


@hmp("drive_mirror")
def drive_mirror(
    vm: Machine, *, device: str, target: str, format: str | None = None,
    reuse: bool = False, full: bool = False,
) -> None:  # fmt: skip
    """Copy to a file and follow."""
    starting.drive_mirror(vm.block, _copy(device, target, format, reuse, full)).start()


@hmp("drive_backup")
def drive_backup(
    vm: Machine, *, device: str, target: str, format: str | None = None,
    reuse: bool = False, full: bool = False, compress: bool = False,
) -> None:  # fmt: skip
    """Copy the state of now to a file."""
    arguments = _copy(device, target, format, reuse, full)
    if compress:
        arguments["compress"] = True
    starting.drive_backup(vm.block, arguments).start()


def _copy(device: str, target: str, format: str | None, reuse: bool, full: bool) -> Json:
    found: Json = {
        "device": device,
        "target": target,
        "sync": "full" if full else "top",
        "mode": "existing" if reuse else "absolute-paths",
    }
    if format is not None:
        found["format"] = format
    return found


# -- snapshots -----------------------------------------------------------------------------------


@hmp("snapshot_blkdev")
def snapshot_blkdev(
    vm: Machine, device: str, snapshot_file: str | None = None, format: str | None = None,
    reuse: bool = False,
) -> None:  # fmt: skip
    """Put a new image on top."""
    if snapshot_file is None:
        raise QapiError(texts.missing_parameter("snapshot-file"))
    arguments: Json = {
        "device": device,
        "snapshot-file": snapshot_file,
        "mode": "existing" if reuse else "absolute-paths",
    }
    if format is not None:
        arguments["format"] = format
    block_jobs.blockdev_snapshot_sync(vm, arguments)


# -- NBD -----------------------------------------------------------------------------------------


@hmp("nbd_server_start", monitor=True)
def nbd_server_start(
    vm: Machine, monitor: Any, uri: str, all: bool = False, writable: bool = False
) -> None:
    """Serve NBD, and with -a every medium."""
    if writable and not all:
        raise QapiError("-w only valid together with -a")
    address = socket_parse(uri, vm.profile.traits)
    vm.block.exports.start(block_export.server_address(vm, monitor, address))
    if not all:
        return
    try:
        for entry in block_commands.query_block(vm):
            if "inserted" in entry:
                block_export.nbd_server_add(
                    vm, {"device": entry["device"], "writable": writable}
                )
    except QapiError:
        vm.block.exports.stop()
        raise


@hmp("nbd_server_add")
def nbd_server_add(
    vm: Machine, device: str, name: str | None = None, writable: bool = False
) -> None:
    """Export a medium."""
    arguments: Json = {"device": device, "writable": writable}
    if name is not None:
        arguments["name"] = name
    block_export.nbd_server_add(vm, arguments)


@hmp("nbd_server_remove")
def nbd_server_remove(vm: Machine, name: str, force: bool = False) -> None:
    """Export it no more."""
    block_export.nbd_server_remove(vm, name=name, mode="hard" if force else "safe")
