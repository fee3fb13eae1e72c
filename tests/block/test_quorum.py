"""quorum: what its children agree on, who is said to be wrong, and which children there are."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.model.block.drivers import base
from fakeqemu.qapi.errors import AbortError, QapiError

KB, MB = 1 << 10, 1 << 20


def node_of(machine: Any, name: str) -> Any:
    return machine.vm.block.graph.nodes[name]


def read(machine: Any, name: str, offset: int, count: int) -> bytes:
    return base.read(node_of(machine, name), offset, count)


def write(machine: Any, name: str, pattern: int, offset: int, count: int) -> None:
    base.write(node_of(machine, name), offset, bytes([pattern]) * count)


def quorum(machine: Any, *contents: int, threshold: int = 2, **more: Any) -> None:
    """`q` over raw files `c0`, `c1`, ... each full of a number."""
    for index, number in enumerate(contents):
        machine.vm.host.files.put(f"/c{index}", bytes([number]) * MB)
        machine.add("file", f"c{index}", filename=f"/c{index}")
    children = [f"c{index}" for index in range(len(contents))]
    machine.add("quorum", "q", children=children, vote_threshold=threshold, **more)
    machine.events.clear()


def bad(machine: Any) -> list[tuple[str, str]]:
    found = [(d["type"], d["node-name"]) for n, d in machine.events if n == "QUORUM_REPORT_BAD"]
    machine.events.clear()
    return found


def test_the_most_frequent_version_is_read_and_others_are_told(machine: Any) -> None:
    quorum(machine, 1, 2, 1)
    assert read(machine, "q", 1024, 512) == b"\1" * 512
    (event,) = machine.events
    assert event == ("QUORUM_REPORT_BAD", {
        "type": "read", "node-name": "c1", "sector-num": 2, "sectors-count": 1,
    })  # fmt: skip
    assert read(machine, "c1", 1024, 512) == b"\2" * 512


def test_too_few_votes_are_a_failure(machine: Any) -> None:
    quorum(machine, 1, 2, 3)
    with pytest.raises(QapiError, match="Input/output error"):
        read(machine, "q", 0, 512)
    assert machine.events[-1] == (
        "QUORUM_FAILURE", {"reference": "q", "sector-num": 0, "sectors-count": 1},
    )  # fmt: skip


def test_bad_versions_can_be_rewritten(machine: Any) -> None:
    quorum(machine, 1, 2, 1, rewrite_corrupted=True)
    read(machine, "q", 0, 512)
    assert read(machine, "c1", 0, 1024) == b"\1" * 512 + b"\2" * 512


def test_fifo_reads_the_first(machine: Any) -> None:
    quorum(machine, 1, 2, threshold=1, read_pattern="fifo")
    assert read(machine, "q", 0, 512) == b"\1" * 512
    assert machine.events == []


def test_writes_and_zeros_reach_all(machine: Any) -> None:
    quorum(machine, 0, 0, 0)
    write(machine, "q", 5, 512, 512)
    base.zero(node_of(machine, "q"), 512, 256)
    for index in range(3):
        assert read(machine, f"c{index}", 512, 512) == bytes(256) + b"\5" * 256


def failing(machine: Any, count: int) -> None:
    rule = {"event": "none", "iotype": "write", "errno": 28}
    null = {"driver": "null-co", "size": MB}
    for index in range(3):
        if index < count:
            machine.add("blkdebug", f"c{index}", image=null, inject_error=[rule])
        else:
            machine.add("null-co", f"c{index}", size=MB)
    machine.add("quorum", "q", children=["c0", "c1", "c2"], vote_threshold=2)
    machine.events.clear()


def test_writes_may_fail_where_enough_succeed(machine: Any) -> None:
    failing(machine, 1)
    write(machine, "q", 5, 0, 512)
    assert bad(machine) == [("write", "c0")]


def test_writes_that_fail_too_often_fail(machine: Any) -> None:
    failing(machine, 2)
    with pytest.raises(QapiError, match="No space left on device"):
        write(machine, "q", 5, 0, 512)
    assert machine.names() == ["QUORUM_REPORT_BAD"] * 2 + ["QUORUM_FAILURE"]


def test_blkverify_ends_the_process(machine: Any) -> None:
    quorum(machine, 1, 1, blkverify=True)
    write(machine, "c1", 3, 7, 1)
    with pytest.raises(AbortError, match="contents mismatch at offset 7") as left:
        read(machine, "q", 0, 512)
    assert left.value.status == 1


def test_zeros_are_what_all_call_zeros(machine: Any) -> None:
    for name in ("c0", "c1"):
        machine.image(name, MB)
    machine.add("quorum", "q", children=["c0", "c1"], vote_threshold=2)
    write(machine, "c1", 1, 128 * KB, 64 * KB)
    pieces = [(p.offset, p.length, p.kind) for p in base.status(node_of(machine, "q"), 0, MB)]
    assert pieces == [
        (0, 128 * KB, "zero"), (128 * KB, 64 * KB, "data"), (192 * KB, MB - 192 * KB, "zero"),
    ]  # fmt: skip


def test_children_come_and_go(machine: Any) -> None:
    quorum(machine, 1, 1, 1)
    machine.add("null-co", "new", size=MB)
    machine.ask("x-blockdev-change", parent="q", child="children.1")
    text = machine.desc("x-blockdev-change", parent="q", child="children.0")
    assert text == "The number of children cannot be lower than the vote threshold 2"
    machine.ask("x-blockdev-change", parent="q", node="new")
    assert list(node_of(machine, "q").children) == ["children.0", "children.2", "children.3"]
    assert machine.desc("x-blockdev-change", parent="q", node="new") == (
        "The node new already has a parent"
    )


def test_its_name_lists_all_children(machine: Any) -> None:
    quorum(machine, 1, 1)
    name = machine.node("q")["file"]
    assert name.startswith("json:{")
    assert '"children": [{"driver": "file", "filename": "/c0"}' in name
    assert '"vote-threshold": 2' in name


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"children": [], "vote_threshold": 1}, "Number of provided children must be 1 or more"),
        ({"vote_threshold": 0}, "Parameter 'vote-threshold' expects a value >= 1"),
        ({"vote_threshold": 2}, "threshold may not exceed children count"),
        ({"vote_threshold": 1, "blkverify": True}, "blkverify=on can only be set if there are"
         " exactly two files and vote-threshold is 2"),
    ],
)  # fmt: skip
def test_what_cannot_be(machine: Any, options: dict[str, Any], text: str) -> None:
    options = {"children": [{"driver": "null-co", "size": MB}], **options}
    assert machine.refusal_of_add("quorum", "q", **options) == text


def test_children_by_number_on_a_command_line(start: Any) -> None:
    machine = start(
        "-drive", "if=none,id=d,driver=quorum,vote-threshold=1,children.0.driver=null-co,"
        "children.1.driver=null-co",
    )  # fmt: skip
    assert len(machine.vm.block.backends.named["d"].node.children) == 2


@pytest.mark.parametrize("shared", [False, True])
def test_a_mirror_replaces_a_child_that_nobody_else_uses(machine: Any, shared: bool) -> None:
    quorum(machine, 1, 2, 1)
    machine.vm.host.files.put("/t", size=MB)
    machine.add("file", "t", filename="/t")
    if shared:
        machine.add("raw", "other", file="c1", read_only=True)
    arguments = {"job_id": "j", "device": "q", "target": "t", "sync": "full", "replaces": "c1"}
    if shared:
        text = machine.desc("blockdev-mirror", **arguments)
        assert text.startswith("Cannot replace 'c1' by a node mirrored from 'q', because")
        return
    machine.ask("blockdev-mirror", **arguments)
    machine.ask("job-complete", id="j")
    assert [edge.node.name for edge in node_of(machine, "q").children.values()] == ["c0", "t", "c2"]
    assert read(machine, "t", 0, 512) == b"\1" * 512


def test_formats_of_children_are_guessed(machine: Any) -> None:
    machine.image("a")
    for name in ("a", "a-file"):
        machine.ask("blockdev-del", node_name=name)
    machine.hmp("drive_add 0 if=none,id=d,driver=quorum,vote-threshold=1,"
                "children.0.file.filename=/a.qcow2,children.0.node-name=n")  # fmt: skip
    assert node_of(machine, "n").driver.name == "qcow2"
