"""Filters do to data what they are for: copy on read, keep before a write, fail, compare."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fakeqemu.clock import SECOND
from fakeqemu.formats.extents import DATA, HOLE
from fakeqemu.formats.qcow2.tables import COMPRESSED, ZERO_FLAG
from fakeqemu.model.block.drivers import base
from fakeqemu.qapi.errors import AbortError, NotModelledError, QapiError

KB, MB = 1 << 10, 1 << 20


def node_of(machine: Any, name: str) -> Any:
    return machine.vm.block.graph.lookup(name, name)


def read(machine: Any, name: str, offset: int, count: int) -> bytes:
    return base.read(node_of(machine, name), offset, count)


def write(machine: Any, name: str, pattern: int, offset: int, count: int) -> None:
    base.write(node_of(machine, name), offset, bytes([pattern]) * count)


def allocated(machine: Any, name: str) -> list[tuple[int, int]]:
    """Offset and length of what an image has itself."""
    node = node_of(machine, name)
    return [
        (piece.offset, piece.length)
        for piece in base.status(node, 0, base.length(node))
        if piece.kind != HOLE
    ]


def chain(machine: Any) -> None:
    """`top` over `mid` over `low`: low has the first 256 KiB, mid the fifth 64 KiB."""
    for name in ("low", "mid", "top"):
        machine.image(name, MB)
    write(machine, "low", 1, 0, 256 * KB)
    write(machine, "mid", 2, 256 * KB, 64 * KB)
    machine.ask("blockdev-snapshot", node="low", overlay="mid")
    machine.ask("blockdev-snapshot", node="mid", overlay="top")


# -- copy on read ----------------------------------------------------------------------------------


def test_what_is_read_comes_into_the_image(machine: Any) -> None:
    chain(machine)
    machine.add("copy-on-read", "cor", file="top")
    machine.ask("block-dirty-bitmap-add", node="top", name="b")
    assert read(machine, "cor", 70 * KB, 10) == b"\1" * 10
    assert allocated(machine, "top") == [(64 * KB, 64 * KB)]
    assert machine.node("top")["dirty-bitmaps"][0]["count"] == 0
    assert read(machine, "cor", 0, MB) == b"\1" * 256 * KB + b"\2" * 64 * KB + bytes(704 * KB)
    assert sum(length for _, length in allocated(machine, "top")) == MB


def test_copying_ends_at_the_bottom(machine: Any) -> None:
    chain(machine)
    machine.add("copy-on-read", "cor", file="top", bottom="mid")
    assert read(machine, "cor", 192 * KB, 128 * KB) == b"\1" * 64 * KB + b"\2" * 64 * KB
    assert allocated(machine, "top") == [(256 * KB, 64 * KB)]


def test_a_filter_below_a_raw_node_is_passed(machine: Any) -> None:
    chain(machine)
    machine.add("raw", "between", file="top")
    machine.add("copy-on-read", "cor", file="between")
    assert read(machine, "cor", 0, 1) == b"\1"
    assert allocated(machine, "top") == [(0, 64 * KB)]


def test_a_drive_with_copy_on_read(start: Any, machine: Any) -> None:
    chain(machine)
    machine.vm.block.close()
    started = start(
        "-blockdev", "driver=qcow2,node-name=low,file.driver=file,file.filename=/low.qcow2",
        "-drive", "if=none,id=d,file=/top.qcow2,format=qcow2,copy-on-read=on,backing=low",
    )  # fmt: skip
    backend = started.vm.block.backends.named["d"]
    assert backend.read(0, 10) == b"\1" * 10
    assert next(base.status(backend.node, 0, 64 * KB)).kind == DATA


# -- copy before write -----------------------------------------------------------------------------


def fleecing(machine: Any, **options: Any) -> None:
    """`acc` shows what `a` was when this was called; writes go through `cbw`."""
    machine.image("kept", MB)
    machine.add("copy-before-write", "cbw", file="a", target="kept", **options)
    machine.add("snapshot-access", "acc", file="cbw")


def test_a_snapshot_shows_what_was_there(machine: Any) -> None:
    machine.image("a", MB)
    write(machine, "a", 1, 0, 64 * KB)
    fleecing(machine)
    write(machine, "cbw", 2, 4 * KB, 4)
    assert read(machine, "acc", 0, 128 * KB) == b"\1" * 64 * KB + bytes(64 * KB)
    assert read(machine, "cbw", 4 * KB, 4) == b"\2" * 4
    assert allocated(machine, "kept") == [(0, 64 * KB)]


def test_only_what_a_bitmap_calls_dirty_is_kept(machine: Any) -> None:
    machine.image("a", MB)
    machine.ask("block-dirty-bitmap-add", node="a", name="b")
    write(machine, "a", 1, 128 * KB, 4)
    fleecing(machine, bitmap={"node": "a", "name": "b"})
    write(machine, "cbw", 2, 0, 4)
    write(machine, "cbw", 2, 128 * KB, 4)
    assert allocated(machine, "kept") == [(128 * KB, 64 * KB)]
    assert read(machine, "acc", 128 * KB, 4) == b"\1" * 4
    with pytest.raises(QapiError, match="Permission denied"):
        read(machine, "acc", 0, 4)


def test_what_the_reader_drops_is_kept_no_more(machine: Any) -> None:
    machine.image("a", MB)
    machine.image("kept", MB)
    machine.add("copy-before-write", "cbw", file="a", target="kept")
    machine.add("snapshot-access", "acc", file="cbw", discard="unmap")
    base.discard(node_of(machine, "acc"), 0, 128 * KB)
    write(machine, "cbw", 2, 64 * KB, 4)
    write(machine, "cbw", 2, 128 * KB, 4)
    assert allocated(machine, "kept") == [(128 * KB, 64 * KB)]
    with pytest.raises(QapiError, match="Permission denied"):
        read(machine, "acc", 64 * KB, 4)


def test_a_backup_has_its_source_forget_what_was_copied(machine: Any) -> None:
    machine.image("a", MB)
    write(machine, "a", 1, 0, 128 * KB)
    machine.image("kept", MB)
    machine.add("copy-before-write", "cbw", file="a", target="kept")
    machine.add("snapshot-access", "acc", file="cbw", discard="unmap")
    machine.image("t", MB)
    write(machine, "cbw", 2, 0, 4)
    machine.ask("blockdev-backup", job_id="j", device="acc", target="t", sync="full",
                discard_source=True)  # fmt: skip
    assert read(machine, "t", 0, 128 * KB) == b"\1" * 128 * KB
    with pytest.raises(QapiError, match="Permission denied"):
        read(machine, "acc", 0, 4)
    before = allocated(machine, "kept")
    write(machine, "cbw", 2, 64 * KB, 4)
    assert allocated(machine, "kept") == before


@pytest.mark.parametrize("policy", ["break-guest-write", "break-snapshot"])
def test_keeping_that_takes_too_long_has_gone_wrong(machine: Any, policy: str) -> None:
    machine.image("a", MB)
    machine.image("slow", MB)
    machine.ask("object-add", qom_type="throttle-group", id="g",
                limits={"bps-write": 300 * KB})  # fmt: skip
    machine.add("throttle", "t", throttle_group="g", file="slow")
    machine.add("copy-before-write", "cbw", file="a", target="t", on_cbw_error=policy,
                cbw_timeout=1)  # fmt: skip
    machine.add("snapshot-access", "acc", file="cbw")
    write(machine, "cbw", 2, 0, 512 * KB)
    if policy == "break-snapshot":
        write(machine, "cbw", 2, 512 * KB, 512 * KB)
        with pytest.raises(QapiError, match="Permission denied"):
            read(machine, "acc", 0, 4)
    else:
        with pytest.raises(QapiError, match="Connection timed out"):
            write(machine, "cbw", 2, 512 * KB, 512 * KB)
        assert read(machine, "acc", 0, MB) == bytes(MB)
        machine.clock.advance(3 * SECOND)
        write(machine, "cbw", 2, 512 * KB, 512 * KB)


@pytest.mark.parametrize("policy", ["break-guest-write", "break-snapshot"])
def test_who_suffers_when_keeping_goes_wrong(machine: Any, policy: str) -> None:
    machine.image("a", MB)
    write(machine, "a", 1, 0, 4)
    rule = {"event": "none", "iotype": "write", "errno": 28}
    machine.add("blkdebug", "bad", image={"driver": "null-co", "size": MB}, inject_error=[rule])
    machine.add("copy-before-write", "cbw", file="a", target="bad", on_cbw_error=policy)
    machine.add("snapshot-access", "acc", file="cbw")
    assert read(machine, "acc", 0, 4) == b"\1" * 4
    if policy == "break-snapshot":
        write(machine, "cbw", 2, 0, 4)
        assert read(machine, "cbw", 0, 4) == b"\2" * 4
        with pytest.raises(QapiError, match="Permission denied"):
            read(machine, "acc", 64 * KB, 4)
    else:
        with pytest.raises(QapiError, match="No space left on device"):
            write(machine, "cbw", 2, 0, 4)
        assert read(machine, "cbw", 0, 4) == b"\1" * 4


def test_units_are_as_large_as_asked_for(machine: Any) -> None:
    machine.image("a", MB)
    text = machine.refusal_of_add(
        "copy-before-write", "x", file="a", target={"driver": "null-co"}, min_cluster_size=100000
    )
    assert text == "Cannot create block-copy-state: min-cluster-size needs to be a power of 2"
    fleecing(machine, min_cluster_size=256 * KB)
    write(machine, "a", 1, 0, MB)
    write(machine, "cbw", 2, 0, 4)
    assert allocated(machine, "kept") == [(0, 256 * KB)]


def test_a_filter_above_the_base_has_the_bases_data(start: Any) -> None:
    """A commit copies nothing that the base has itself, seen through a filter on it."""
    machine = start("-object", "throttle-group,id=g,x-bps-read=4096")
    for name in ("low", "mid", "top"):
        machine.image(name, MB)
    write(machine, "low", 1, 0, 256 * KB)
    machine.add("throttle", "slow", file="low", throttle_group="g")
    machine.ask("blockdev-snapshot", node="slow", overlay="mid")
    machine.ask("blockdev-snapshot", node="mid", overlay="top")
    before = machine.clock.now()
    machine.ask("block-commit", device="top", job_id="j", top_node="mid")
    assert machine.statuses()[-1] == "null"
    assert machine.clock.now() - before < SECOND


# -- blkdebug --------------------------------------------------------------------------------------


def test_rules_follow_events_and_states(machine: Any) -> None:
    machine.image("a", MB)
    machine.add(
        "blkdebug", "bad", image="a",
        inject_error=[
            {"event": "none", "iotype": "read", "sector": 16, "once": True},
            {"event": "pwritev", "state": 2, "errno": 28},
        ],
        set_state=[{"event": "pwritev_done", "state": 1, "new_state": 2}],
    )  # fmt: skip
    with pytest.raises(QapiError, match="Input/output error"):
        read(machine, "bad", 8 * KB, 512)
    assert read(machine, "bad", 8 * KB, 512) == bytes(512)
    write(machine, "bad", 1, 0, 4)
    with pytest.raises(QapiError, match="No space left on device"):
        write(machine, "bad", 1, 0, 4)


def test_an_image_above_tells_what_it_does(machine: Any) -> None:
    config = b'# what\n[inject-error]\nevent = "write_aio"\nerrno = "28"\nonce = "on"\n'
    machine.vm.host.files.put("/cfg", config)
    machine.image("a", MB)
    machine.ask("blockdev-del", node_name="a")
    file = {"driver": "blkdebug", "config": "/cfg", "image": "a-file"}
    machine.add("qcow2", "q", file=file, backing=None)
    with pytest.raises(QapiError, match="No space left on device"):
        write(machine, "q", 1, 0, 4)
    write(machine, "q", 1, 0, 4)
    assert read(machine, "q", 0, 4) == b"\1" * 4


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("[inject-error]\nfoo", "Invalid parameter 'foo'"),
        ("[foo]", "There is no option group 'foo'"),
        ('[inject-error]\nerrno = "5"', "Missing event name for rule"),
        ('[inject-error]\nevent = "blah"', "invalid parameter value: blah"),
    ],
)
def test_files_of_rules_that_are_wrong(machine: Any, config: str, text: str) -> None:
    machine.vm.host.files.put("/cfg", config.encode())
    machine.add("null-co", "n")
    with pytest.raises(QapiError) as raised:
        machine.add("blkdebug", "d", config="/cfg", image="n")
    assert raised.value.desc == text


def test_a_file_of_rules_that_is_not_there(start: Any) -> None:
    reason = "No such file or directory"
    for profile, text in (
        ("10.0", f"Could not read blkdebug config file: {reason}"),
        ("11.1", f"Could not open '/none': {reason}"),
    ):
        machine = start("-blockdev", "driver=null-co,node-name=n", profile=profile)
        assert machine.refusal_of_add("blkdebug", "d", config="/none", image="n") == text


def test_events_that_never_come_about_are_refused(machine: Any) -> None:
    machine.add("null-co", "n")
    with pytest.raises(NotModelledError, match="blkdebug event l2_update"):
        machine.add("blkdebug", "d", image="n", inject_error=[{"event": "l2_update"}])


@pytest.mark.parametrize("event", ["l2_load", "cow_write", "cluster_alloc"])
def test_errors_begin_where_tables_are_read_or_written(machine: Any, event: str) -> None:
    machine.image("a", MB)
    write(machine, "a", 1, 128 * KB, 4)
    machine.ask("blockdev-del", node_name="a")
    machine.ask("blockdev-del", node_name="a-file")
    rule = {"event": event, "errno": 28}
    file = {"driver": "file", "filename": "/a.qcow2"}
    machine.add("qcow2", "a", file={"driver": "blkdebug", "image": file, "inject-error": [rule]})
    with pytest.raises(QapiError, match="No space left on device"):
        write(machine, "a", 2, 10, 4)


def test_limits_of_blkdebug(machine: Any) -> None:
    machine.add("null-co", "n")
    for name in ("max_transfer", "opt_write_zero", "max_discard"):
        with pytest.raises(QapiError, match="Cannot meet constraints"):
            machine.add("blkdebug", "d", image="n", align=512, **{name: 1000})
    machine.add("blkdebug", "d", image="n", align=4096, max_transfer=8192)
    limits = node_of(machine, "d").driver.limits(node_of(machine, "d"))
    assert (limits["request-alignment"], limits["max-transfer"]) == (4096, 8192)


def test_permissions_of_blkdebug(machine: Any) -> None:
    machine.add("null-co", "n")
    machine.add("blkdebug", "d", image="n", unshare_child_perms=["write"])
    with pytest.raises(QapiError, match="write"):
        machine.add("blkdebug", "e", image="n", take_child_perms=["write"])


def test_a_file_name_with_blkdebug(start: Any, machine: Any) -> None:
    machine.image("a", MB)
    machine.vm.block.close()
    started = start("-drive", "if=none,id=d,file=blkdebug::/a.qcow2,format=qcow2")
    assert started.ask("query-block")[0]["inserted"]["file"] == "blkdebug::/a.qcow2"


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        {"driver": "throttle", "throttle-group": "g", "file": "null"},
        {"driver": "null-co", "size": 8 * MB, "latency-ns": SECOND},
    ],
)
def test_a_job_waits_for_slow_nodes(start: Any, target: dict[str, Any]) -> None:
    machine = start("-object", f"throttle-group,id=g,x-bps-write={MB}")
    machine.image("a", 8 * MB)
    write(machine, "a", 1, 0, 4 * MB)
    machine.add("null-co", "null", size=8 * MB)
    options = {name: value for name, value in target.items() if name != "driver"}
    machine.add(target["driver"], "t", **options)
    machine.ask(
        "blockdev-mirror", job_id="j", device="a", target="t", sync="top", work=False
    )
    machine.clock.advance(2 * SECOND)
    (job,) = machine.ask("query-jobs", work=False)
    assert 0 < job["current-progress"] < 4 * MB
    machine.clock.advance(10 * SECOND)
    (job,) = machine.ask("query-jobs", work=False)
    assert job["status"] == "ready"


# -- blkverify -------------------------------------------------------------------------------------


def test_images_that_differ_end_the_process(machine: Any) -> None:
    for name in ("a", "b"):
        machine.image(name, MB)
    machine.add("blkverify", "v", raw="a", test="b")
    write(machine, "v", 1, 100, 4)
    assert read(machine, "a", 100, 4) == read(machine, "b", 100, 4) == b"\1" * 4
    assert read(machine, "v", 98, 8) == b"\0\0\1\1\1\1\0\0"
    base.write(node_of(machine, "a"), 102, b"x")
    with pytest.raises(AbortError) as left:
        read(machine, "v", 96, 16)
    assert left.value.status == 1
    said = machine.vm.host.warnings[-1]
    assert said == "blkverify: read offset=96 bytes=16 contents mismatch at offset 102"


@pytest.mark.parametrize("top", ["over", "mid"])
def test_commit_into_an_image_under_a_throttle_filter(machine: Any, top: str) -> None:
    machine.ask("object-add", qom_type="throttle-group", id="tg")
    for name in ("base", "mid", "over"):
        machine.image(name)
        machine.ask("blockdev-del", node_name=name)
    machine.add("qcow2", "base", file="base-file", read_only=True)
    machine.add("throttle", "slow", file="base", throttle_group="tg", read_only=True)
    machine.add("qcow2", "mid", file="mid-file", backing="slow")
    machine.add("qcow2", "over", file="over-file", backing="mid")
    machine.ask("block-commit", device="over", top_node=top, job_id="j")
    if top == "over":
        machine.ask("job-complete", id="j")
    assert ("BLOCK_JOB_COMPLETED", "commit") in [
        (name, data.get("type")) for name, data in machine.events
    ]
    assert [data["error"] for _name, data in machine.events if "error" in data] == []


# -- preallocate -----------------------------------------------------------------------------------


def preallocating(machine: Any, **options: Any) -> None:
    """`a` over `f`, which keeps /a.qcow2 longer than it has to be."""
    machine.image("a", MB)
    machine.ask("blockdev-del", node_name="a")
    machine.add("preallocate", "f", file="a-file", **options)
    machine.add("qcow2", "a", file="f")


def size_of(machine: Any) -> int:
    size: int = machine.vm.host.files.open("/a.qcow2", writable=False).size()
    return size


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, 129 * MB), ({"prealloc_size": 20 * MB, "prealloc_align": 5 * MB}, 25 * MB)],
)
def test_a_file_grows_ahead_of_writes(machine: Any, options: dict[str, int], size: int) -> None:
    preallocating(machine, **options)
    write(machine, "a", 1, 0, 64 * KB)
    assert size_of(machine) == size
    assert base.length(node_of(machine, "f")) < MB
    machine.ask("blockdev-del", node_name="a")
    machine.ask("blockdev-del", node_name="f")
    assert size_of(machine) < MB
    machine.add("qcow2", "a", file="a-file")
    assert read(machine, "a", 0, 64 * KB) == b"\1" * 64 * KB


def test_a_file_that_is_written_no_more_loses_what_was_ahead(machine: Any) -> None:
    machine.image("a", MB)
    for name in ("a", "a-file"):
        machine.ask("blockdev-del", node_name=name)
    file = {"driver": "file", "filename": "/a.qcow2"}
    options = {"driver": "qcow2", "node-name": "a",
               "file": {"driver": "preallocate", "file": file}}  # fmt: skip
    machine.ask("blockdev-add", **options)
    write(machine, "a", 1, 0, 64 * KB)
    assert size_of(machine) > 100 * MB
    machine.ask("blockdev-reopen", options=[{**options, "read-only": True}])
    assert size_of(machine) < MB
    machine.ask("blockdev-reopen", options=[{**options, "read-only": False}])
    write(machine, "a", 1, 512 * KB, 64 * KB)
    assert size_of(machine) > 100 * MB


def test_alignment_of_preallocation(machine: Any) -> None:
    machine.image("a", MB)
    text = machine.refusal_of_add("preallocate", "f", file="a-file", prealloc_align=1000)
    assert text == "prealloc-align parameter of preallocate filter is not aligned to 512"
    for name in ("prealloc-align", "prealloc-size"):
        text = machine.refusal_of_add("preallocate", "f", file="a-file", **{name: -512})
        assert text == f"Value '-512' is out of range for parameter '{name}'"


def test_an_alignment_of_nothing(machine: Any) -> None:
    preallocating(machine, prealloc_align=0, prealloc_size=MB)
    before = size_of(machine)
    write(machine, "a", 1, 0, 64 * KB)
    assert size_of(machine) > before + MB


def test_what_is_compressed_goes_into_clusters_that_were_zeroed(machine: Any) -> None:
    """An entry that says zeros and leads nowhere is no allocation."""
    machine.image("a")
    machine.add("compress", "c", file="a")
    image = node_of(machine, "a").driver.image
    write(machine, "a", 0xA0, 0, 64 * KB)
    node_of(machine, "a").driver.zero(node_of(machine, "a"), 0, 128 * KB)
    assert image.entry(64 * KB) == ZERO_FLAG
    write(machine, "c", 0xA1, 64 * KB, 64 * KB)
    assert image.entry(64 * KB) & COMPRESSED
    assert read(machine, "a", 64 * KB, 64 * KB) == b"\xa1" * 64 * KB
    write(machine, "a", 0xA2, 128 * KB, 64 * KB)
    with pytest.raises(QapiError, match="Input/output error"):
        write(machine, "c", 0xA3, 128 * KB, 64 * KB)


def test_what_does_not_get_smaller_is_written_over_what_is_there(machine: Any) -> None:
    machine.image("a")
    machine.add("compress", "c", file="a")
    write(machine, "a", 0xA0, 0, 64 * KB)
    noise = random.Random(1).randbytes(64 * KB)
    base.write(node_of(machine, "c"), 0, noise)
    assert read(machine, "a", 0, 64 * KB) == noise
