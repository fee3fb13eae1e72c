"""Jobs whose source or target fails: what is reported, what was on its way, how they go on."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.clock import SECOND
from fakeqemu.qapi.errors import QapiError

MB = 1 << 20
#: the first sector of the third of four megabytes
THIRD = 4096


def pair(machine: Any, files: Any, side: str, **rule: Any) -> None:
    """Nodes `s` with data and `t` of zeros, one of which fails in its third megabyte."""
    files.put("/s", b"\7" * 4 * MB)
    files.put("/t", bytes(4 * MB))
    for name in "st":
        file: dict[str, Any] = {"driver": "file", "filename": f"/{name}"}
        if (side == "source") == (name == "s"):
            what = "read" if side == "source" else "write"
            inject = {"event": "none", "iotype": what, "sector": THIRD, **rule}
            file = {"driver": "blkdebug", "image": file, "inject-error": [inject]}
        machine.add("raw", name, file=file)
    machine.events.clear()


def errors(machine: Any) -> list[tuple[str, str]]:
    """Operation and action of each BLOCK_JOB_ERROR since the last time."""
    found = [
        (data["operation"], data["action"])
        for name, data in machine.events
        if name == "BLOCK_JOB_ERROR"
    ]
    machine.events.clear()
    return found


def start(machine: Any, kind: str, **more: Any) -> None:
    """Begin a full copy."""
    machine.ask(f"blockdev-{kind}", job_id="j", device="s", target="t", sync="full", **more)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("kind", ["mirror", "backup"])
def test_what_was_sent_with_a_failing_request_is_copied(machine, files, kind, side):
    pair(machine, files, side, errno=28, once=True)
    start(machine, kind, **{f"on_{side}_error": "enospc"})
    assert errors(machine) == [("read" if side == "source" else "write", "stop")]
    (job,) = machine.ask("query-block-jobs")
    assert (job["paused"], job["io-status"], job["offset"]) == (True, "nospace", 3 * MB)
    machine.ask("job-resume", id="j")
    if kind == "mirror":
        machine.ask("job-complete", id="j")
    assert machine.ask("query-block-jobs") == []
    assert files.open("/t", writable=False).read(0, 4 * MB) == b"\7" * 4 * MB


@pytest.mark.parametrize(
    ("kind", "more"), [("mirror", {"buf_size": MB}), ("backup", {"x_perf": {"max-workers": 1}})]
)
def test_with_one_request_at_a_time_nothing_follows_the_failing_one(machine, files, kind, more):
    pair(machine, files, "target", errno=28)
    start(machine, kind, on_target_error="stop", **more)
    assert errors(machine) == [("write", "stop")]
    (job,) = machine.ask("query-block-jobs")
    assert job["offset"] == 2 * MB
    machine.ask("job-resume", id="j")
    assert errors(machine) == [("write", "stop")]


def test_a_mirror_goes_on_behind_what_failed(machine, files):
    pair(machine, files, "target", errno=5)
    start(machine, "mirror", on_target_error="stop", buf_size=MB)
    machine.ask("job-resume", id="j")
    (job,) = machine.ask("query-block-jobs")
    assert (job["offset"], job["io-status"]) == (3 * MB, "failed")


@pytest.mark.parametrize("kind", ["mirror", "backup"])
def test_an_error_that_is_ignored_does_not_lose_what_failed(machine, files, kind):
    pair(machine, files, "target", errno=5, once=True)
    start(machine, kind, on_target_error="ignore")
    machine.clock.advance(SECOND * 1)
    assert errors(machine) == [("write", "ignore")]
    assert files.open("/t", writable=False).read(0, 4 * MB) == b"\7" * 4 * MB


def test_a_job_that_fails_reports_the_first_error(machine, files):
    pair(machine, files, "source", errno=13)
    start(machine, "mirror", auto_dismiss=False)
    assert errors(machine) == [("read", "report")]
    (job,) = machine.ask("query-jobs")
    assert (job["status"], job["error"]) == ("concluded", "Permission denied")


def test_a_limited_mirror_sends_what_its_buffer_holds_and_then_waits(machine, files):
    pair(machine, files, "target", errno=28)
    start(machine, "mirror", on_target_error="stop", speed=MB)
    (job,) = machine.ask("query-block-jobs")
    assert (job["offset"], job["paused"]) == (3 * MB, True)


@pytest.mark.parametrize(("speed", "offset"), [(MB, 2 * MB), (20 * MB, 3 * MB)])
def test_a_limited_backup_sends_what_a_slice_of_time_allows(machine, files, speed, offset):
    pair(machine, files, "target", errno=28)
    start(machine, "backup", on_target_error="stop", speed=speed)
    machine.clock.advance(SECOND * 5)
    (job,) = machine.ask("query-block-jobs")
    assert (job["offset"], job["paused"]) == (offset, True)


def test_a_stream_reports_a_read_whatever_failed_and_stays_whole(machine, files):
    files.put("/base", b"\7" * MB)
    machine.add("raw", "base", file={"driver": "file", "filename": "/base"})
    machine.image("top", size=MB)
    machine.ask("blockdev-del", node_name="top")
    machine.ask("blockdev-del", node_name="top-file")
    inject = {"event": "none", "iotype": "write", "errno": 28, "once": True}
    file = {
        "driver": "blkdebug", "inject-error": [inject],
        "image": {"driver": "file", "filename": "/top.qcow2"},
    }  # fmt: skip
    machine.add("qcow2", "top", file=file, backing="base")
    machine.events.clear()
    machine.ask("block-stream", job_id="j", device="top", on_error="ignore")
    machine.clock.advance(SECOND * 1)
    ended = [data["error"] for name, data in machine.events if name == "BLOCK_JOB_COMPLETED"]
    assert errors(machine) == [("read", "ignore")]
    assert ended == ["No space left on device"]
    (node,) = [n for n in machine.ask("query-named-block-nodes") if n["node-name"] == "top"]
    assert node["image"]["backing-image"]["filename"] == "/base"


@pytest.mark.parametrize(
    ("perf", "text"),
    [
        ({"max-workers": 0}, "max-workers must be between 1 and 2147483647"),
        ({"max-chunk": -1}, "max-chunk must be zero (which means no limit) or positive"),
        (
            {"max-chunk": 4096},
            "Required max-chunk (4096) is less than backup cluster size (65536)",
        ),
        (
            {"min-cluster-size": 4097},
            "Could not create node: Cannot create block-copy-state: min-cluster-size needs to be"
            " a power of 2",
        ),
        (
            {"min-cluster-size": 1 << 63},
            "min-cluster-size too large: 9223372036854775808 > 9223372036854775807",
        ),
        (
            {"min-cluster-size": 131072, "max-chunk": 65536},
            "Required max-chunk (65536) is less than backup cluster size (131072)",
        ),
    ],
)
def test_how_a_backup_is_to_copy_is_checked(machine, files, perf, text):
    pair(machine, files, "target")
    with pytest.raises(QapiError) as raised:
        start(machine, "backup", x_perf=perf)
    assert raised.value.desc == text
    assert machine.ask("query-jobs") == []
