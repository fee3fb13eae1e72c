"""blockdev-reopen: children that were opened with their node have their options in the node's."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.model.block.drivers import base
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
    assert text == "Block node is read-only"


def test_a_node_that_was_there_before_takes_no_options(machine: BlockMachine) -> None:
    machine.image("n")
    file = {"driver": "file", "filename": "/n.qcow2"}
    text = "Cannot change the option 'file.driver'"
    assert machine.desc("blockdev-reopen", options=_reopen(file, backing=None)) == text


# -- what the options of a chain mean ----------------------------------------------------------


@pytest.fixture
def chain(machine: BlockMachine) -> BlockMachine:
    """`top` over `mid` over `low`, all opened in one, each with a file of its own name."""
    for name in ("low", "mid", "top"):
        machine.image(name)
        machine.ask("blockdev-del", node_name=name)
        machine.ask("blockdev-del", node_name=f"{name}-file")
    machine.ask("blockdev-add", **_chain())
    return machine


def _one(name: str, **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "node-name": f"{name}-file", "filename": f"/{name}.qcow2"}
    return {"driver": "qcow2", "node-name": name, "file": file, **more}


def _chain(**more: Any) -> dict[str, Any]:
    return _one("top", backing=_one("mid", backing=_one("low", **more), **more), **more)


def _refused(machine: BlockMachine, *options: dict[str, Any]) -> str:
    return machine.desc("blockdev-reopen", options=list(options))


def test_a_chain_takes_its_own_options_again(chain: BlockMachine) -> None:
    chain.ask("blockdev-reopen", options=[_chain()])
    chain.ask("blockdev-reopen", options=[_chain(**{"detect-zeroes": "on"})])
    assert {chain.node(n)["detect_zeroes"] for n in ("top", "mid", "low")} == {"on"}


def test_a_child_by_its_name_keeps_its_options(chain: BlockMachine) -> None:
    chain.ask("blockdev-reopen", options=[_chain(**{"detect-zeroes": "on"})])
    named = {"driver": "qcow2", "node-name": "top", "file": "top-file", "backing": "mid"}
    chain.ask("blockdev-reopen", options=[named])
    assert [chain.node(n)["detect_zeroes"] for n in ("top", "mid")] == ["off", "on"]


def test_options_of_a_child_that_is_another_one_now(chain: BlockMachine) -> None:
    chain.ask("block-stream", device="top", job_id="j", base_node="low")
    # `low` was opened with `top`, by way of `mid`
    assert _refused(chain, _chain()) == "Cannot change the option 'backing.driver'"
    chain.ask("blockdev-reopen", options=[_one("top", backing=_one("low"))])


def test_a_frozen_link_stays(chain: BlockMachine) -> None:
    chain.ask("block-stream", device="top", job_id="j", base_node="low", auto_finalize=False)
    text = _refused(chain, _one("top", backing=None))
    assert text == "Cannot change frozen 'backing' link from 'top' to 'mid'"
    chain.ask("blockdev-reopen", options=[_one("top", backing=_one("mid", backing=None))])
    assert "backing-image" not in chain.node("mid")["image"]


def test_a_filter_of_a_job_stays(chain: BlockMachine) -> None:
    chain.ask("block-commit", device="top", job_id="j", top_node="mid", auto_finalize=False)
    text = _refused(chain, _one("top", backing=None))
    assert text == "Cannot replace implicit backing child of top"


def test_files_change_places(machine: BlockMachine) -> None:
    for name, pattern in (("a", 1), ("b", 2)):
        machine.image(name)
        machine.hmp(f'qemu-io {name} "write -P {pattern} 0 64k"')
    nodes = machine.vm.block.graph.nodes
    text = _refused(machine, _with_file("a", "b-file"))
    assert text.startswith("Permission conflict on node 'b-file'")
    machine.ask(
        "blockdev-reopen", options=[_with_file("a", "b-file"), _with_file("b", "a-file")]
    )
    assert [base.read(nodes[name], 0, 1) for name in ("a", "b")] == [b"\2", b"\1"]
    machine.ask(
        "blockdev-reopen", options=[_with_file("a", "a-file"), _with_file("b", "b-file")]
    )
    assert [base.read(nodes[name], 0, 1) for name in ("a", "b")] == [b"\1", b"\2"]


def _with_file(name: str, file: str) -> dict[str, Any]:
    return {"driver": "qcow2", "node-name": name, "file": file, "backing": None}


def test_nothing_of_a_refused_reopen_stays(machine: BlockMachine) -> None:
    for name in ("a", "b"):
        machine.image(name)
    good = {"driver": "qcow2", "node-name": "a", "file": "a-file", "backing": "b"}
    bad = {"driver": "qcow2", "node-name": "b", "file": "no", "backing": None}
    assert _refused(machine, good, bad) == "Cannot find device='' nor node-name='no'"
    assert "backing-image" not in machine.node("a")["image"]
    machine.ask("blockdev-del", node_name="b")


def test_a_new_backing_image_cannot_go(machine: BlockMachine) -> None:
    for name in ("a", "b"):
        machine.image(name)
    own = {"driver": "qcow2", "node-name": "a", "file": "a-file", "backing": "b"}
    machine.ask("blockdev-reopen", options=[own])
    text = machine.desc("blockdev-del", node_name="b")
    assert text == "Node 'b' is busy: node is used as backing hd of 'a'"


@pytest.mark.parametrize(
    ("driver", "options"),
    [("copy-on-read", {}), ("compress", {}), ("copy-before-write", {"target": "t"})],
)
def test_filters_that_do_not_reopen(
    machine: BlockMachine, driver: str, options: dict[str, str]
) -> None:
    machine.image("n")
    machine.add("null-co", "t", size=1 << 20)
    machine.add(driver, "f", file="n", **options)
    text = _refused(machine, {"driver": driver, "node-name": "f", "file": "n", **options})
    assert text == (
        f"Block format '{driver}' used by node 'f' does not support reopening files"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"align": 4096}, "Cannot change the option 'align'"),
        ({"image": "t"}, "Cannot change the option 'image'"),
        ({"force-share": False}, "Cannot change the option 'force-share'"),
    ],
)
def test_what_blkdebug_keeps(
    machine: BlockMachine, change: dict[str, Any], text: str
) -> None:
    machine.add("null-co", "n")
    machine.add("null-co", "t")
    machine.add("blkdebug", "b", image="n")
    own = {"driver": "blkdebug", "node-name": "b", "image": "n"}
    machine.ask("blockdev-reopen", options=[own])
    assert _refused(machine, {**own, **change}) == text


def test_bitmaps_of_a_reopened_image_change_again(machine: BlockMachine) -> None:
    machine.image("n")
    machine.ask("block-dirty-bitmap-add", node="n", name="b", persistent=True)
    own = {"driver": "qcow2", "node-name": "n", "file": "n-file"}
    machine.ask("blockdev-reopen", options=[{**own, "read-only": True}])
    text = machine.desc("block-dirty-bitmap-clear", node="n", name="b")
    assert text == "Bitmap 'b' is readonly and cannot be modified"
    machine.ask("blockdev-reopen", options=[own])
    machine.ask("block-dirty-bitmap-clear", node="n", name="b")
