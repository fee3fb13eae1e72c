"""The node graph: adding, linking, permissions, names of files, removal."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.model.block import drivers, query as info
from fakeqemu.model.block.drivers import raw
from fakeqemu.model.block.drivers.driver import DRIVERS
from fakeqemu.model.block.files import ImageLocked, MemoryFiles
from fakeqemu.model.block.graph import permission_update
from fakeqemu.qapi import qdict
from fakeqemu.qapi.json.writer import encode

MB = 1 << 20


def test_nodes_and_their_end(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    machine.add("raw", "r", file="a")
    assert machine.desc("blockdev-del", node_name="a") == "Block device a is in use"
    machine.ask("blockdev-del", node_name="r")
    machine.ask("blockdev-del", node_name="a")
    assert machine.ask("query-named-block-nodes") == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"driver": "null-co"}, "'node-name' must be specified for the root node"),
        (
            {"driver": "nbd", "server": {"type": "unix", "path": "nowhere"}},
            "'node-name' must be specified for the root node",
        ),
        ({"driver": "null-co", "node-name": "a"}, "Duplicate nodes with node-name='a'"),
        ({"driver": "null-co", "node-name": "1"}, "Invalid node-name: '1'"),
        ({"driver": "null-co", "node-name": "x" * 32}, "Node name too long"),
        ({"driver": "raw", "node-name": "b", "file": "x"},
         "Cannot find device='x' nor node-name='x'"),
        ({"driver": "raw", "node-name": "b"}, "Parameter 'file' is missing"),
        ({"driver": "file", "node-name": "b", "filename": "/no"},
         "Could not open '/no': No such file or directory"),
        ({"driver": "qcow2", "node-name": "b", "file": "a"}, "Image is not in qcow2 format"),
    ],
)  # fmt: skip
def test_refused_nodes(machine: Any, options: dict[str, Any], text: str) -> None:
    machine.add("null-co", "a", size=MB)
    assert machine.desc("blockdev-add", **options) == text
    assert machine.node_names() == {"a"}


def test_a_failed_open_leaves_nothing(machine: Any, files: MemoryFiles) -> None:
    files.put("/junk", size=MB)
    child = {"driver": "file", "filename": "/junk", "node-name": "child"}
    assert machine.desc("blockdev-add", driver="qcow2", node_name="q", file=child)
    assert machine.ask("query-named-block-nodes") == []
    machine.add("raw", "r", file=child)


def test_two_writers_exclude_each_other(start: Callable[..., Any]) -> None:
    port = "pcie-root-port,id=p{0},chassis={0},slot={0}"
    machine = start("-device", port.format(1), "-device", port.format(2))
    machine.add("null-co", "a", size=MB)
    machine.ask("device_add", driver="virtio-blk-pci", bus="p1", id="d", drive="a")
    text = machine.desc("device_add", driver="virtio-blk-pci", bus="p2", id="e", drive="a")
    assert text == (
        "Permission conflict on node 'a': permissions 'write' are both required by block device"
        " '/machine/peripheral/d/virtio-backend' (uses node 'a' as 'root' child) and unshared by"
        " block device '/machine/peripheral/e/virtio-backend' (uses node 'a' as 'root' child)."
    )
    assert machine.desc("blockdev-del", node_name="a") == "Node a is in use"
    assert [b["qdev"] for b in machine.ask("query-block")] == [
        "/machine/peripheral/d/virtio-backend"
    ]


def test_image_locks_speak_of_other_users(machine: Any, files: MemoryFiles) -> None:
    files.put("/i", size=MB)
    machine.ask(
        "blockdev-create", job_id="j",
        options={"driver": "file", "filename": "/i", "size": 0},
    )  # fmt: skip
    machine.add("file", "f", filename="/i")
    machine.ask(
        "blockdev-create", job_id="k", options={"driver": "qcow2", "file": "f", "size": MB}
    )
    machine.add("qcow2", "q", file="f")
    other = {"driver": "file", "filename": "/i"}
    text = machine.desc("blockdev-add", driver="qcow2", node_name="q2", file=other)
    assert text == 'Failed to get "write" lock'
    text = machine.desc(
        "blockdev-add", driver="qcow2", node_name="q2", file=other, read_only=True
    )
    assert text == 'Failed to get shared "write" lock'
    machine.add("qcow2", "q2", file=other, read_only=True, force_share=True)


def test_locks_of_files_in_memory(files: MemoryFiles) -> None:
    files.put("/i")
    first, second = (files.open("/i", writable=True) for _ in range(2))
    first.lock(2, 2)
    with pytest.raises(ImageLocked) as found:
        second.lock(2, 0)
    assert (found.value.bit, found.value.shared) == (1, False)
    first.close()
    second.lock(2, 2)


def test_names_of_files(machine: Any, files: MemoryFiles) -> None:
    files.put("/i", size=MB)
    machine.add("null-co", "n")
    machine.add("null-co", "m", size=512)
    machine.add("raw", "r", file={"driver": "file", "filename": "/i"})
    machine.add("raw", "w", file={"driver": "file", "filename": "/i"}, offset=512)
    shown = {name: machine.node(name)["file"] for name in "nmrw"}
    assert shown == {
        "n": "null-co://",
        "m": 'json:{"driver": "null-co", "size": 512}',
        "r": "/i",
        "w": 'json:{"offset": 512, "driver": "raw",'
             ' "file": {"driver": "file", "filename": "/i"}}',
    }  # fmt: skip


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {"driver": "null-co", "node-name": "base", "size": MB}
    for number in range(depth):
        node = {"driver": "raw", "node-name": f"n{number}", "file": node}
    return node


@pytest.mark.parametrize("query", ["query-named-block-nodes", "query-blockstats"])
def test_nodes_in_nodes_cost_as_much_as_there_are(
    machine: Any, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """Work for each node, not for each node below each node."""
    counts = {"refresh": 0, "options": 0, "counters": 0}

    def counted(owner: Any, name: str, what: str) -> None:
        function = getattr(owner, name)

        def count(*args: Any) -> Any:
            counts[what] += 1
            return function(*args)

        monkeypatch.setattr(owner, name, count)

    counted(permission_update.Update, "_refresh", "refresh")
    counted(raw.Raw, "significant_options", "options")
    counted(info, "_counters", "counters")
    machine.ask("blockdev-add", **nested(100))
    assert counts["refresh"] < 500
    found = machine.ask(query, **({"query-nodes": True} if query == "query-blockstats" else {}))
    assert len(found) == 101
    assert counts["options"] < 500 and counts["counters"] < 150
    # and yet each shows all below it
    top, depth = next(each for each in found if each["node-name"] == "n99"), 0
    while "parent" in top:
        top, depth = top["parent"], depth + 1
    assert depth == (100 if query == "query-blockstats" else 0)
    once = encode([found, found])
    assert json.loads(once) == [found, found] and encode([found, found]) == once


def test_images_that_are_ours_already_cost_nothing(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.add("null-co", "n")
    updates: list[Any] = []
    monkeypatch.setattr(permission_update.Update, "run", updates.append)
    machine.ask("cont")
    assert updates == []


def test_long_names_of_files_end_in_dots(machine: Any) -> None:
    machine.ask("blockdev-add", **nested(200))
    short, long = machine.node("n9")["file"], machine.node("n199")["file"]
    assert json.loads(short.removeprefix("json:"))["file"]["driver"] == "raw"
    assert len(long) == 4095 and long.startswith("json:{") and long.endswith("...")


def test_members_that_a_version_has_not_are_left_out(start: Callable[..., Any]) -> None:
    shown = {}
    for profile in ("7.2", "10.0", "11.1"):
        machine = start(profile=profile)
        machine.add("null-co", "n", size=512)
        shown[profile] = set(machine.node("n")) & {"active", "children"}
    assert shown == {"7.2": set(), "10.0": {"active"}, "11.1": {"active", "children"}}


def test_reopen_changes_all_or_nothing(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    machine.add("raw", "r", file="a")
    text = machine.desc(
        "blockdev-reopen",
        options=[
            {"driver": "raw", "node-name": "r", "file": "a", "read-only": True},
            {"driver": "raw", "node-name": "nope", "file": "a"},
        ],
    )
    assert text == "Failed to find node with node-name='nope'"
    assert machine.node("r")["ro"] is False
    machine.ask(
        "blockdev-reopen",
        options=[{"driver": "raw", "node-name": "r", "file": "a", "read-only": True}],
    )
    assert machine.node("r")["ro"] is True
    assert machine.desc("block_resize", node_name="r", size=512) == "Image is read-only"


def test_write_threshold_is_told_once(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    machine.ask("block-set-write-threshold", node_name="a", write_threshold=4096)
    machine.vm.block.write("a", 0, bytes(4096))
    machine.vm.block.write("a", 4096, bytes(512))
    machine.vm.block.write("a", 8192, bytes(512))
    assert machine.events == [
        (
            "BLOCK_WRITE_THRESHOLD",
            {"node-name": "a", "amount-exceeded": 512, "write-threshold": 4096},
        )
    ]
    assert machine.node("a")["write_threshold"] == 0


def test_no_image_is_put_on_top_of_itself(machine: Any) -> None:
    machine.image("q")
    machine.image("top")
    text = "Making '{}' a backing child of 'q' would create a cycle"
    assert machine.desc("blockdev-snapshot", node="q", overlay="q") == text.format("q")
    machine.ask("blockdev-reopen", options=[
        {"driver": "qcow2", "node-name": "top", "file": "top-file", "backing": "q"}
    ])  # fmt: skip
    before = machine.ask("query-named-block-nodes")
    assert machine.desc("blockdev-snapshot", node="top", overlay="q") == text.format("top")
    assert machine.ask("query-named-block-nodes") == before


def test_a_snapshot_stands_though_the_image_below_stays_writable(machine: Any) -> None:
    machine.image("q")
    machine.ask("blockdev-snapshot", node="q-file", overlay="q")
    nodes = {each["node-name"]: each for each in machine.ask("query-named-block-nodes")}
    assert nodes["q"]["backing_file_depth"] == 1
    assert not nodes["q-file"]["ro"]


def test_a_snapshot_says_which_image_it_makes(machine: Any) -> None:
    machine.image("a")
    size = machine.vm.block.graph.lookup("a", "a").driver.length(None)
    host = machine.vm.process.host
    host.printed.clear()
    machine.ask(
        "blockdev-snapshot-sync",
        **{"node-name": "a", "snapshot-file": "/snap,1", "snapshot-node-name": "b"},
    )
    (line,) = host.printed
    assert line.startswith(
        "Formatting '/snap,1', fmt=qcow2 cluster_size=65536 extended_l2=off compression_type=zlib"
        f" size={size} backing_file="
    )
    assert line.endswith(" backing_fmt=qcow2 lazy_refcounts=off refcount_bits=16")


def test_members_in_one_bucket_are_put_in_the_schemas_order(machine: Any) -> None:
    machine.image("a")
    machine.image("b")
    machine.ask("blockdev-snapshot", node="a", overlay="b")
    (shown,) = [n for n in machine.ask("query-named-block-nodes") if n["node-name"] == "b"]
    names = [name for name, _ in qdict.items(shown)]
    assert names.index("backing_file") == names.index("write_threshold") + 1


def test_options_of_a_backing_image_alone_are_for_the_one_in_the_header(
    start: Any, machine: Any
) -> None:
    machine.image("a")
    machine.ask(
        "blockdev-snapshot-sync",
        **{"node-name": "a", "snapshot-file": "/snap", "snapshot-node-name": "b"},
    )
    machine.vm.block.close()
    other = start("-drive", "if=none,file=/snap,backing.node-name=int")
    names = {each["node-name"] for each in other.ask("query-named-block-nodes")}
    assert "int" in names


# -- threads of nodes ---------------------------------------------------------------------------


@pytest.fixture
def threads(start: Callable[..., Any]) -> Any:
    """Nodes `n` over `n-file` and `m`, two I/O threads and two slots."""
    ports = (("-device", f"pcie-root-port,id=p{n},chassis={n}") for n in (1, 2))
    machine = start(*(word for port in ports for word in port))
    for name in ("io0", "io1"):
        machine.ask("object-add", qom_type="iothread", id=name)
    machine.image("n")
    machine.add("null-co", "m")
    return machine


def test_a_node_and_what_it_is_linked_to_have_one_thread(threads: Any) -> None:
    threads.ask("x-blockdev-set-iothread", node_name="n-file", iothread="io0")
    nodes = threads.vm.block.graph.nodes
    assert [nodes[name].iothread for name in ("n", "n-file", "m")] == ["io0", "io0", None]
    threads.add("raw", "r", file="n")
    assert {nodes[name].iothread for name in ("r", "n", "n-file")} == {None}
    threads.ask("x-blockdev-set-iothread", node_name="n", iothread=None)
    assert nodes["n-file"].iothread is None


@pytest.mark.parametrize(
    ("node", "iothread", "text"),
    [
        ("x", "io0", "Failed to find node with node-name='x'"),
        ("n", "io7", "Cannot find iothread io7"),
        ("n", "m", "Cannot find iothread m"),
    ],
)
def test_no_such_thread(threads: Any, node: str, iothread: str, text: str) -> None:
    assert threads.desc("x-blockdev-set-iothread", node_name=node, iothread=iothread) == text


def test_a_node_in_use_is_moved_by_force_unless_a_device_has_it(threads: Any) -> None:
    threads.ask("device_add", driver="virtio-blk-pci", bus="p1", drive="n", id="d")
    text = threads.desc("x-blockdev-set-iothread", node_name="n", iothread="io0")
    assert text == (
        "Node n is associated with a BlockBackend and could be in use"
        " (use force=true to override this check)"
    )
    text = threads.desc("x-blockdev-set-iothread", node_name="n", iothread="io0", force=True)
    assert text == "Cannot change iothread of active block backend"


def _plug_disk(machine: Any, port: str, drive: str) -> None:
    """A SCSI disk, which leaves its medium in the thread that it is in."""
    machine.ask("device_add", driver="virtio-scsi-pci", bus=port, id=f"c{drive}")
    machine.ask("device_add", driver="scsi-hd", bus=f"c{drive}.0", drive=drive, id=f"d{drive}",
                share_rw=True)  # fmt: skip


def test_nodes_in_other_threads_are_linked_if_one_can_move(threads: Any) -> None:
    threads.image("over")
    own = {"driver": "qcow2", "node-name": "over", "file": "over-file"}
    threads.ask("x-blockdev-set-iothread", node_name="over", iothread="io0")
    _plug_disk(threads, "p1", "n")
    # the one below has a device, and the one above none
    threads.ask("blockdev-reopen", options=[{**own, "backing": "n"}])
    assert threads.vm.block.graph.nodes["over"].iothread is None
    threads.ask("blockdev-reopen", options=[{**own, "backing": None}])
    threads.ask("x-blockdev-set-iothread", node_name="over", iothread="io1")
    _plug_disk(threads, "p2", "over")
    text = threads.desc("blockdev-reopen", options=[{**own, "backing": "n"}])
    assert text == "Cannot change iothread of active block backend"


def test_a_child_that_goes_does_not_hold_its_parent_in_a_thread(threads: Any) -> None:
    nodes = threads.vm.block.graph.nodes
    threads.image("over")
    own = {"driver": "qcow2", "node-name": "over", "file": "over-file"}
    threads.ask("blockdev-reopen", options=[{**own, "backing": "m"}])
    threads.ask("x-blockdev-set-iothread", node_name="over", iothread="io0")
    for bus, drive in (("p1", "m"), ("p2", "n")):
        _plug_disk(threads, bus, drive)
    threads.ask("blockdev-reopen", options=[{**own, "backing": "n"}])
    assert [nodes[name].iothread for name in ("m", "over", "n")] == ["io0", None, None]


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        (
            "blockdev-add",
            {"driver": "qcow2", "node-name": "second", "file": "over"},
            "Permission conflict on node 'over'",
        ),
        (
            "blockdev-reopen",
            {"options": [
                {"driver": "qcow2", "node-name": "over", "file": "over-file", "backing": "n"}
            ]},
            "Permission conflict on node 'n'",
        ),
        ("blockdev-snapshot", {"node": "n", "overlay": "sealed"}, "Block node is read-only"),
    ],
)  # fmt: skip
def test_a_link_that_is_refused_leaves_nodes_in_their_threads(
    threads: Any, command: str, arguments: dict[str, Any], text: str
) -> None:
    nodes = threads.vm.block.graph.nodes
    threads.image("over")
    threads.image("sealed", read_only=True)
    # a filter with a user, which lets nobody else write to what is below
    threads.add("null-co", "target", size=1 << 20)
    threads.add("copy-before-write", "filter", file="over", target="target")
    threads.add("raw", "first", file="filter")
    threads.ask("device_add", driver="virtio-blk-pci", bus="p1", drive="n", id="d")
    for name in ("over", "sealed"):
        threads.ask("x-blockdev-set-iothread", node_name=name, iothread="io0")
    before = {name: node.iothread for name, node in nodes.items()}
    assert before["first"] == before["sealed-file"] == "io0"
    assert before["n"] is None
    assert text in threads.desc(command, **arguments)
    assert {name: node.iothread for name, node in nodes.items()} == before


def test_an_overlay_that_nobody_uses_lives_as_long_as_its_transaction(machine: Any) -> None:
    machine.image("a")
    actions = [
        {
            "type": "blockdev-snapshot-sync",
            "data": {"node-name": "a", "snapshot-file": f"/{name}", "snapshot-node-name": name},
        }
        for name in ("b", "c")
    ]
    text = machine.desc("transaction", actions=actions)
    assert text == "Node 'a' is busy: node is used as backing hd of 'b'"
    assert machine.node_names() == {"a", "a-file"}


def test_the_table_of_drivers_has_all_that_modules_register() -> None:
    for module in pkgutil.iter_modules(drivers.__path__, f"{drivers.__name__}."):
        importlib.import_module(module.name)  # fails for one that the table does not have there
    assert {name: DRIVERS[name].name for name in DRIVERS} == {name: name for name in DRIVERS}
    assert len(DRIVERS) > 20


def test_histogram_without_boundaries(start: Any) -> None:
    disk = ("-blockdev", "driver=null-co,node-name=n", "-device", "ide-hd,drive=n,id=d")
    wanted = {"id": "d", "boundaries": []}
    machine = start(*disk, profile="7.2")
    machine.ask("block-latency-histogram-set", **wanted)
    histograms = [
        e["stats"]["rd_latency_histogram"]
        for e in machine.ask("query-blockstats")
        if "rd_latency_histogram" in e["stats"]
    ]
    assert histograms == [{"boundaries": [], "bins": [0]}]
    refusal = start(*disk, profile="10.0").desc("block-latency-histogram-set", **wanted)
    assert refusal == "Device 'd' set read boundaries fail"
