"""-drive: names with protocols under a driver of theirs, and how files are read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.machines import BlockMachine

MB = 1 << 20
Start = Callable[..., BlockMachine]


@pytest.mark.parametrize(
    ("drive", "name"),
    [
        ("file=blkdebug::null-co://,driver=blkdebug", "blkdebug::null-co://"),
        ("file=blkdebug::null-co://,driver=blkdebug,align=65536",
         'json:{"image": {"driver": "null-co"}, "driver": "blkdebug", "align": "65536"}'),
        ("file=null-co://,driver=blkdebug", "blkdebug::null-co://"),
    ],
)  # fmt: skip
def test_a_name_with_a_protocol_is_taken_apart(start: Start, drive: str, name: str) -> None:
    machine = start("-drive", f"if=none,id=d,{drive}")
    (device,) = machine.ask("query-block")
    assert device["inserted"]["file"] == name


def test_names_of_a_comparison(start: Start) -> None:
    machine = start()
    machine.image("a")
    machine.image("b", size=3 << 20)
    for name in ("a", "a-file", "b", "b-file"):
        machine.ask("blockdev-del", node_name=name)
    drive = "if=none,id=d,driver=blkverify,file=blkverify:/a.qcow2:/b.qcow2"
    assert machine.hmp(f"drive_add 0 {drive}") == "OK\n"
    (device,) = machine.ask("query-block")
    assert device["inserted"]["file"] == "blkverify:/a.qcow2:/b.qcow2"
    # what is compared with is a file as it lies, what is under test is looked into
    assert device["inserted"]["image"]["virtual-size"] == 3 << 20
    bad = machine.hmp("drive_add 0 if=none,id=e,driver=blkverify,file=blkverify:/a.qcow2")
    assert "blkverify requires raw copy and original image path" in bad


def test_aio_reaches_files_through_filters(start: Start) -> None:
    """BDRV_O_NATIVE_AIO is a flag that children inherit, no option that a filter has to know."""
    machine = start("-drive", "if=none,id=d,file=blkdebug::null-co://,format=raw,aio=native")
    assert machine.ask("query-block")[0]["inserted"]["file"] == "blkdebug::null-co://"
    text = "aio=native was specified, but it requires cache.direct=on, which was not specified."
    machine.image("a")
    reply = machine.hmp("drive_add 0 if=none,id=e,file=/a.qcow2,format=qcow2,aio=native")
    assert text in reply


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("cache.foo=off", "Block format 'qcow2' does not support the option 'cache.foo'"),
        ("file.cache.writeback=off",
         "Block protocol 'file' doesn't support the option 'cache.writeback'"),
    ],
)  # fmt: skip
def test_nodes_know_two_options_of_their_cache(start: Start, option: str, text: str) -> None:
    machine = start()
    machine.image("a")
    for name in ("a", "a-file"):
        machine.ask("blockdev-del", node_name=name)
    reply = machine.hmp(f"drive_add 0 if=none,id=e,file=/a.qcow2,format=qcow2,{option}")
    assert text in reply


def test_a_window_of_an_image_whose_format_nobody_names(start: Start) -> None:
    machine = start("-drive", "if=none,id=d,file=null-co://,file.size=1M,offset=512")
    (device,) = machine.ask("query-block")
    assert device["inserted"]["drv"] == "raw"
    assert device["inserted"]["image"]["virtual-size"] == MB - 512
    said = machine.hmp("drive_add 0 if=none,id=e,file=null-co://,offset=x")
    assert "Parameter 'offset' expects a" in said
