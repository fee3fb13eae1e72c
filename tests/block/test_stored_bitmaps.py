"""Persistent bitmaps in an image: written anew in place of what it held, which goes last."""

from __future__ import annotations

from typing import Any

from fakeqemu.formats.qcow2.bitmap_directory import IN_USE, read_directory
from fakeqemu.formats.qcow2.check import repair

MB = 1 << 20
FILE = {"driver": "file", "filename": "/a.qcow2"}


def reopened(machine: Any) -> Any:
    """The image's driver, closed and opened again."""
    machine.ask("blockdev-del", node_name="a")
    machine.add("qcow2", "a", file=FILE)
    return machine.vm.block.graph.nodes["a"].driver


def names(driver: Any) -> list[str]:
    return [entry.name for entry in read_directory(driver.image)]


def start(machine: Any) -> None:
    machine.image("a", size=8 * MB)
    machine.ask("blockdev-del", node_name="a")
    machine.ask("blockdev-del", node_name="a-file")
    machine.add("qcow2", "a", file=FILE)


def add(machine: Any, name: str) -> None:
    machine.ask("block-dirty-bitmap-add", node="a", name=name, persistent=True)


def test_bitmaps_are_written_again_with_new_ones_and_after_a_resize(machine: Any) -> None:
    start(machine)
    for name in ("one", "two", "three"):
        add(machine, name)
    driver = reopened(machine)
    assert names(driver) == ["three", "two", "one"]
    listed = [each["name"] for each in machine.node("a")["dirty-bitmaps"]]
    assert listed == ["one", "two", "three"]
    add(machine, "four")
    machine.ask("block_resize", node_name="a", size=9 * MB)
    machine.vm.block.write("a", 8 * MB, b"x")
    order = names(driver)
    machine.events.clear()
    driver = reopened(machine)
    assert machine.names() == []
    assert names(driver) == [*order, "four"]
    bitmaps = machine.node("a")["dirty-bitmaps"]
    assert {each["count"] for each in bitmaps} == {65536}
    repair(driver.image)
    machine.ask("block-dirty-bitmap-remove", node="a", name="two")
    assert "two" not in names(reopened(machine))


def test_an_inconsistent_bitmap_stays_as_it_is(machine: Any) -> None:
    start(machine)
    add(machine, "old")
    driver = reopened(machine)
    node = machine.vm.block.graph.nodes["a"]
    (bitmap,) = node.bitmaps
    bitmap.inconsistent, bitmap.enabled = True, False
    before = read_directory(driver.image)
    add(machine, "new")
    driver = reopened(machine)
    after = {entry.name: entry for entry in read_directory(driver.image)}
    assert after["old"] == before[0]
    assert after["old"].flags & IN_USE
    assert set(after) == {"old", "new"}
