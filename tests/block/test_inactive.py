"""Nodes whose images belong to another process: who may be above them, and who stands in the way.

The texts are a real 10.0's (its own test inactive-node-nbd expects them).
"""

from __future__ import annotations

from typing import Any

import pytest

DENIED = "Failed to inactivate node: Operation not permitted"


def active(machine: Any, name: str) -> bool:
    return bool(machine.node(name)["active"])


@pytest.fixture
def inactive(machine: Any) -> Any:
    """`a` over `a-file`, both inactive, and an active image `b`."""
    machine.image("a")
    machine.image("b")
    machine.ask("blockdev-set-active", node_name="a", active=False)
    assert not active(machine, "a-file")
    return machine


def test_a_node_can_be_opened_inactive(machine: Any) -> None:
    machine.image("a")
    machine.ask("blockdev-del", node_name="a")
    machine.add("qcow2", "a", file="a-file", active=False)
    assert not active(machine, "a")


@pytest.mark.parametrize(
    ("driver", "child", "inactive"),
    # QEMU opens what is called `file` before it looks at `active`
    [("raw", "file", False), ("copy-on-read", "file", False), ("blkdebug", "image", True),
     ("qcow2", "backing", True)],
)  # fmt: skip
def test_which_children_are_opened_inactive(
    machine: Any, driver: str, child: str, inactive: bool
) -> None:
    machine.image("a")
    machine.ask("blockdev-del", node_name="a")
    more = {"file": "a-file"} if driver == "qcow2" else {}
    inner = {"driver": "raw", "node-name": "inner", "file": {"driver": "null-co"}}
    machine.add(driver, "outer", active=False, **{child: inner}, **more)
    assert active(machine, "inner") is not inactive


def test_a_node_that_was_opened_with_active_is_not_reopened(machine: Any) -> None:
    machine.add("null-co", "n", size=1 << 20)
    machine.add("raw", "a", file="n", active=True)
    for more in ({}, {"active": True}):
        options = {"driver": "raw", "node-name": "a", "file": "n", **more}
        refused = machine.desc("blockdev-reopen", options=[options])
        assert refused == "Option 'active' cannot be reset to its default value"


def test_reopening_gives_a_node_up_and_does_not_take_it_back(machine: Any) -> None:
    machine.add("null-co", "n")
    machine.add("null-co", "m")
    machine.ask("blockdev-set-active", node_name="m", active=False)
    for name, wanted in ("n", False), ("m", True):
        options = {"driver": "null-co", "node-name": name, "active": wanted}
        machine.ask("blockdev-reopen", options=[options])
        assert not active(machine, name)
    assert machine.desc("blockdev-add", driver="raw", node_name="a", file="n") == (
        "Inactive 'n' can't be a file child of active 'a'"
    )


def test_what_was_opened_with_a_node_is_given_up_with_it(machine: Any) -> None:
    inner = {"driver": "null-co", "node-name": "inner"}
    machine.add("raw", "outer", file=inner)
    options = {"driver": "raw", "node-name": "outer", "file": {"driver": "null-co"}}
    machine.ask("blockdev-reopen", options=[{**options, "active": False}])
    assert not active(machine, "inner")


def test_a_node_in_use_is_not_given_up(start: Any) -> None:
    machine = start("-device", "virtio-scsi-pci")
    machine.add("null-co", "n")
    machine.ask("device_add", driver="scsi-hd", drive="n", id="d")
    options = {"driver": "null-co", "node-name": "n", "active": False}
    refused = machine.desc("blockdev-reopen", options=[options])
    assert refused == "Read-only block node 'n' cannot support read-write users"
    assert active(machine, "n")


def test_an_active_node_has_no_inactive_child(inactive: Any) -> None:
    refused = inactive.refusal_of_add("raw", "top", file="a")
    assert refused == "Inactive 'a' can't be a file child of active 'top'"
    inactive.add("raw", "top", file="a", active=False)
    assert not active(inactive, "top")
    target = {"driver": "null-co", "size": 1 << 20}
    refused = inactive.refusal_of_add(
        "copy-before-write", "cbw", file="a", active=False, target=target
    )
    assert refused == "Permission 'write' unavailable on inactive node"
    assert "cbw" not in inactive.node_names()


def test_nobody_writes_to_an_inactive_node(inactive: Any) -> None:
    refused = inactive.desc("block_resize", node_name="a", size=1 << 21)
    assert refused == "Permission 'resize' unavailable on inactive node"


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("block-stream", {"device": "a"},
         "Could not create node: Inactive 'a' can't be a file child of active 'NAME'"),
        ("blockdev-mirror", {"device": "a", "target": "b", "sync": "full"},
         "Inactive 'a' can't be a backing child of active 'NAME'"),
        ("blockdev-mirror", {"device": "b", "target": "a", "sync": "full"},
         "Permission 'write' unavailable on inactive node"),
        ("blockdev-backup", {"device": "b", "target": "a", "sync": "full"},
         "Could not create node: Inactive 'a' can't be a target child of active 'NAME'"),
        ("blockdev-backup", {"device": "a", "target": "b", "sync": "full"},
         "Could not create node: Inactive 'a' can't be a file child of active 'NAME'"),
    ],
)  # fmt: skip
def test_jobs_need_active_nodes(
    inactive: Any, command: str, arguments: dict[str, Any], text: str
) -> None:
    found = inactive.desc(command, job_id="j", **arguments)
    head, tail = text.split("NAME") if "NAME" in text else (text, "")
    assert found.startswith(head) and found.endswith(tail)
    assert inactive.node_names() == {"a", "a-file", "b", "b-file"}
    assert inactive.ask("query-jobs") == []


def test_what_writes_keeps_a_node_active(machine: Any) -> None:
    machine.image("a")
    machine.image("b")
    text = machine.desc("blockdev-set-active", node_name="a-file", active=False)
    assert text == "Node has active parent node"
    machine.hmp('qemu-io b "write 0 1M"')
    backing = {"node": "b", "overlay": "a"}
    machine.ask("blockdev-snapshot", **backing)
    machine.ask("block-stream", device="a", job_id="j", speed=1, work=False)
    assert machine.desc("blockdev-set-active", node_name="a", active=False)
    assert active(machine, "a")


def test_an_export_that_writes_may_be_made_to_give_way(machine: Any) -> None:
    machine.image("a")
    address = {"type": "unix", "data": {"path": "/sock"}}
    machine.ask("nbd-server-start", addr=address)
    export = {"id": "e", "type": "nbd", "node_name": "a", "writable": True}
    machine.ask("block-export-add", **export)
    assert machine.desc("blockdev-set-active", node_name="a", active=False) == DENIED
    assert active(machine, "a")
    machine.ask("block-export-del", id="e")
    machine.ask("blockdev-set-active", node_name="a", active=True)
    machine.ask("block-export-add", **export, allow_inactive=True)
    machine.ask("blockdev-set-active", node_name="a", active=False)
    assert not active(machine, "a")
    machine.ask("blockdev-set-active", node_name="a", active=True)
    assert active(machine, "a")


@pytest.mark.parametrize("persistent", [True, False])
def test_a_node_has_its_stored_bitmaps_no_longer(machine: Any, persistent: bool) -> None:
    """Nobody may read here what the next owner of the image changes."""
    machine.image("a")
    machine.ask("block-dirty-bitmap-add", node="a", name="b", persistent=persistent)
    machine.vm.block.write("a", 0, b"x")
    machine.ask("blockdev-set-active", node_name="a", active=False)
    asked = {"node": "a", "name": "b"}
    if persistent:
        text = machine.desc("x-debug-block-dirty-bitmap-sha256", **asked)
        assert text == "Dirty bitmap 'b' not found"
    else:
        machine.ask("x-debug-block-dirty-bitmap-sha256", **asked)
    machine.ask("blockdev-set-active", node_name="a", active=True)
    (bitmap,) = machine.node("a")["dirty-bitmaps"]
    assert (bitmap["name"], bitmap["count"]) == ("b", 65536)
