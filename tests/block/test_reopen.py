"""blockdev-reopen: children that were opened with their node have their options in the node's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machines import BlockMachine


@pytest.fixture
def nested(machine: BlockMachine) -> BlockMachine:
    """A machine with a read-only node `n` whose file has no name of its own."""
    machine.image("n")
    machine.ask("blockdev-del", node_name="n")
    machine.ask("blockdev-del", node_name="n-file")
    machine.add("qcow2", "n", file={"driver": "file", "filename": "/n.qcow2"}, read_only=True)
    return machine


def _reopen(file: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"driver": "qcow2", "node-name": "n", "file": file, **more}]


def test_a_file_is_reopened_with_its_node(nested: BlockMachine) -> None:
    file = {"driver": "file", "filename": "/n.qcow2"}
    nested.ask(
        "blockdev-reopen", options=_reopen(file, **{"read-only": False, "cache": {"direct": True}})
    )
    nodes = nested.ask("query-named-block-nodes", flat=True)
    assert [(each["ro"], each["cache"]["direct"]) for each in nodes] == [(False, True)] * 2


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ({"driver": "file", "filename": "/other"}, "Cannot change the option 'filename'"),
        ({"driver": "host_device", "filename": "/n.qcow2"}, "Cannot change the option 'driver'"),
        ({"driver": "file", "filename": "/n.qcow2", "node-name": "x"},
         "Cannot change the option 'node-name'"),
    ],
)  # fmt: skip
def test_what_a_file_keeps(nested: BlockMachine, file: dict[str, str], text: str) -> None:
    assert nested.desc("blockdev-reopen", options=_reopen(file)) == text
    assert nested.node("n")["ro"]


def test_a_file_may_be_read_only_only_if_nobody_writes(nested: BlockMachine) -> None:
    file = {"driver": "file", "filename": "/n.qcow2", "read-only": True}
    text = nested.desc("blockdev-reopen", options=_reopen(file, **{"read-only": False}))
    assert "cannot support read-write users" in text


def test_a_node_that_was_there_before_takes_no_options(machine: BlockMachine) -> None:
    machine.image("n")
    file = {"driver": "file", "filename": "/n.qcow2"}
    text = "Cannot change the option 'file.driver'"
    assert machine.desc("blockdev-reopen", options=_reopen(file, backing=None)) == text
