"""What a file name means in a backing chain, and what a guess of the format leads to."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.formats.qcow2.creation import create_empty
from fakeqemu.formats.qcow2.header import Header
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.qcow2.stores import NodeStore
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node_options import with_children
from fakeqemu.model.block.operations.backing_chain import find_image
from fakeqemu.qapi.errors import QapiError

MB = 1 << 20


def make(machine: Any, name: str, backing: str = "", cluster_bits: int = 16) -> None:
    """An image file /NAME.qcow2."""
    path = f"/{name}.qcow2"
    machine.vm.host.files.put(path, b"")
    machine.add("file", "making", filename=path)
    format = "qcow2" if backing else ""
    header = Header(size=MB, cluster_bits=cluster_bits, backing_file=backing,
                    backing_format=format)  # fmt: skip
    create_empty(NodeStore(machine.vm.block.graph.nodes["making"]), header)
    machine.ask("blockdev-del", node_name="making")


@pytest.fixture
def chain(machine: Any) -> Any:
    """`top` over `mid` over `low`, each named by the header above as its file is."""
    for name, backing in (("low", ""), ("mid", "low.qcow2"), ("top", "mid.qcow2")):
        make(machine, name, backing)
    file = {"driver": "file", "filename": "/top.qcow2"}
    machine.add("qcow2", "top", file=file)
    return machine


def found(machine: Any, name: str, top: str = "top") -> str | None:
    graph = machine.vm.block.graph
    node = find_image(graph, graph.nodes[top], name)
    return node.driver.image.header.backing_file or "low" if node is not None else None


@pytest.mark.parametrize("name", ["/mid.qcow2", "mid.qcow2"])
def test_a_name_is_taken_from_where_the_image_above_is(chain: Any, name: str) -> None:
    assert found(chain, name) == "low.qcow2"


@pytest.mark.parametrize("name", ["/low.qcow2", "low.qcow2"])
def test_it_is_looked_for_down_the_chain(chain: Any, name: str) -> None:
    assert found(chain, name) == "low"
    assert found(chain, "/other.qcow2") is None


def test_filters_with_names_are_passed(chain: Any) -> None:
    chain.ask("block-stream", work=False, job_id="s", device="top", filter_node_name="above",
              speed=1)  # fmt: skip
    graph = chain.vm.block.graph
    assert graph.nodes["above"].driver.is_filter
    assert found(chain, "/mid.qcow2", "above") == "low.qcow2"
    mid = graph.nodes["top"].cow
    chain.ask("job-cancel", id="s")
    chain.ask("block-stream", work=False, job_id="s", device=mid.name,
              filter_node_name="between", speed=1)  # fmt: skip
    assert graph.nodes["top"].cow.name == "between"
    assert found(chain, "/mid.qcow2") == "low.qcow2"


# -- a format that was guessed ------------------------------------------------------------------


def test_a_guess_is_warned_of_when_the_image_is_opened(machine: Any) -> None:
    machine.vm.host.files.put("/r", size=MB)
    said: list[str] = []
    machine.vm.host.say = said.append
    assert "force-share=on can only be used with read-only images" in machine.hmp(
        "drive_add dummy if=none,id=a,file=/r,force-share=on"
    ) + "".join(said)
    assert not any("probing guessed raw" in each for each in said)
    machine.hmp("drive_add dummy if=none,id=a,file=/r")
    assert any("'/r' and probing guessed raw" in each for each in said)


def test_a_guest_cannot_make_another_format_of_what_was_taken_for_raw(machine: Any) -> None:
    machine.vm.host.files.put("/r", size=MB)
    machine.hmp("drive_add dummy if=none,id=a,file=/r,node-name=n")
    machine.vm.block.backends.named["a"].set_permissions(perms.WRITE, perms.ALL)
    node = machine.vm.block.graph.nodes["n"]
    with pytest.raises(QapiError, match="Operation not permitted"):
        base.write(node, 0, b"QFI\xfb")
    base.write(node, 512, b"QFI\xfb")
    base.write(node, 0, b"boot")
    assert base.read(node, 0, 4) == b"boot"


# -- a mirror into an image whose backing file nobody has opened ----------------------------------


@pytest.mark.parametrize("cluster", [17, 16])
def test_a_mirror_writes_whole_clusters_where_nothing_lies_below(
    machine: Any, cluster: int
) -> None:
    make(machine, "low")
    machine.add("qcow2", "low", file={"driver": "file", "filename": "/low.qcow2"})
    machine.vm.block.write("low", MB // 2, b"\7" * 65536)
    machine.ask("blockdev-del", node_name="low")
    make(machine, "s", "/low.qcow2")
    make(machine, "t", "/low.qcow2", cluster)
    machine.add("qcow2", "s", file={"driver": "file", "filename": "/s.qcow2"})
    machine.vm.block.write("s", MB // 2 + 65536, b"\1" * 512)
    machine.add("qcow2", "t", file={"driver": "file", "filename": "/t.qcow2"}, backing=None)
    machine.ask("blockdev-mirror", job_id="j", device="s", target="t", sync="top",
                granularity=65536)  # fmt: skip
    target = machine.vm.block.graph.nodes["t"]
    kinds = [piece.kind for piece in base.status(target, MB // 2, MB // 2 + 131072)]
    assert kinds == (["data"] if cluster == 17 else ["hole", "data"])
    copied = base.read(target, MB // 2, 65536)
    assert copied == (b"\7" if cluster == 17 else b"\0") * 65536


# -- snapshots of what filters an image -----------------------------------------------------------


@pytest.mark.parametrize("filter", ["copy-on-read", "raw"])
def test_an_image_below_a_filter_takes_its_snapshots(machine: Any, filter: str) -> None:
    machine.image("a")
    machine.add(filter, "f", file="a")
    assert machine.hmp("savevm one") == ""
    assert "one" in machine.hmp("info snapshots")
    assert [each.name for each in machine.vm.block.graph.nodes["a"].driver.snapshots] == ["one"]


def test_an_inactive_image_takes_none(machine: Any) -> None:
    machine.image("a")
    machine.ask("blockdev-set-active", node_name="a", active=False)
    text = "Device 'a' is writable but does not support snapshots"
    assert machine.hmp("savevm one").startswith(f"Error: {text}")


@pytest.mark.parametrize("value", ["help", "?"])
def test_the_formats_are_listed(machine: Any, value: str) -> None:
    said = machine.hmp(f"drive_add 0 format={value}")
    assert said.startswith("Supported formats: blkdebug ")
    assert "\nSupported formats (read-only): blkdebug " in said
    assert not machine.vm.block.backends.named


def test_a_name_below_a_filter_begins_where_the_lowest_file_is(machine: Any) -> None:
    make(machine, "low")
    make(machine, "top", "low.qcow2")
    file = {"driver": "blkdebug", "image": {"driver": "file", "filename": "/top.qcow2"}}
    machine.add("qcow2", "top", file=file)
    assert machine.node("top")["backing_file"] == "/low.qcow2"


def test_a_child_that_a_file_name_tells_of_may_have_options_besides() -> None:
    image = with_children({"image": {"node-name": "n"}, "x": 1}, {"image": {"filename": "/a"}})
    assert image == {"image": {"filename": "/a", "node-name": "n"}, "x": 1}
    with pytest.raises(QapiError, match="Can't specify 'file' and 'filename' options at the same"):
        with_children({"image": {"filename": "/b"}}, {"image": {"filename": "/a"}})
