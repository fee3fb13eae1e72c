"""Human monitor commands of the block layer: what they show.

See block/monitor/block-hmp-cmds.c: hmp_info_block(), print_block_info(), hmp_info_blockstats() and
hmp_info_snapshots(); block/qapi.c: bdrv_node_info_dump().
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fakeqemu.commands.block import block_core as block_commands, job as job_commands
from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.formats.qcow2.tables import QCowSnapshot
from fakeqemu.model.block.image_info import specific_text
from fakeqemu.model.block.operations import savevm as vmsnapshots
from fakeqemu.model.block.operations.snapshots import keeper
from fakeqemu.model.machine import Machine

Json = dict[str, Any]

_SECOND = 10**9
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_LIMITS = ("bps", "bps_rd", "bps_wr", "bps_max", "bps_rd_max", "bps_wr_max",
           "iops", "iops_rd", "iops_wr", "iops_max", "iops_rd_max", "iops_wr_max",
           "iops_size")  # fmt: skip
_COUNTERS = ("rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations",
             "wr_total_time_ns", "rd_total_time_ns", "flush_total_time_ns", "rd_merged",
             "wr_merged")  # fmt: skip


def size_text(size: int) -> str:
    """A size as people like it: `64 KiB`."""
    unit = max(0, (size * 1024 // 1000).bit_length() - 1) // 10
    value = size / (1 << unit * 10)
    return f"{value:.3g} {_UNITS[unit]}"


@hmp("info block")
def info_block(
    vm: Machine, device: str | None = None, nodes: bool = False, verbose: bool = False
) -> str:
    """Backends, or nodes."""
    entries = [] if nodes else block_commands.query_block(vm)
    out, printed = "", False
    for index, entry in enumerate(entries):
        if device is not None and entry["device"] != device:
            continue
        out += ("\n" if index else "") + _device_text(entry, entry.get("inserted"), verbose)
        printed = True
    if (device is None and not nodes) or printed:
        return out
    for index, entry in enumerate(block_commands.query_named_block_nodes(vm)):
        if device is not None and entry["node-name"] != device:
            continue
        out += ("\n" if index else "") + _device_text(None, entry, verbose)
    return out


def _device_text(info: Json | None, inserted: Json | None, verbose: bool) -> str:
    if info is not None and info["device"]:
        out = str(info["device"]) + (f" ({inserted['node-name']})" if inserted else "")
    elif inserted is not None:
        out = str(inserted["node-name"])
    else:
        out = str((info or {}).get("qdev", "<anonymous>"))
    if inserted is None:
        out += ": [not inserted]\n"
    else:
        flags = (", read-only" if inserted["ro"] else "") + (
            "" if inserted.get("active", True) else ", inactive"
        )
        out += f": {inserted['file']} ({inserted['drv']}{flags})\n"
    if info is not None:
        if "qdev" in info:
            out += f"    Attached to:      {info['qdev']}\n"
        if info.get("io-status", "ok") != "ok":
            out += f"    I/O status:       {info['io-status']}\n"
        if info["removable"]:
            lock = "locked" if info["locked"] else "not locked"
            tray = "open" if info.get("tray_open") else "closed"
            out += f"    Removable device: {lock}, tray {tray}\n"
    return out + (_inserted_text(inserted, verbose) if inserted is not None else "")


def _inserted_text(inserted: Json, verbose: bool) -> str:
    cache = inserted["cache"]
    mode = "writeback" if cache["writeback"] else "writethrough"
    mode += (", direct" if cache["direct"] else "") + (
        ", ignore flushes" if cache["no-flush"] else ""
    )
    out = f"    Cache mode:       {mode}\n"
    if "backing_file" in inserted:
        depth = inserted["backing_file_depth"]
        out += f"    Backing file:     {inserted['backing_file']} (chain depth: {depth})\n"
    if inserted["detect_zeroes"] != "off":
        out += f"    Detect zeroes:    {inserted['detect_zeroes']}\n"
    if "group" in inserted:
        limits = " ".join(f"{name}={inserted.get(name, 0)}" for name in _LIMITS)
        out += f"    I/O throttling:   {limits} group={inserted['group']}\n"
    if verbose:
        out += "\nImages:\n"
        image: Json | None = inserted["image"]
        while image is not None:
            out += image_text(image)
            image = image.get("backing-image")
    return out


def image_text(image: Json) -> str:
    """An ImageInfo as qemu-img prints it."""
    on_disk = size_text(image["actual-size"]) if "actual-size" in image else "unavailable"
    size = image["virtual-size"]
    out = (
        f"image: {image['filename']}\nfile format: {image['format']}\n"
        f"virtual size: {size_text(size)} ({size} bytes)\ndisk size: {on_disk}\n"
    )
    if "cluster-size" in image:
        out += f"cluster_size: {image['cluster-size']}\n"
    if "backing-filename" in image:
        out += f"backing file: {image['backing-filename']}"
        full = image.get("full-backing-filename")
        if full is None:
            out += " (cannot determine actual path)"
        elif full != image["backing-filename"]:
            out += f" (actual path: {full})"
        out += "\n"
        if "backing-filename-format" in image:
            out += f"backing file format: {image['backing-filename-format']}\n"
    if "limits" in image:
        out += "Block limits:\n" + "".join(
            f"    {name.replace('-', ' ')}: {image['limits'][name]}\n"
            for name in _LIMIT_ORDER if name in image["limits"]
        )  # fmt: skip
    specific = image.get("format-specific", {}).get("data")
    if specific:
        out += f"Format specific information:\n{specific_text(specific)}"
    return out


_LIMIT_ORDER = (
    "write-zeroes-alignment", "request-alignment", "min-mem-alignment", "discard-alignment",
    "opt-mem-alignment", "max-iov",
)  # fmt: skip


@hmp("info blockstats")
def info_blockstats(vm: Machine) -> str:
    """Counters of backends."""
    entries: list[Json] = block_commands.query_blockstats(vm)
    if vm.profile.traits.hmp_blockstats_as_table:
        return "\n".join(_stats_table(entry["device"], entry["stats"]) for entry in entries)
    out = ""
    for entry in entries:
        counters = " ".join(f"{name}={entry['stats'][name]}" for name in _COUNTERS)
        out += f"{entry['device']}: {counters} idle_time_ns=0\n"
    return out


def _stats_table(device: str, stats: Json) -> str:
    out = f"{device}: idle_time_ns=0\n"
    out += f"{'bytes':>31}{'operations':>17}{'total_time_ns':>25}{'merged':>11}\n"
    for name, key in (("Read:", "rd"), ("Write:", "wr")):
        out += (
            f"{name:<11}{stats[f'{key}_bytes']:>20}{stats[f'{key}_operations']:>17}"
            f"{stats[f'{key}_total_time_ns']:>25}{stats[f'{key}_merged']:>11}\n"
        )
    flush = stats["flush_operations"]
    out += f"{'Flush:':<11}{'':>20}{flush:>17}{stats['flush_total_time_ns']:>25}\n"
    return out


@hmp("info block-jobs")
def info_block_jobs(vm: Machine) -> str:
    """Jobs on nodes."""
    jobs = job_commands.query_block_jobs(vm)
    if not jobs:
        return "No active jobs\n"
    out = ""
    for job in jobs:
        progress = f"{job['offset']} of {job['len']} bytes, speed limit {job['speed']} bytes/s"
        if job["type"] == "stream":
            out += f"Streaming device {job['device']}: Completed {progress}\n"
        else:
            out += f"Type {job['type']}, device {job['device']}: Completed {progress}\n"
    return out


# -- snapshots -----------------------------------------------------------------------------------


@hmp("info snapshots")
def info_snapshots(vm: Machine) -> str:
    """Snapshots on all images, then those on some."""
    nodes = vmsnapshots.devices(vm.block, None)
    lists = {
        node.device_or_name: driver.snapshots
        for node in nodes
        if (driver := keeper(node)) is not None
    }
    if not any(lists.values()):
        if not lists:
            marked = "Error: " if vm.profile.traits.hmp_drive_errors_marked else ""
            return f"{marked}{vmsnapshots.NOWHERE}\n"
        return "There is no snapshot available.\n"
    first = next(iter(lists.values()))
    everywhere = [
        each for each in first
        if all(any(each.name == other.name for other in found) for found in lists.values())
    ]  # fmt: skip
    long = vm.profile.traits.hmp_snapshot_long_clock
    if everywhere:
        out = "List of snapshots present on all disks:\n" + _snapshot_header(long)
        out += "".join(_snapshot_line(each, "--", long) for each in everywhere)
    else:
        out = "List of snapshots present on all disks:\nNone\n"
    names = {each.name for each in everywhere}
    for device, found in lists.items():
        partial = [each for each in found if each.name not in names]
        if partial:
            out += f"\nList of partial (non-loadable) snapshots on '{device}':\n"
            out += _snapshot_header(long)
            out += "".join(_snapshot_line(each, each.id, long) for each in partial)
    return out


def _snapshot_header(long: bool) -> str:
    if long:
        return f"{'ID':<7} {'TAG':<16} {'VM_SIZE':>8}{'DATE':>20}{'VM_CLOCK':>16}{'ICOUNT':>11}\n"
    return f"{'ID':<9} {'TAG':<16} {'VM SIZE':>8}{'DATE':>20}{'VM CLOCK':>13}{'ICOUNT':>11}\n"


def _snapshot_line(snapshot: QCowSnapshot, id: str, long: bool) -> str:
    date = datetime.fromtimestamp(snapshot.date_sec).strftime("%Y-%m-%d %H:%M:%S")
    seconds, rest = divmod(snapshot.vm_clock, _SECOND)
    minutes, millis = seconds // 60, rest // 10**6
    clock = f"{minutes // 60:0{4 if long else 2}}:{minutes % 60:02}:{seconds % 60:02}.{millis:03}"
    count = "" if snapshot.icount < 0 else str(snapshot.icount)
    size = size_text(snapshot.vm_state_size)
    if long:
        count = count or "--"
        return f"{id:<7} {snapshot.name:<16} {size:>8}{date:>20}{clock:>16}{count:>11}\n"
    return f"{id:<9} {snapshot.name:<16} {size:>8}{date:>20}{clock:>13}{count:>11}\n"


@hmp("savevm")
def savevm(vm: Machine, name: str | None = None) -> None:
    """Keep the machine's state; one of the same name goes."""
    vmsnapshots.save(vm, name, overwrite=True)


@hmp("loadvm")
def loadvm(vm: Machine, name: str) -> None:
    """Go back to a state."""
    vmsnapshots.load_and_resume(vm, name)


@hmp("delvm")
def delvm(vm: Machine, name: str) -> None:
    """Forget a state."""
    vmsnapshots.delete(vm.block, name)
