"""Jobs: their states, what they do to the graph and the images, how they end."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from fakeqemu.clock import SECOND
from fakeqemu.model.block.files import MemoryFiles
from fakeqemu.model.block.jobs.states import TRANSITIONS, VERBS, JobState
from fakeqemu.qapi.errors import QapiError

MB = 1 << 20
DONE = ["waiting", "pending", "concluded", "null"]


def image(machine: Any, name: str, size: int = MB, **more: Any) -> None:
    """A qcow2 image in a file of that name, as nodes NAME-file and NAME."""
    machine.image(name, size, **more)


def contents(machine: Any, name: str, offset: int, count: int) -> bytes:
    node = machine.vm.block.graph.lookup(name, name)
    return node.driver.read(node, offset, count)


# -- the table -----------------------------------------------------------------------------------


def test_states_and_verbs_are_those_of_the_schema(machine: Any) -> None:
    assert set(TRANSITIONS) == set(machine.profile.schema.enum_values("JobStatus"))
    for states in (*TRANSITIONS.values(), *VERBS.values()):
        assert states <= set(TRANSITIONS)


def test_no_state_is_skipped() -> None:
    told: list[str] = []
    state = JobState(told.append)
    state.enter("created")
    with pytest.raises(RuntimeError, match="job state ready after created"):
        state.enter("ready")
    with pytest.raises(QapiError, match="Job 'j' in state 'created' cannot accept command verb"):
        state.check("dismiss", "j")
    assert told == ["created"]


# -- life ----------------------------------------------------------------------------------------


def test_a_job_by_itself(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    machine.add("null-co", "b", size=MB)
    machine.ask("blockdev-backup", job_id="k", device="a", target="b", sync="full")
    assert machine.statuses() == ["created", "running", "paused", "running", *DONE]
    assert machine.ask("query-jobs") == []
    assert machine.node_names() == {"a", "b"}


def test_finalize_and_dismiss_by_hand(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    machine.add("null-co", "b", size=MB)
    machine.ask(
        "blockdev-backup", job_id="k", device="a", target="b", sync="full",
        auto_finalize=False, auto_dismiss=False,
    )  # fmt: skip
    assert machine.statuses()[-1] == "pending"
    machine.ask("job-finalize", id="k")
    assert machine.statuses() == ["concluded"]
    text = machine.desc("job-finalize", id="k")
    assert text == "Job 'k' in state 'concluded' cannot accept command verb 'finalize'"
    machine.ask("job-dismiss", id="k")
    assert machine.desc("job-dismiss", id="k") == "Job not found"


def test_the_end_of_the_machine_ends_jobs_that_wait_to_be_dismissed(machine: Any) -> None:
    for name in ("a", "b"):
        machine.add("null-co", name, size=MB)
    for job in ("k", "l"):
        machine.ask(
            "blockdev-backup", job_id=job, device="a", target="b", sync="full", auto_dismiss=False
        )
    assert machine.statuses()[-1] == "concluded"
    machine.ask("quit")
    ended = [data for name, data in machine.events if name == "JOB_STATUS_CHANGE"][-2:]
    assert ended == [{"id": "l", "status": "null"}, {"id": "k", "status": "null"}]


def test_a_job_that_nobody_dismisses_keeps_little(machine: Any) -> None:
    """Whoever looks for garbage looks at each object: a client may leave thousands of jobs."""

    def create(count: int) -> None:
        options = {"driver": "file", "filename": "a", "size": 0}
        for number in range(count):
            machine.ask("blockdev-create", job_id=f"j{number + count}", options=options)

    create(1)
    machine.vm.journal.keep_last(0)
    machine.events.clear()
    gc.collect()
    before = len(gc.get_objects())
    create(100)
    machine.events.clear()
    gc.collect()
    assert (len(gc.get_objects()) - before) / 100 < 6
    assert machine.vm.block.jobs.find("j150").state.current == "concluded"


def test_jobs_are_listed_newest_first_and_found_by_name(machine: Any) -> None:
    options = {"driver": "file", "filename": "a", "size": 0}
    for name in ("a", "b", "c"):
        machine.ask("blockdev-create", job_id=name, options=options)
    machine.ask("job-dismiss", id="b")
    assert [job["id"] for job in machine.ask("query-jobs")] == ["c", "a"]
    assert machine.desc("job-dismiss", id="b") == "Job not found"
    machine.ask("blockdev-create", job_id="b", options=options)
    text = machine.desc("blockdev-create", job_id="b", options=options)
    assert text == "Job ID 'b' already in use"


def test_a_job_without_nodes_does_not_stand_still(machine: Any) -> None:
    image(machine, "src")
    machine.ask("cont")
    machine.ask("snapshot-save", job_id="s", tag="t", vmstate="src", devices=["src"])
    others = [name for name, _ in machine.events if name != "JOB_STATUS_CHANGE"]
    assert others == ["RESUME", "STOP", "RESUME"]
    assert machine.statuses() == ["created", "running", "waiting", "pending", "concluded"]


def test_speed_takes_time(machine: Any) -> None:
    machine.add("null-co", "a", size=2 * MB)
    machine.add("null-co", "b", size=2 * MB)
    machine.ask(
        "blockdev-backup", job_id="k", device="a", target="b", sync="full", speed=MB // 4,
        work=False,
    )  # fmt: skip
    machine.clock.advance(2 * SECOND)
    assert machine.ask("query-block-jobs", work=False)[0]["status"] == "running"
    machine.clock.advance(3 * SECOND)
    assert machine.ask("query-block-jobs") == []


def test_a_paused_job_stands_still(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    machine.add("null-co", "b", size=MB)
    machine.ask("blockdev-mirror", job_id="m", device="a", target="b", sync="full")
    machine.statuses()
    machine.ask("job-pause", id="m")
    assert machine.desc("job-pause", id="m") == "Job is already paused"
    assert machine.statuses() == ["standby"]
    machine.ask("job-complete", id="m")
    assert machine.statuses() == []
    machine.ask("job-resume", id="m")
    assert machine.statuses() == ["ready", *DONE]


def test_a_tester_makes_it_fail(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    machine.add("null-co", "b", size=MB)
    machine.ask(
        "blockdev-mirror", job_id="m", device="a", target="b", sync="full", auto_dismiss=False
    )
    machine.statuses()
    jobs = machine.vm.block.jobs
    jobs.fault = lambda job, *, over: "" if over else "Input/output error"
    jobs.get("m").kick()
    machine.clock.run_until_idle()
    assert machine.statuses() == ["aborting", "concluded"]
    assert machine.ask("query-jobs")[0]["error"] == "Input/output error"
    assert machine.node_names() == {"a", "b"}


# -- kinds ---------------------------------------------------------------------------------------


def test_mirror_copies_and_switches_over(machine: Any) -> None:
    image(machine, "src")
    image(machine, "dst", discard="unmap")
    machine.vm.block.write("src", 70000, b"hello")
    machine.ask("blockdev-mirror", job_id="m", device="src", target="dst", sync="full")
    assert machine.statuses() == ["created", "running", "ready"]
    assert contents(machine, "dst", 70000, 5) == b"hello"
    assert machine.desc("blockdev-del", node_name="dst") == "Node dst is in use"
    machine.ask("block-job-cancel", device="m")
    assert machine.statuses() == DONE
    machine.ask("blockdev-del", node_name="dst")


def test_mirror_gives_the_device_its_target(start: Any) -> None:
    machine = start(
        "-blockdev", "driver=null-co,node-name=a,size=1048576",
        "-device", "virtio-blk-pci,id=d,drive=a",
    )  # fmt: skip
    machine.add("null-co", "b", size=MB)
    machine.ask("blockdev-mirror", job_id="m", device="a", target="b", sync="full")
    machine.ask("job-complete", id="m")
    assert machine.ask("query-block")[0]["inserted"]["node-name"] == "b"
    machine.ask("blockdev-del", node_name="a")


@pytest.fixture
def chain(start: Any, files: MemoryFiles) -> Any:
    """A machine whose disk has three overlays on a raw image, each with something written."""
    files.put("/base.raw", size=MB)
    machine = start(
        "-blockdev", "driver=file,node-name=base-file,filename=/base.raw",
        "-blockdev", "driver=raw,node-name=base,file=base-file",
        "-device", "virtio-blk-pci,id=d,drive=base",
    )  # fmt: skip
    for below, name in (("base", "o1"), ("o1", "o2"), ("o2", "o3")):
        machine.ask(
            "blockdev-snapshot-sync", node_name=below, snapshot_node_name=name,
            snapshot_file=f"/{name}.qcow2",
        )  # fmt: skip
        machine.vm.block.write(name, 0, name.encode())
    machine.events.clear()
    return machine


def test_intermediate_commit_rewrites_the_link(chain: Any) -> None:
    machine = chain
    machine.ask("block-commit", job_id="c", device="o3", top_node="o2", base_node="o1")
    assert machine.statuses() == ["created", "running", *DONE]
    assert machine.node("o3")["backing_file"] == "/o1.qcow2"
    assert machine.node("o3")["image"]["backing-filename"] == "/o1.qcow2"
    assert contents(machine, "o1", 0, 2) == b"o2"
    assert "o2" not in machine.node_names()


def test_active_commit_waits_to_be_told(chain: Any) -> None:
    machine = chain
    machine.ask("block-commit", job_id="c", device="o3")
    assert machine.statuses() == ["created", "running", "ready"]
    assert machine.node("base")["ro"] is False
    machine.ask("job-complete", id="c")
    assert contents(machine, "base", 0, 2) == b"o3"
    assert machine.statuses() == DONE


def test_stream_makes_the_image_stand_alone(chain: Any) -> None:
    machine = chain
    machine.ask("block-stream", job_id="s", device="o3")
    assert machine.statuses() == ["created", "running", *DONE]
    assert "backing_file" not in machine.node("o3")
    assert contents(machine, "o3", 0, 2) == b"o3"
    assert machine.node_names() == {"o3", "base", "base-file"}


def test_incremental_backup_clears_its_bitmap(machine: Any) -> None:
    image(machine, "src")
    image(machine, "dst")
    machine.ask("block-dirty-bitmap-add", node="src", name="b")
    machine.vm.block.write("src", 300000, b"new")
    assert machine.node("src")["dirty-bitmaps"][0]["count"] == 65536
    machine.ask(
        "blockdev-backup", job_id="k", device="src", target="dst", sync="incremental", bitmap="b"
    )
    completed = next(d for n, d in machine.events if n == "BLOCK_JOB_COMPLETED")
    assert completed["len"] == 65536
    assert machine.node("src")["dirty-bitmaps"][0]["count"] == 0
    assert contents(machine, "dst", 300000, 3) == b"new"


def test_persistent_bitmaps_survive(machine: Any) -> None:
    image(machine, "src")
    machine.ask("block-dirty-bitmap-add", node="src", name="b", persistent=True)
    machine.vm.block.write("src", 0, b"x")
    machine.ask("blockdev-del", node_name="src")
    machine.add("qcow2", "src", file="src-file")
    (bitmap,) = machine.node("src")["dirty-bitmaps"]
    assert (bitmap["name"], bitmap["count"], bitmap["persistent"]) == ("b", 65536, True)


def test_stored_bitmaps_are_shown_as_the_image_has_them(machine: Any) -> None:
    image(machine, "src")

    def stored() -> list[tuple[str, list[str]]]:
        [node] = [n for n in machine.ask("query-named-block-nodes") if n["node-name"] == "src"]
        data = node["image"]["format-specific"]["data"]
        return [(each["name"], each["flags"]) for each in data.get("bitmaps", [])]

    for name, disabled in (("a", False), ("b", True)):
        machine.ask(
            "block-dirty-bitmap-add", node="src", name=name, persistent=True, disabled=disabled
        )
    assert stored() == []
    options = {"driver": "qcow2", "node-name": "src", "file": "src-file"}
    machine.ask("blockdev-del", node_name="src")
    machine.ask("blockdev-add", **options, **{"read-only": True})
    # as QEMU stores them: the newest first
    assert stored() == [("b", []), ("a", ["auto"])]
    machine.ask("blockdev-del", node_name="src")
    machine.ask("blockdev-add", **options)
    machine.ask("block-dirty-bitmap-disable", node="src", name="a")
    assert stored() == [("b", ["in-use"]), ("a", ["in-use", "auto"])]
    machine.ask("block-dirty-bitmap-remove", node="src", name="b")
    assert stored() == [("a", ["in-use", "auto"])]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"target": "a"}, "Can't mirror node into itself"),
        ({"target": "ro"}, "Block node is read-only"),
        ({"target": "zz"}, "Cannot find device='zz' nor node-name='zz'"),
        ({"granularity": 5}, "Parameter 'granularity' expects a value in range [512B, 64MB]"),
        ({"granularity": 1536}, "Parameter 'granularity' expects a power of 2"),
        ({"job-id": "9"}, "Invalid job ID '9'"),
        ({"speed": -1}, "Parameter 'speed' expects a non-negative value"),
        ({"replaces": "zz"}, "Failed to find node with node-name='zz'"),
        ({"sync": "incremental"}, "Sync mode 'incremental' not supported"),
    ],
)
def test_mirrors_that_cannot_start(
    machine: Any, arguments: dict[str, Any], text: str
) -> None:
    machine.add("null-co", "a", size=MB)
    machine.add("null-co", "b", size=MB)
    machine.add("null-co", "ro", size=MB, read_only=True)
    given = {"job-id": "m", "device": "a", "target": "b", "sync": "full", **arguments}
    assert machine.desc("blockdev-mirror", **given) == text
    assert machine.ask("query-jobs") == []
    assert machine.node_names() == {"a", "b", "ro"}


# -- transactions --------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(machine: Any) -> None:
    machine.add("null-co", "a", size=MB)
    add = {"type": "block-dirty-bitmap-add", "data": {"node": "a", "name": "b"}}
    text = machine.desc("transaction", actions=[add, {"type": "abort", "data": {}}])
    assert text == "Transaction aborted using Abort action"
    assert "dirty-bitmaps" not in machine.node("a")
    machine.ask("transaction", actions=[add])
    assert machine.node("a")["dirty-bitmaps"][0]["name"] == "b"


def test_grouped_jobs_end_together(machine: Any) -> None:
    for name in "abcd":
        machine.add("null-co", name, size=2 * MB)
    actions = [
        {"type": "blockdev-backup",
         "data": {"job-id": f"j{s}", "device": s, "target": t, "sync": "full", "speed": speed}}
        for s, t, speed in (("a", "b", 0), ("c", "d", MB // 4))
    ]  # fmt: skip
    machine.ask("transaction", actions=actions, properties={"completion-mode": "grouped"},
                work=False)  # fmt: skip
    machine.clock.advance(SECOND)
    states = {j["id"]: j["status"] for j in machine.ask("query-jobs", work=False)}
    assert states == {"ja": "waiting", "jc": "running"}
    machine.ask("job-cancel", id="jc")
    ends = [n for n, _ in machine.events if n.startswith("BLOCK_JOB_C")]
    assert ends == ["BLOCK_JOB_CANCELLED", "BLOCK_JOB_CANCELLED"]
    assert machine.node_names() == set("abcd")


# -- snapshots -----------------------------------------------------------------------------------


def test_internal_snapshots(machine: Any) -> None:
    image(machine, "q")
    machine.ask("blockdev-snapshot-internal-sync", device="q", name="s")
    text = machine.desc("blockdev-snapshot-internal-sync", device="q", name="s")
    assert text == "Snapshot with name 's' already exists on device 'q'"
    assert machine.node("q")["image"]["snapshots"][0]["name"] == "s"
    gone = machine.ask("blockdev-snapshot-delete-internal-sync", device="q", name="s")
    assert gone["id"] == "1"


def test_a_saved_machine_comes_back(machine: Any) -> None:
    image(machine, "q")
    memory = machine.vm.guest_memory
    machine.vm.block.write("q", 0, b"then")
    memory.store("pc.ram", 4090, b"two pages")
    assert machine.hmp("savevm x") == ""
    memory.store("pc.ram", 4090, b"other words")
    memory.store("pc.ram", 1 << 20, b"later")
    machine.vm.block.write("q", 0, b"now!")
    assert "x" in machine.hmp("info snapshots")
    assert machine.hmp("loadvm x") == ""
    assert contents(machine, "q", 0, 4) == b"then"
    assert memory.load("pc.ram", 4090, 11) == b"two pages" + bytes(2)
    assert sorted(memory.pages("pc.ram")) == [0, 1]
    text = machine.hmp("loadvm y")
    assert text == "Error: Snapshot 'y' does not exist in one or more devices\n"


def test_an_overlay_that_is_refused_leaves_the_graph(machine: Any) -> None:
    image(machine, "q")
    machine.add("null-co", "n", size=MB)
    text = machine.desc("blockdev-snapshot", node="q", overlay="n")
    assert text == "The overlay does not support backing images"
    image(machine, "o")
    abort = {"type": "abort", "data": {}}
    action = {"type": "blockdev-snapshot", "data": {"node": "q", "overlay": "o"}}
    machine.desc("transaction", actions=[action, abort])
    assert machine.node("q")["ro"] is False
    machine.ask("transaction", actions=[action])
    assert machine.node("q")["ro"] is True
    text = machine.desc("blockdev-del", node_name="q")
    assert text == "Node 'q' is busy: node is used as backing hd of 'o'"


# -- bugs of ours --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), MemoryError()])
def test_a_bug_in_a_step_fails_the_job_and_its_transaction_alone(
    machine: Any, monkeypatch: Any, bugs: list[Any], error: Exception
) -> None:
    for name in "abcdef":
        machine.add("null-co", name, size=2 * MB)
    machine.ask(
        "blockdev-backup", job_id="other", device="e", target="f", sync="full", speed=MB // 4,
        work=False,
    )  # fmt: skip
    machine.ask("transaction", work=False, properties={"completion-mode": "grouped"}, actions=[
        {"type": "blockdev-backup", "data": {
            "job-id": job, "device": source, "target": target, "sync": "full",
            "auto-dismiss": False, "speed": MB // 4,
        }}
        for job, source, target in (("j", "a", "b"), ("k", "c", "d"))
    ])  # fmt: skip
    job = machine.vm.block.jobs.find("j")

    def broken() -> Any:
        raise error
        yield

    job._work = broken()
    machine.clock.run_until_idle()
    jobs = {each["id"]: each for each in machine.ask("query-jobs")}
    assert jobs["j"]["error"] == "internal error of fakeqemu"
    assert (jobs["j"]["status"], jobs["k"]["status"]) == ("concluded", "concluded")
    assert jobs["k"]["error"] == "Operation canceled"
    completed = [data for name, data in machine.events if name == "BLOCK_JOB_COMPLETED"]
    assert [each["device"] for each in completed if "error" not in each] == ["other"]
    assert [bug.name for bug in bugs] == [type(error).__name__]
    bugs.clear()


def test_a_bug_while_a_job_ends_fails_it(machine: Any, monkeypatch: Any, bugs: list[Any]) -> None:
    machine.add("null-co", "a", size=2 * MB)
    machine.add("null-co", "b", size=2 * MB)
    machine.ask(
        "blockdev-backup", job_id="k", device="a", target="b", sync="full", speed=MB,
        auto_dismiss=False, work=False,
    )  # fmt: skip

    def broken() -> None:
        raise KeyError("x")

    monkeypatch.setattr(machine.vm.block.jobs.find("k"), "prepare", broken)
    machine.clock.run_until_idle()
    (job,) = machine.ask("query-jobs")
    assert (job["status"], job["error"]) == ("concluded", "internal error of fakeqemu")
    bugs.clear()


def test_a_commit_uses_the_node_it_was_asked_of(machine: Any) -> None:
    for name in ("base", "middle", "top"):
        machine.image(name)
    for name, below in (("middle", "base"), ("top", "middle")):
        machine.ask("blockdev-snapshot", node=below, overlay=name)
    machine.ask("block-commit", work=False, job_id="c", device="top", top_node="middle",
                base_node="base", speed=1)  # fmt: skip
    text = "Node 'top' is busy: block device is in use by block job: commit"
    assert machine.desc("blockdev-del", node_name="top") == text


def test_a_mirror_sends_no_more_than_its_buffer(machine: Any) -> None:
    for name in ("a", "b"):
        machine.add("null-co", name, size=1 << 20)
    machine.ask("blockdev-mirror", work=False, job_id="m", device="a", target="b", sync="full",
                speed=1 << 16, buf_size=1 << 16)  # fmt: skip
    assert machine.ask("query-block-jobs", work=False)[0]["offset"] <= 1 << 16


# -- targets and cancelled jobs --------------------------------------------------------------------


@pytest.mark.parametrize("command", ["drive-backup", "drive-mirror"])
def test_a_target_can_be_a_file_without_a_format(machine: Any, command: str) -> None:
    machine.image("a", MB)
    machine.ask(
        command, job_id="j", device="a", target="/t", format="file", sync="full",
        auto_finalize=False,
    )  # fmt: skip
    found = next(n for n in machine.ask("query-named-block-nodes") if n["file"] == "/t")
    assert (found["drv"], found["image"]["virtual-size"]) == ("file", MB)


def test_a_backup_finds_zeros_for_its_target(machine: Any, files: Any) -> None:
    files.put("/raw", bytes(2 * MB))
    machine.add("file", "a", filename="/raw")
    machine.ask(
        "drive-backup", job_id="j", device="a", target="/t", format="raw", sync="full",
        auto_finalize=False,
    )  # fmt: skip
    found = next(n for n in machine.ask("query-named-block-nodes") if n["file"] == "/t")
    assert (found["detect_zeroes"], found["image"]["actual-size"]) == ("unmap", 0)


def test_a_cancelled_mirror_ends_after_the_reply(machine: Any) -> None:
    """It waits for what it has sent; a backup need not."""
    for name in ("a", "b"):
        machine.image(name, 4 * MB)
    for command, states in (("blockdev-backup", ["aborting", "concluded", "null"]),
                            ("blockdev-mirror", [])):  # fmt: skip
        machine.hmp('qemu-io a "write 0 4M"')
        machine.ask(command, job_id="j", device="a", target="b", sync="full", speed=512, work=False)
        machine.clock.advance(MB)
        machine.statuses()
        machine.ask("block-job-cancel", device="j", force=True, work=False)
        assert machine.statuses() == states
        machine.clock.run_until_idle()
        assert machine.ask("query-jobs") == []


@pytest.mark.parametrize(("profile", "copied"), [("7.2", 2), ("10.0", 1)])
def test_a_job_that_is_woken_keeps_to_its_speed(start: Any, profile: str, copied: int) -> None:
    machine = start(profile=profile)
    for name in ("a", "b"):
        machine.image(name, 8 * MB)
    machine.hmp('qemu-io a "write 0 8M"')
    machine.ask("blockdev-snapshot", node="a", overlay="b")
    machine.ask("block-stream", device="b", job_id="j", speed=512, work=False)
    machine.clock.advance(MB)
    machine.statuses()
    machine.ask("stop", work=False)
    assert machine.statuses() == ["paused", "running"]
    machine.clock.advance(MB)
    (job,) = machine.ask("query-jobs", work=False)
    assert job["current-progress"] == copied * MB // 2


def test_jobs_stand_still_before_the_machine_cancels_them(machine: Any) -> None:
    for name in ("a", "b"):
        machine.image(name, 8 * MB)
    machine.hmp('qemu-io a "write 0 8M"')
    command = {"device": "a", "target": "b", "sync": "full", "speed": 512, "job_id": "j"}
    machine.ask("blockdev-backup", **command, work=False)
    machine.clock.advance(MB)
    machine.statuses()
    machine.ask("quit", work=False)
    pauses = ["paused", "running"] * 2
    assert machine.statuses() == [*pauses, "aborting", "concluded", "null"]


def test_a_mirror_whose_target_cannot_take_the_place_fails(machine: Any) -> None:
    for name in ("a", "b"):
        machine.image(name)
    machine.add("blkdebug", "b-user", image="b", unshare_child_perms=["consistent-read"])
    machine.ask("blockdev-mirror", device="a", target="b", sync="full", job_id="j")
    machine.add("blkdebug", "a-user", image="a", take_child_perms=["consistent-read"])
    machine.ask("job-complete", id="j")
    (ended,) = [data for name, data in machine.events if name == "BLOCK_JOB_COMPLETED"]
    assert ended["error"] == "Operation not permitted"
    assert machine.vm.block.graph.lookup("a-user", "a-user").children["image"].node.name == "a"
    assert machine.node_names() == {"a", "a-file", "a-user", "b", "b-file", "b-user"}


def test_a_mirror_replaces_its_source_for_all(machine: Any) -> None:
    for name in ("a", "b"):
        machine.image(name)
    machine.ask("blockdev-mirror", device="a", target="b", sync="full", job_id="j")
    machine.add("blkdebug", "user", image="a")
    machine.ask("job-complete", id="j")
    assert machine.vm.block.graph.lookup("user", "user").children["image"].node.name == "b"


def test_a_stream_does_not_go_through_another_jobs_filter(machine: Any) -> None:
    for name in ("a", "b", "c", "d"):
        machine.image(name, 8 * MB)
    machine.hmp('qemu-io b "write 0 8M"')
    for below, above in ("ab", "bc", "cd"):
        machine.ask("blockdev-snapshot", node=below, overlay=above)
    machine.ask(
        "block-commit", device="d", job_id="j", top_node="b", base_node="a", speed=512,
        filter_node_name="filter", work=False,
    )  # fmt: skip
    refused = machine.error("block-stream", device="c", job_id="k", base_node="b")[1]
    assert refused == "Cannot freeze 'backing' link to 'filter'"


def test_a_node_that_a_job_uses_is_no_root(machine: Any) -> None:
    for name in ("a", "b", "c"):
        machine.image(name, 8 * MB)
    machine.hmp('qemu-io b "write 0 8M"')
    for below, above in ("ab", "bc"):
        machine.ask("blockdev-snapshot", node=below, overlay=above)
    machine.ask("block-commit", device="c", job_id="j", top_node="b", speed=512, work=False)
    for command, arguments in (
        ("block-commit", {"job_id": "k"}),
        ("blockdev-mirror", {"job_id": "k", "target": "a", "sync": "full"}),
        ("blockdev-snapshot-internal-sync", {"name": "s"}),
    ):
        refused = machine.desc(command, device="c", **arguments)
        assert refused == "Need a root block node"


def test_an_image_that_is_not_below_is_not_found_by_the_header(machine: Any) -> None:
    for name in ("a", "b"):
        machine.image(name)
    snapshot = {"node-name": "a", "snapshot-file": "/o", "snapshot-node-name": "o"}
    machine.ask("blockdev-snapshot-sync", **snapshot)
    file = {"driver": "file", "filename": "/o"}
    machine.add("qcow2", "other", file=file, backing="b", read_only=True)
    text = machine.desc("block-commit", device="other", job_id="j", base="/a.qcow2")
    assert text == "Can't find '/a.qcow2' in the backing chain"


@pytest.mark.parametrize(("profile", "first"), [("7.2", "a"), ("10.0", "z"), ("11.1", "a")])
def test_nodes_before_the_last_device_s_are_in_a_snapshot(
    start: Any, profile: str, first: str
) -> None:
    machine = start("-device", "virtio-scsi-pci", profile=profile)
    machine.add("null-co", "a")
    image(machine, "q")
    machine.add("null-co", "z")
    machine.ask("device_add", driver="scsi-hd", drive="q", id="d")
    text = f"Error: Device '{first}' is writable but does not support snapshots\n"
    assert machine.hmp("savevm x") == text
