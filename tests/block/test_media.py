"""Drives: trays and media, limits, -drive and what it is short for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.model.block.files import MemoryFiles
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.qapi.errors import StartupError


@pytest.fixture
def drive(start: Callable[..., Any], files: MemoryFiles) -> Any:
    files.put("/cd.iso", size=40960)
    machine = start("-device", "ide-cd,id=cd")
    machine.add("file", "iso", filename="/cd.iso", read_only=True)
    return machine


def test_a_medium_goes_in_and_out(drive: Any) -> None:
    drive.ask("blockdev-open-tray", id="cd")
    drive.ask("blockdev-insert-medium", id="cd", node_name="iso")
    text = drive.desc("blockdev-insert-medium", id="cd", node_name="iso")
    assert text == "Node 'iso' is already in use"
    drive.ask("blockdev-close-tray", id="cd")
    assert [data["tray-open"] for _, data in drive.events] == [True, False]
    (shown,) = drive.ask("query-block")
    assert shown["inserted"]["node-name"] == "iso"
    text = drive.desc("blockdev-remove-medium", id="cd")
    assert text == "Tray of device 'cd' is not open"


def test_a_locked_tray_waits_for_the_guest(drive: Any) -> None:
    drive.vm.block.backends.get(None, "cd").locked = True
    text = drive.desc("eject", id="cd")
    assert text.startswith("Device 'cd' is locked and force was not specified")
    drive.ask("eject", id="cd", force=True)
    assert drive.ask("query-block")[0]["tray_open"] is True


def test_changing_a_medium(drive: Any) -> None:
    text = drive.desc("blockdev-change-medium", id="cd", filename="/no")
    assert text == "Could not open '/no': No such file or directory"
    drive.ask("blockdev-change-medium", id="cd", filename="/cd.iso", format="raw")
    assert drive.ask("query-block")[0]["inserted"]["ro"] is True


def test_limits_of_a_group_are_shared(start: Callable[..., Any]) -> None:
    machine = start(
        "-drive", "if=none,id=a,driver=null-co", "-drive", "if=none,id=b,driver=null-co"
    )
    limits = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops_rd": 0, "iops_wr": 0}
    machine.ask("block_set_io_throttle", device="a", iops=100, group="g", **limits)
    machine.ask("block_set_io_throttle", device="b", iops=50, group="g", **limits)
    shown = {b["device"]: b["inserted"] for b in machine.ask("query-block")}
    assert {name: (i["iops"], i["group"]) for name, i in shown.items()} == {
        "a": (50, "g"),
        "b": (50, "g"),
    }
    machine.ask("block_set_io_throttle", device="a", iops=0, **limits)
    shown = {b["device"]: b["inserted"] for b in machine.ask("query-block")}
    assert "group" not in shown["a"]
    assert shown["b"]["iops"] == 50


def test_a_drive_is_a_backend_and_two_nodes(
    start: Callable[..., Any], files: MemoryFiles
) -> None:
    files.put("/d", size=512)
    machine = start("-drive", "if=virtio,file=/d,format=raw,cache=none,readonly=on")
    (shown,) = machine.ask("query-block")
    assert shown["device"] == "virtio0"
    assert shown["qdev"] == "/machine/peripheral-anon/device[0]/virtio-backend"
    assert shown["inserted"]["cache"] == {
        "writeback": True, "direct": True, "no-flush": False,
    }  # fmt: skip
    assert len(machine.ask("query-named-block-nodes")) == 2


def test_a_snapshot_drive_leaves_its_file_alone(
    start: Callable[..., Any], files: MemoryFiles
) -> None:
    files.put("/d", b"before", size=512)
    machine = start("-drive", "if=none,id=d,file=/d,format=raw,snapshot=on")
    machine.vm.block.write("d", 0, b"after!")
    node = machine.vm.block.graph.lookup("d", None)
    assert node.driver.read(node, 0, 6) == b"after!"
    assert files.open("/d", writable=False).read(0, 6) == b"before"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("if=none,file=/no,format=raw",), "Could not open '/no': No such file or directory"),
        (("if=nope",), "unsupported bus type 'nope'"),
        (("if=none,file=/d,format=nope",), "Unknown driver 'nope'"),
        (("if=none,file=/d,format=raw,foo=1",),
         "Block format 'raw' does not support the option 'foo'"),
        (("if=none,file=/d,cache=x",), "invalid cache option"),
        (("media=x",), "'x' invalid media"),
        (("if=none,driver=null-co,bps=1,iops=1,bps_rd=1",),
         "bps/iops/max total values and read/write values cannot be used at the same time"),
        (("file=/d,format=raw,index=0", "file=/d,format=raw,index=0"),
         "drive with bus=0, unit=0 (index=0) exists"),
        (("file=/d,format=raw,if=scsi",), "machine type does not support if=scsi,bus=0,unit=0"),
    ],
)  # fmt: skip
def test_drives_that_are_refused(
    start: Callable[..., Any], files: MemoryFiles, options: tuple[str, ...], text: str
) -> None:
    files.put("/d", size=512)
    with pytest.raises(StartupError) as refused:
        start(*(part for option in options for part in ("-drive", option)))
    assert refused.value.text == text
    assert refused.value.location == f"-drive {options[-1]}"


@pytest.mark.parametrize(
    ("property", "writeback"),
    [
        ("", True),
        (",write-cache=auto", True),
        (",write-cache=on", True),
        (",write-cache=off", False),
    ],
)
def test_a_device_chooses_the_write_cache_of_its_drive(
    start: Callable[..., Any], files: MemoryFiles, property: str, writeback: bool
) -> None:
    files.put("/d", size=512)
    machine = start(
        "-drive", "if=none,id=d,file=/d,format=raw",
        "-device", f"virtio-blk-pci,drive=d{property}",
    )  # fmt: skip
    (shown,) = machine.ask("query-block")
    assert shown["inserted"]["cache"]["writeback"] is writeback


@pytest.mark.parametrize("full", [False, True])
def test_a_floppy_drive_takes_media_that_cannot_be_written(
    start: Any, files: Any, full: bool
) -> None:
    for name in ("one", "two"):
        files.put(f"/{name}", size=1474560)
    drive = ",drive=d" if full else ""
    more = ["-drive", "if=none,id=d,file=/one,format=raw"] if full else []
    machine = start(*more, "-device", "isa-fdc,id=c", "-device", f"floppy,id=f{drive}")
    (backend,) = [each for each in machine.vm.block.backends.all if each.device is not None]
    mode = {"read_only_mode": "read-only"}
    machine.ask("blockdev-change-medium", id="f", filename="/two", format="raw", **mode)
    assert backend.node.read_only
    assert not backend.root.perm & perms.WRITE
    mode = {"read_only_mode": "read-write"}
    machine.ask("blockdev-change-medium", id="f", filename="/one", format="raw", **mode)
    assert backend.root.perm & perms.WRITE
