"""raw: a window on its file. What it shows and refuses is a real 7.2's and 10.0's."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.files import MemoryFiles
from fakeqemu.qapi.errors import QapiError


def window(machine: Any, name: str, **options: Any) -> Any:
    """A raw node over /i, both opened for discards."""
    file = {"driver": "file", "filename": "/i", "discard": "unmap"}
    machine.add("raw", name, file=file, discard="unmap", **options)
    return machine.vm.block.graph.lookup(name, name)


def test_sizes_are_whole_sectors(machine: Any, files: MemoryFiles) -> None:
    files.put("/i", b"a" * 1000)
    machine.add("file", "f", filename="/i")
    machine.add("raw", "r", file="f", offset=100)
    shown = {name: machine.node(name)["image"]["virtual-size"] for name in "fr"}
    assert shown == {"f": 1024, "r": 1024}
    for name in "fr":
        assert base.length(machine.vm.block.graph.lookup(name, name)) == 1024
    with pytest.raises(QapiError, match=r"size of the containing file \(1024\)"):
        machine.add("raw", "x", file="f", offset=1025)


def test_nothing_leaves_a_window(machine: Any, files: MemoryFiles) -> None:
    files.put("/i", b"b" * 4096)
    node = window(machine, "w", offset=512, size=1024)
    base.write(node, 512, b"c" * 512)
    base.zero(node, 0, 512)
    for request in (
        lambda: base.write(node, 512, b"d" * 1024),
        lambda: base.zero(node, 512, 1024),
        lambda: base.discard(node, 512, 1024),
    ):
        with pytest.raises(BlockIoError, match="No space left on device"):
            request()
    assert base.read(node, 512, 1024) == b"c" * 512 + bytes(512)
    assert files.open("/i", writable=False).read(0, 4096) == (
        b"b" * 512 + bytes(512) + b"c" * 512 + b"b" * 2560
    )
    with pytest.raises(QapiError, match="Cannot resize fixed-size raw disks"):
        machine.ask("block_resize", **{"node-name": "w", "size": 2048})


def test_a_window_without_a_size_follows_its_file(machine: Any, files: MemoryFiles) -> None:
    files.put("/i", b"b" * 4096)
    node = window(machine, "w", offset=512)
    assert base.length(node) == 3584
    machine.ask("block_resize", **{"node-name": "w", "size": 1024})
    assert (base.length(node), files.open("/i", writable=False).size()) == (1024, 1536)
    machine.ask("block_resize", **{"node-name": "w", "size": 2048})
    assert base.read(node, 512, 1024) == b"b" * 512 + bytes(512)


def test_a_discard_reaches_the_file(machine: Any, files: MemoryFiles) -> None:
    files.put("/i", b"b" * 3000)
    node = window(machine, "w", offset=512)
    base.discard(node, 512, 2048)
    file = files.open("/i", writable=False)
    assert (file.size(), file.read(512, 2488)) == (3000, b"b" * 512 + bytes(1976))
