"""Errors that a guest's disk meets: `rerror`, `werror`, BLOCK_IO_ERROR and what follows."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.model.guest.disks import read_disk, write_disk
from fakeqemu.qapi.errors import StartupError

Start = Callable[..., Any]
_STATS = ("wr_operations", "failed_wr_operations", "invalid_wr_operations")


def failing(operation: str = "write", number: int = errno.EIO, **more: Any) -> list[str]:
    """Options for the nodes `top` over `bd` over `n`, of which `bd` fails at the second sector."""
    rule = {"event": "none", "iotype": operation, "errno": number, "sector": 1, **more}
    image = {"driver": "null-co", "node-name": "n", "size": 1 << 20, "read-zeroes": True}
    node = {"driver": "blkdebug", "node-name": "bd", "image": image, "inject-error": [rule]}
    return ["-blockdev", json.dumps(node), "-blockdev", "raw,node-name=top,file=bd"]


def drive(policy: str, number: int = errno.ENOSPC, once: str = "on") -> list[str]:
    """The same as one -drive called `dd`."""
    rule = "file.inject-error.0"
    return [
        "-drive",
        "if=none,id=dd,driver=raw,node-name=top,file.driver=blkdebug,file.node-name=bd,"
        "file.image.driver=null-co,file.image.size=1M,file.image.read-zeroes=on,"
        f"{rule}.event=none,{rule}.iotype=write,{rule}.errno={number},{rule}.once={once},"
        f"{rule}.sector=1{policy}",
    ]


def run(start: Start, nodes: list[str], *device: str, profile: str = "10.0") -> Any:
    """A machine with these and one device `d`, whose guest runs."""
    machine = start(*nodes, "-device", *device, profile=profile)
    machine.ask("cont")
    machine.events.clear()
    return machine


def state(machine: Any) -> tuple[str, str | None]:
    """The run state, and the disk's io-status."""
    (disk,) = machine.ask("query-block")
    return machine.ask("query-status")["status"], disk.get("io-status")


def counted(machine: Any) -> tuple[int, ...]:
    """Writes that were done, that failed and that could not be."""
    (stats,) = machine.ask("query-blockstats")
    return tuple(stats["stats"][name] for name in _STATS)


VIRTIO = "virtio-blk-pci,id=d,drive=top"


@pytest.mark.parametrize(
    ("profile", "device", "path"),
    [
        ("7.2", VIRTIO, None),
        ("10.0", VIRTIO, "/machine/peripheral/d/virtio-backend"),
        ("11.1", "ide-hd,id=d,drive=top", "/machine/peripheral/d"),
    ],
)
def test_a_write_without_room_stops_the_guest(
    start: Start, profile: str, device: str, path: str | None
) -> None:
    machine = run(start, failing(number=errno.ENOSPC), device, profile=profile)
    write_disk(machine.vm.block, "top", 0, 4096)
    where = {"qom-path": path} if path else {}
    assert machine.events == [
        ("BLOCK_IO_ERROR", {
            "device": "", "operation": "write", "action": "stop", "node-name": "top",
            "nospace": True, "reason": "No space left on device", **where,
        }),
        ("STOP", None),
    ]  # fmt: skip
    assert state(machine) == ("io-error", "nospace")
    assert counted(machine) == (0, 0, 0)
    assert "I/O status:       nospace" in machine.hmp("info block")


def test_cont_tries_the_request_again(start: Start) -> None:
    machine = run(start, drive(",werror=stop", errno.EIO), "ide-hd,id=d,drive=dd")
    write_disk(machine.vm.block, "d", 0, data=b"x" * 4096)
    assert state(machine) == ("io-error", "failed")
    machine.events.clear()
    machine.ask("cont")
    assert [name for name, _ in machine.events] == ["RESUME"]
    assert state(machine) == ("running", "ok")
    assert counted(machine) == (1, 0, 0)


def test_what_fails_again_stops_the_guest_again(start: Start) -> None:
    machine = run(
        start, [*drive("", once="off"), "-device", "virtio-scsi-pci"], "scsi-hd,id=d,drive=dd"
    )
    write_disk(machine.vm.block, "d")
    assert counted(machine) == (0, 1, 0)
    machine.events.clear()
    machine.ask("cont")
    assert [name for name, _ in machine.events] == ["RESUME", "BLOCK_IO_ERROR", "STOP"]
    assert state(machine) == ("io-error", "nospace")
    assert counted(machine) == (0, 2, 0)


def test_cont_resets_only_the_status_of_drives_with_a_name(start: Start) -> None:
    machine = run(start, failing(number=errno.ENOSPC, once=True), VIRTIO)
    write_disk(machine.vm.block, "top")
    machine.ask("cont")
    assert state(machine) == ("running", "nospace")
    assert counted(machine) == (1, 0, 0)


def test_a_reset_drops_what_was_to_be_tried_again(start: Start) -> None:
    machine = run(start, failing(number=errno.ENOSPC), VIRTIO)
    write_disk(machine.vm.block, "top")
    machine.ask("system_reset")
    machine.ask("cont")
    assert machine.ask("query-status")["status"] == "running"
    assert counted(machine) == (0, 0, 0)


@pytest.mark.parametrize(
    ("policy", "number", "seen", "stats", "members"),
    [
        ("", errno.EIO, True, (0, 1, 0), {"action": "report", "nospace": False}),
        (",werror=auto", errno.EIO, True, (0, 1, 0), {"action": "report", "nospace": False}),
        (",werror=report", errno.ENOSPC, True, (0, 1, 0), {"action": "report"}),
        (",werror=ignore", errno.EIO, False, (1, 0, 0), {"action": "ignore"}),
    ],
)
def test_other_policies_let_the_guest_run(
    start: Start, policy: str, number: int, seen: bool, stats: tuple[int, ...],
    members: dict[str, Any],
) -> None:  # fmt: skip
    machine = run(start, failing(number=number), VIRTIO + policy)
    if seen:
        with pytest.raises(BlockIoError):
            write_disk(machine.vm.block, "top")
    else:
        write_disk(machine.vm.block, "top")
    ((name, data),) = machine.events
    assert name == "BLOCK_IO_ERROR"
    assert {k: v for k, v in data.items() if k in ("action", "nospace")} == members
    assert counted(machine) == stats
    assert state(machine) == ("running", "ok" if "nospace" in members else None)


def test_reads_follow_rerror(start: Start) -> None:
    machine = run(start, failing("read"), VIRTIO + ",rerror=stop,werror=report")
    read_disk(machine.vm.block, "top")
    (name, data), _stop = machine.events
    assert (name, data["operation"], data["action"]) == ("BLOCK_IO_ERROR", "read", "stop")
    assert state(machine) == ("io-error", "failed")


def test_what_lies_beyond_the_disk_is_no_error_of_the_host(start: Start) -> None:
    machine = run(start, failing(), VIRTIO)
    with pytest.raises(BlockIoError):
        write_disk(machine.vm.block, "top", 1 << 20)
    assert machine.events == []
    assert counted(machine) == (0, 0, 1)


def test_nvme_follows_no_policy(start: Start) -> None:
    machine = run(start, failing(), "nvme,id=d,serial=x,drive=top")
    with pytest.raises(BlockIoError):
        write_disk(machine.vm.block, "top")
    assert machine.events == []
    assert state(machine) == ("running", None)
    assert machine.vm.host.warnings[-1] == "aio failed: Input/output error"


def test_a_floppy_drive_refuses_policies(start: Start) -> None:
    with pytest.raises(StartupError, match=r"^fdc doesn't support drive option werror$"):
        start("-device", "isa-fdc,id=f", *drive(",werror=stop"), "-device", "floppy,drive=dd")


def test_a_request_whose_drive_was_deleted_fails_without_stopping_the_guest(start: Start) -> None:
    machine = run(start, drive(",werror=stop", errno.EIO, once="off"), "ide-hd,id=d,drive=dd")
    write_disk(machine.vm.block, "d", 0, 4096)
    assert machine.ask("query-status")["status"] == "io-error"
    assert machine.hmp("drive_del dd") == ""
    machine.events.clear()
    machine.ask("cont")
    assert [name for name, _ in machine.events] == ["RESUME", "BLOCK_IO_ERROR"]
    (_, data) = machine.events[1]
    assert (data["action"], data["reason"]) == ("report", "No medium found")
    assert machine.ask("query-status")["status"] == "running"


def test_a_request_whose_medium_was_ejected_is_seen_by_the_device_alone(start: Start) -> None:
    nodes = [*failing("read"), "-device", "virtio-scsi-pci"]
    machine = run(start, nodes, "scsi-cd,id=d,drive=top,rerror=stop")
    read_disk(machine.vm.block, "d")
    assert state(machine) == ("io-error", "failed")
    machine.ask("blockdev-open-tray", id="d", force=True)
    machine.ask("blockdev-remove-medium", id="d")
    machine.events.clear()
    machine.ask("cont")
    assert [name for name, _ in machine.events] == ["RESUME"]
    assert machine.ask("query-status")["status"] == "running"
