"""qemu-io in the human monitor: which lines it refuses, what it prints, what it holds."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.model.block.qemu_io import report

KB, MB = 1 << 10, 1 << 20


@pytest.fixture
def machine(start: Any) -> Any:
    made = start()
    made.image("a", discard="unmap")
    return made


def io(machine: Any, line: str, name: str = "a") -> str:
    return str(machine.hmp(f'qemu-io {name} "{line}"'))


def printed(machine: Any, line: str) -> list[str]:
    """What a line prints on standard output."""
    host = machine.vm.process.host
    host.printed.clear()
    assert io(machine, line) == ""
    return [row for text in host.printed for row in text.splitlines()]


def complained(machine: Any, line: str) -> list[str]:
    """What a line prints on standard error; it prints nothing on standard output."""
    host = machine.vm.process.host
    host.warnings.clear()
    assert printed(machine, line) == []
    return list(host.warnings)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("write 0", "bad argument count 1 to write, expected at least 2 arguments"),
        ("r", "bad argument count 0 to r, expected at least 2 arguments"),
        ("flush 3", "bad argument count 1 to flush, expected 0 arguments"),
        ("alloc", "bad argument count 0 to alloc, expected between 1 and 2 arguments"),
        ("break x", "bad argument count 1 to break, expected 2 arguments"),
        ("nope 1 2", 'command "nope" not found'),
    ],
)
def test_a_line_with_a_wrong_count_or_name_is_complained_about(
    machine: Any, line: str, text: str
) -> None:
    assert complained(machine, line) == [text]


def test_an_unknown_letter_is_named_and_the_usage_printed(machine: Any) -> None:
    host = machine.vm.process.host
    (usage,) = printed(machine, "discard -x 0 4k")
    assert usage == "discard [-Cq] off len -- discards a number of bytes at a specified offset"
    assert host.warnings[-1] == "discard: invalid option -- 'x'"
    printed(machine, "read 0 4k -P")
    assert host.warnings[-1] == "read: option requires an argument -- 'P'"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("write -P 256 0 4k", "256 is not a valid pattern byte"),
        ("write -z -P 1 0 4k", "Only one of -z, -P, and -s can be specified at the same time"),
        ("write -n 0 4k", "-n requires -z to be specified"),
        ("write -c 1 512", "1 is not a sector-aligned value for 'offset'"),
        ("read 0 2G", "length cannot exceed 2147483136, given 2G"),
        ("read -P 0 -l 2k 0 1k", "pattern verification range exceeds end of read data"),
        ("readv 0 1k 2G", "Argument '2G' exceeds maximum size 2147483136"),
        ("aio_write -z 0 1k 1k", "-z supports only a single length parameter"),
        ("write 0x 4k", "Parsing error: non-numeric argument, or extraneous/unrecognized"
         " suffix -- 0x"),
        ("read 9G 1k", "read failed: Input/output error"),
        ("aio_read 9G 1k", "readv failed: Input/output error"),
        ("break write_aio A", "Could not set breakpoint: Operation not supported"),
        ("resume A", "Could not resume request: Operation not supported"),
        ("zone_report 0 4", "zone report failed: Operation not supported"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_printed(machine: Any, line: str, text: str) -> None:
    assert printed(machine, line) == [text]


def test_a_request_is_reported_unless_quiet(machine: Any) -> None:
    first, second = printed(machine, "write -P 7 64k 4k")
    assert first == "wrote 4096/4096 bytes at offset 65536"
    assert second.startswith("4 KiB, 1 ops; 00.00 sec (")
    assert printed(machine, "writev -q -P 8 68k 1k 1k") == []
    assert printed(machine, "read -q -P 7 -l 4k 64k 5k") == []
    assert printed(machine, "read -q -P 7 64k 5k") == [
        "Pattern verification failed at offset 65536, 5120 bytes"
    ]
    (row, *_) = printed(machine, "read -v 68k 20")
    assert row == f"00011000:  {'08 ' * 16} {'.' * 16}"
    (parsable,) = printed(machine, "read -C 0 512")
    assert parsable.startswith("512,1,0:00:00.00,")


def test_sizes_are_shown_in_the_largest_unit_that_fits() -> None:
    assert [report.size_text(n) for n in (0, 512, 65536, 1536 * KB, 0.5)] == [
        "0 bytes", "512 bytes", "64 KiB", "1.500 MiB", "0.500000 bytes",
    ]  # fmt: skip
    assert report.time_text(3_661_250_000_000, verbose=False) == "1:01:01.25"


def test_asynchronous_requests_count_in_the_statistics(machine: Any) -> None:
    machine.vm.block.backends.create("d").insert(machine.vm.block.graph.lookup("a", "a"))
    backend = machine.vm.block.backends.named["d"]
    for line in ("write 0 4k", "aio_write 0 4k", "aio_read -i 0 4k", "aio_flush"):
        io(machine, line, "d")
    assert backend.traffic.operations == {"wr": 1, "flush": 1}
    assert backend.traffic.invalid == {"rd": 1}


def test_what_is_allocated_is_shown(machine: Any) -> None:
    io(machine, "write 64k 64k")
    size = report.size_text(machine.vm.block.graph.lookup("a", "a").driver.length(None))
    assert printed(machine, "alloc 64k 128k") == ["65536/131072 bytes allocated at offset 64 KiB"]
    first, second, _ = printed(machine, "map")
    assert first == "64 KiB (0x10000) bytes not allocated at offset 0 bytes (0x0)"
    assert second == "64 KiB (0x10000) bytes     allocated at offset 64 KiB (0x10000)"
    assert printed(machine, "length") == [size]


def test_info_names_format_and_clusters(machine: Any) -> None:
    host = machine.vm.process.host
    host.printed.clear()
    assert "    compat: 1.1\n" in io(machine, "info")
    assert host.printed[:2] == ["format name: qcow2", "cluster size: 64 KiB"]


def test_the_registered_buffers_of_later_versions(start: Any) -> None:
    old = start(profile="7.2")
    old.image("a")
    assert printed(old, "read -r 0 512")[-1].startswith("read [-abCqv] ")
    assert old.vm.process.host.warnings[-1] == "read: invalid option -- 'r'"
    assert complained(old, "zone_report 0 1") == ['command "zone_report" not found']


def test_reopen_changes_what_it_is_given(machine: Any) -> None:
    node = machine.vm.block.graph.lookup("a", "a")
    assert io(machine, "reopen -r") == ""
    assert node.read_only
    assert node.discard == "unmap"
    assert io(machine, "reopen -w -c none -o detect-zeroes=on") == ""
    assert (node.read_only, node.cache_direct, node.detect_zeroes) == (False, True, "on")
    assert io(machine, "reopen -r -w") == "Only one -r/-w option may be given\n"
    assert io(machine, "reopen -c x") == "Invalid cache option: x\n"


@pytest.fixture
def held(start: Any) -> Any:
    """A machine whose image `a` lies on a blkdebug, in a backend `d`."""
    made = start()
    made.image("below")
    made.ask("blockdev-add", driver="blkdebug", **{"node-name": "a", "image": "below"})
    made.vm.block.backends.create("d").insert(made.vm.block.graph.lookup("a", "a"))
    return made


def test_a_breakpoint_holds_a_request_until_it_is_resumed(held: Any) -> None:
    host = held.vm.process.host
    node = held.vm.block.graph.lookup("a", "a")
    io(held, "break pwritev A", "d")
    host.printed.clear()
    io(held, "aio_write -P 9 0 512", "d")
    assert host.printed == ["blkdebug: Suspended request 'A'"]
    host.printed.clear()
    assert node.driver.read(node, 0, 1) == b"\0"
    assert io(held, "wait_break A", "d") == ""
    assert "does not model" in io(held, "wait_break B", "d")
    io(held, "resume A", "d")
    assert host.printed[0] == "blkdebug: Resuming request 'A'"
    assert host.printed[1].startswith("wrote 512/512 bytes at offset 0\n")
    assert node.driver.read(node, 0, 1) == b"\t"
    io(held, "resume A", "d")
    assert host.printed[-1] == "Could not resume request: No such file or directory"


def test_a_breakpoint_that_goes_lets_go_what_it_holds(held: Any) -> None:
    host = held.vm.process.host
    io(held, "break pwritev A", "d")
    io(held, "aio_write 0 512", "d")
    host.printed.clear()
    io(held, "remove_break A", "d")
    assert host.printed[1].startswith("wrote 512/512")
    # the breakpoint itself was gone when it held the request
    assert host.printed[2] == "Could not remove breakpoint A: No such file or directory"


def test_a_breakpoint_holds_a_job(start: Any) -> None:
    machine = start()
    for name in ("low", "top"):
        machine.image(name)
    machine.hmp('qemu-io low "write 0 1M"')
    machine.ask("blockdev-del", node_name="top")
    file = {"driver": "blkdebug", "image": "top-file"}
    machine.add("qcow2", "top", file=file, backing="low")
    machine.hmp('qemu-io top "break write_aio A"')
    machine.ask("block-stream", device="top", job_id="j")

    def job() -> dict[str, Any]:
        (found,) = machine.ask("query-block-jobs")
        return {key: found[key] for key in ("status", "busy", "offset")}

    assert job() == {"status": "running", "busy": True, "offset": 0}
    machine.ask("block-job-pause", device="j")
    assert job() == {"status": "running", "busy": True, "offset": 0}
    machine.hmp('qemu-io top "resume A"')
    machine.clock.run_until_idle()
    assert job() == {"status": "paused", "busy": False, "offset": 512 * 1024}
    machine.ask("block-job-resume", device="j")
    assert machine.ask("query-jobs") == []


def test_a_job_that_is_held_is_cancelled_when_it_goes_on(start: Any) -> None:
    machine = start()
    for name in ("a", "b"):
        machine.image(name)
    machine.hmp('qemu-io a "write 0 1M"')
    machine.ask("blockdev-del", node_name="a")
    machine.add("qcow2", "a", file={"driver": "blkdebug", "image": "a-file"})
    machine.hmp('qemu-io a "break read_aio A"')
    machine.ask("blockdev-backup", device="a", target="b", sync="full", job_id="j")
    machine.ask("block-job-cancel", device="j")
    assert [job["status"] for job in machine.ask("query-jobs")] == ["running"]
    machine.hmp('qemu-io a "resume A"')
    machine.clock.run_until_idle()
    assert machine.ask("query-jobs") == []


def test_a_held_request_of_others_is_not_modelled(held: Any) -> None:
    io(held, "break pwritev A", "d")
    assert "does not model" in io(held, "write 0 512", "d")


def test_zeros_without_a_fallback_are_whole_clusters(machine: Any) -> None:
    assert printed(machine, "write -q -z -n 64k 64k") == []
    for line in ("write -z -n 0 4k", "write -z -n 4k 64k"):
        assert "does not model 'qemu-io write -n of parts of clusters'" in io(machine, line)
