"""When images are flushed, as blkdebug's events tell it. The order is a real 7.2's and 10.0's."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fakeqemu.qapi.errors import QapiError

MB = 1 << 20


def counting(
    machine: Any, name: str, cache: dict[str, bool] | None = None, **more: Any
) -> None:
    """A qcow2 node over a blkdebug whose state is 1 and what was flushed to disk above it."""
    machine.image(name, MB)
    machine.ask("blockdev-del", node_name=name)
    states = [
        {"event": "flush_to_disk", "state": state, "new_state": state + 1}
        for state in range(1, 20)
    ]
    file = {"driver": "blkdebug", "node-name": f"{name}-debug", "image": f"{name}-file"}
    file = {**file, "set-state": states, **more}
    machine.add("qcow2", name, file=file, backing=None, cache=cache or {})


def flushes(machine: Any, name: str) -> int:
    return int(machine.vm.block.graph.lookup(name, name).file.driver._state) - 1


def io(machine: Any, name: str, line: str) -> None:
    assert machine.hmp(f'qemu-io {name} "{line}"') == ""


def test_only_what_was_written_is_flushed_to_disk(machine: Any) -> None:
    counting(machine, "a")
    counts = []
    for line in ("flush", "write 0 4k", "flush", "flush", "write -f 64k 4k", "flush"):
        io(machine, "a", line)
        counts.append(flushes(machine, "a"))
    # one that goes to disk itself counts as written after that
    assert counts == [0, 0, 1, 1, 1, 2]
    io(machine, "a", "write 0 4k")
    io(machine, "a-debug", "flush")
    assert flushes(machine, "a") == 2
    io(machine, "a", "discard 0 64k")
    io(machine, "a", "flush")
    assert flushes(machine, "a") == 3


def test_cache_unsafe_never_flushes_to_disk(machine: Any) -> None:
    counting(machine, "a", cache={"no-flush": True})
    io(machine, "a", "write 0 4k")
    io(machine, "a", "flush")
    assert flushes(machine, "a") == 0


def test_the_guest_stops(machine: Any) -> None:
    counting(machine, "a")
    io(machine, "a", "write 0 4k")
    machine.ask("stop")
    assert flushes(machine, "a") == 1


@pytest.mark.parametrize(
    ("driver", "options", "flushed"),
    [
        ("throttle", {"throttle-group": "g"}, 1),
        ("copy-before-write", {"target": "t"}, 1),
        ("copy-on-read", {}, 1),
        ("raw", {}, 0),  # which has no permission to write while nobody uses it
    ],
)
def test_a_node_that_goes(
    start: Any, driver: str, options: dict[str, Any], flushed: int
) -> None:
    machine = start("-object", "throttle-group,id=g")
    counting(machine, "a")
    machine.image("t", MB)
    io(machine, "a", "write 0 4k")
    machine.add(driver, "top", file="a", **options)
    machine.ask("blockdev-del", node_name="top")
    assert flushes(machine, "a") == flushed


@pytest.mark.parametrize("command", ["blockdev-backup", "blockdev-mirror", "block-stream"])
def test_a_jobs_filter_that_goes(machine: Any, command: str) -> None:
    counting(machine, "a")
    machine.image("t", MB)
    io(machine, "a", "write 0 4k")
    more = {} if command == "block-stream" else {"target": "t", "sync": "full"}
    machine.ask(command, device="a", job_id="j", **more)
    if command == "blockdev-mirror":
        assert flushes(machine, "a") == 0
        machine.ask("block-job-cancel", device="j")
    assert machine.ask("query-jobs") == []
    assert flushes(machine, "a") == 1


def test_snapshots(machine: Any) -> None:
    counting(machine, "a")
    machine.image("o", MB)
    io(machine, "a", "write 0 4k")
    machine.ask("blockdev-snapshot-internal-sync", device="a", name="s")
    assert flushes(machine, "a") == 1
    io(machine, "a", "write 0 4k")
    machine.ask("blockdev-snapshot", node="a", overlay="o")
    assert flushes(machine, "a") == 2


# -- a mirror's target -----------------------------------------------------------------------------


def fails(*, once: bool) -> dict[str, Any]:
    """The second flush goes wrong."""
    rule = {"event": "flush_to_disk", "state": 2, "immediately": True, "once": once}
    return {"inject-error": [rule]}


def mirror(machine: Any, reaction: str, *, once: bool) -> None:
    machine.image("a", MB)
    io(machine, "a", "write 0 64k")
    counting(machine, "t", **fails(once=once))
    machine.ask(
        "blockdev-mirror", device="a", target="t", job_id="j", sync="full",
        filter_node_name="top", on_target_error=reaction,
    )  # fmt: skip
    assert machine.statuses()[-1] == "ready"
    assert flushes(machine, "t") == 1
    io(machine, "top", "write 0 64k")
    assert flushes(machine, "t") == 1


def named(machine: Any, wanted: str) -> list[Any]:
    return [data for name, data in machine.events if name == wanted]


def test_a_mirror_flushes_before_it_is_ready_and_before_it_ends(machine: Any) -> None:
    mirror(machine, "report", once=False)
    machine.ask("block-job-cancel", device="j")
    error = {"device": "j", "operation": "write", "action": "report"}
    assert named(machine, "BLOCK_JOB_ERROR") == [error]
    assert named(machine, "BLOCK_JOB_COMPLETED")[0]["error"] == "Input/output error"


def test_a_mirror_stops_and_flushes_again(machine: Any) -> None:
    mirror(machine, "stop", once=True)
    machine.ask("block-job-cancel", device="j")
    assert named(machine, "BLOCK_JOB_ERROR")[0]["action"] == "stop"
    assert machine.ask("query-block-jobs")[0]["status"] == "standby"
    machine.ask("block-job-resume", device="j")
    assert machine.ask("query-jobs") == []
    assert "error" not in named(machine, "BLOCK_JOB_COMPLETED")[0]


def test_a_flush_that_fails_is_reported(machine: Any) -> None:
    rule = {"event": "none", "iotype": "flush", "errno": 28}
    counting(machine, "a", **{"inject-error": [rule]})
    machine.image("o", MB)
    io(machine, "a", "write 0 4k")
    refused = machine.desc("blockdev-snapshot", node="a", overlay="o")
    assert refused == "An IO error has occurred"
    with pytest.raises(QapiError, match=r"^Error flushing drive: No space left on device$"):
        machine.ask(
            "blockdev-reopen",
            options=[{"driver": "qcow2", "node-name": "a", "file": "a-debug", "backing": None}],
        )


def test_the_flushes_of_a_long_chain_look_below_once(start: Any) -> None:
    """A reopen flushes each node with all below it: what is twice as deep costs four times."""

    def calls(depth: int) -> int:
        node: dict[str, Any] = {"driver": "null-co", "node-name": f"base{depth}"}
        for number in range(depth):
            node = {"driver": "raw", "node-name": f"n{depth}-{number}", "file": node}
        machine.ask("blockdev-add", **node)
        device = {"driver": "scsi-hd", "drive": f"n{depth}-{depth - 1}", "id": f"d{depth}"}
        machine.ask("device_add", **device)
        count = 0

        def note(_frame: Any, event: str, _arg: Any) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(note)
        try:
            machine.ask("blockdev-reopen", options=[node])
        finally:
            sys.setprofile(None)
        return count

    machine = start("-device", "virtio-scsi-pci")
    calls(5)
    assert calls(60) < 4.5 * calls(30)
