"""Two machines that migrate to each other: every path, in every version, on one clock."""

from __future__ import annotations

import pytest

from fakeqemu.clock import MILLISECOND, SECOND
from fakeqemu.model.block.operations.blockdev import blockdev_backup
from fakeqemu.model.guest.workload import Workload

VERSIONS = ("7.2", "10.0", "11.1")


class Pair:
    """A source and a destination that is waiting."""

    def __init__(self, make, clock, version, *names, machine="q35", **options) -> None:
        self.clock = clock
        self.dst = make(version, inmigrate=True, machine_type=machine, **options)
        self.src = make(version, machine_type=machine)
        for vm in (self.src, self.dst):
            vm.switch("events", *names)
        self.dst.command("migrate-incoming", uri="unix:/m")
        self.src.machine.lifecycle.cont()
        self.forget()

    def forget(self) -> None:
        self.src.events.clear()
        self.dst.events.clear()

    def migrate(self, seconds: float | None = None, **arguments) -> None:
        self.src.command("migrate", uri="unix:/m", **arguments)
        self.run(seconds)

    def run(self, seconds: float | None = None) -> None:
        if seconds is None:
            self.clock.run_until_idle()
        else:
            self.clock.advance(round(seconds * SECOND))

    @property
    def statuses(self) -> tuple:
        return (self.src.status, self.dst.status)

    @property
    def runstates(self) -> tuple:
        return (self.src.machine.runstate.current, self.dst.machine.runstate.current)


def told(vm) -> list:
    return [e[1] if e[0].startswith("MIGRATION") else e[0] for e in vm.events]


@pytest.fixture
def pair(make, clock):
    def pair(version: str = "11.1", *names: str, **options) -> Pair:
        return Pair(make, clock, version, *names, **options)

    return pair


# -- precopy -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "names",
    [(), ("return-path",), ("multifd",), ("xbzrle",), ("release-ram",), ("auto-converge",),
     ("validate-uuid",), ("x-ignore-shared",), ("postcopy-ram",), ("late-block-activate",)],
)  # fmt: skip
def test_precopy_completes_with_every_capability(pair, version, names):
    both = pair(version, *names)
    both.migrate()
    assert both.statuses == ("completed", "completed")
    assert both.runstates == ("postmigrate", "running")
    device = [] if version == "7.2" else ["device"]
    assert [e for e in told(both.src) if not isinstance(e, int)] == [
        "setup", "active", "STOP", *device, "completed",
    ]  # fmt: skip
    assert told(both.dst)[-3:] == ["active", "RESUME", "completed"]
    assert not both.src.host.warnings
    assert not both.dst.host.warnings


@pytest.mark.parametrize("version", ["10.0", "11.1"])
def test_the_ack_of_a_destination_without_devices_is_not_waited_for_in_vain(pair, version):
    both = pair(version, "return-path", "switchover-ack")
    both.migrate()
    assert both.statuses == ("completed", "completed")


@pytest.mark.parametrize(
    ("version", "error"),
    [("7.2", None), ("10.0", "Sibling indicated error 1"), ("11.1", "Sibling indicated error 1")],
)
def test_a_destination_that_refuses_at_the_end_fails_the_source_on_the_way_back(
    pair, version, error
):
    both = pair(version, "return-path")
    both.dst.machine.state.memory.size = 1 << 20
    both.dst.machine.qom.at("/objects/pc.ram").values["size"] = 1 << 20
    both.migrate()
    assert both.dst.machine.process.exit_code == 1
    info = both.src.command("query-migrate")
    assert info["status"] == "failed"
    if error:
        assert info["error-desc"] == error
    assert both.runstates[0] == "running"


def test_uuids_must_match_if_asked_for(make, clock):
    uuids = [f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2)]
    dst = make(inmigrate=True, uuid=uuids[0])
    src = make(uuid=uuids[1])
    for vm in (src, dst):
        vm.switch("validate-uuid")
    dst.command("migrate-incoming", uri="unix:/m")
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert dst.machine.process.exit_code == 1
    assert dst.host.warnings[0] == f"UUID received is {uuids[1]} and local is {uuids[0]}"


def test_bandwidth_and_downtime_act_at_once(pair, clock):
    both = pair("11.1")
    both.src.machine.guest_workload = Workload(zero_permille=0, dirty_rate=50 << 20)
    both.src.set(max_bandwidth=10 << 20)
    both.migrate(5)
    before = both.src.command("query-migrate")["ram"]
    assert 49 << 20 < before["transferred"] < 51 << 20
    both.src.set(max_bandwidth=100 << 20, downtime_limit=1)
    both.run(0.5)
    after = both.src.command("query-migrate")["ram"]
    assert after["transferred"] - before["transferred"] == pytest.approx(50 << 20, rel=0.01)
    assert after["mbps"] == pytest.approx((100 << 20) * 8 / 1e6, rel=0.01)
    both.src.set(downtime_limit=2000)
    both.run()
    assert both.statuses == ("completed", "completed")


def test_a_busy_guest_is_throttled_until_it_fits(pair):
    both = pair("10.0", "auto-converge")
    both.src.machine.guest_workload = Workload(
        dirty_rate=200 << 20, working_set=64 << 20, zero_permille=0
    )
    both.src.set(max_bandwidth=100 << 20, downtime_limit=50)
    both.migrate(10)
    assert both.src.command("query-migrate")["cpu-throttle-percentage"] >= 20
    both.run(600)
    assert both.statuses == ("completed", "completed")
    assert "cpu-throttle-percentage" not in both.src.command("query-migrate")


def test_a_paused_guest_stops_dirtying(pair):
    both = pair()
    both.src.machine.guest_workload = Workload(
        dirty_rate=1 << 30, working_set=None, zero_permille=0
    )
    both.src.set(max_bandwidth=100 << 20)
    both.migrate(20)
    assert both.src.status == "active"
    both.src.machine.lifecycle.stop()
    both.run(20)
    assert both.statuses == ("completed", "completed")
    assert both.runstates == ("postmigrate", "paused")


# -- postcopy ------------------------------------------------------------------------------------

AT_SWITCH = {
    "7.2": (["postcopy-active", "STOP", 2], ["postcopy-active", "RESUME"]),
    "10.0": (["STOP", "device", 2, "postcopy-active"], ["postcopy-active", "RESUME"]),
    "11.1": (
        ["STOP", "device", "postcopy-device", "postcopy-active"],
        ["postcopy-device", "postcopy-active", "RESUME"],
    ),
}


def in_postcopy(pair, version: str, *names: str):
    both = pair(version, "postcopy-ram", *names)
    both.src.set(max_bandwidth=1000, max_postcopy_bandwidth=1000)
    both.migrate(1)
    assert both.statuses == ("active", "active")
    both.forget()
    both.src.command("migrate-start-postcopy")
    both.run(1)
    return both


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("preempt", [False, True])
def test_postcopy(pair, version, preempt):
    both = in_postcopy(pair, version, *(["postcopy-preempt"] if preempt else []))
    assert both.statuses == ("postcopy-active", "postcopy-active")
    assert both.runstates == ("finish-migrate", "running")
    assert (told(both.src), told(both.dst)) == AT_SWITCH[version]
    info = both.src.command("query-migrate")
    assert ("downtime" in info) == (version != "7.2")
    assert both.src.refused("migrate", uri="unix:/m") == (
        "There's a migration process in progress"
    )
    both.src.set(max_postcopy_bandwidth=0)
    both.run()
    assert both.statuses == ("completed", "completed")
    assert both.src.command("query-migrate")["ram"]["postcopy-bytes"] > 0
    assert both.runstates == ("postmigrate", "running")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", ["src", "dst", "cable"])
def test_postcopy_breaks_and_goes_on(pair, version, side):
    both = in_postcopy(pair, version)
    both.forget()
    if side == "cable":
        both.src.host.streams[0].break_off()
    else:
        getattr(both, side).command("migrate-pause")
    both.run(1)
    assert both.statuses == ("postcopy-paused", "postcopy-paused")
    for vm in (both.src, both.dst):
        assert vm.host.warnings[-1] == "Detected IO failure for postcopy. Migration paused."
        assert vm.refused("migrate-pause") == vm.profile.traits.migrate_pause_refusal
    if version != "7.2" and side == "src":
        assert both.src.command("query-migrate")["error-desc"] == (
            "Postcopy migration is paused by the user"
        )
    both.dst.command("migrate-recover", uri="unix:/r")
    both.dst.command("migrate-recover", uri="unix:/r2")
    both.src.command("migrate", uri="unix:/r2", resume=True)
    both.run(1)
    assert both.statuses == ("postcopy-active", "postcopy-active")
    both.src.set(max_postcopy_bandwidth=0)
    both.run()
    assert both.statuses == ("completed", "completed")
    setup = [] if version == "7.2" else ["postcopy-recover-setup"]
    assert told(both.src) == [
        "postcopy-paused", *setup, "postcopy-recover", "postcopy-active", "completed",
    ]  # fmt: skip
    assert [e for e in told(both.dst) if e != "setup"] == [
        "postcopy-paused", "postcopy-recover", "postcopy-active", "completed",
    ]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumption_that_finds_nobody(pair, version):
    both = in_postcopy(pair, version)
    both.src.command("migrate-pause")
    both.run(1)
    both.forget()
    both.src.host.connect_error = "Failed to connect to '/r': Connection refused"
    both.src.command("migrate", uri="unix:/r", resume=True)
    both.run(1)
    assert both.src.status == "postcopy-paused"
    expected = [] if version == "7.2" else ["postcopy-recover-setup", "postcopy-paused"]
    assert told(both.src) == expected
    both.src.host.connect_error = ""
    both.dst.command("migrate-recover", uri="unix:/r")
    both.src.command("migrate", uri="unix:/r", resume=True)
    both.src.set(max_postcopy_bandwidth=0)
    both.run()
    assert both.statuses == ("completed", "completed")


def test_cancel_in_postcopy(pair):
    both = in_postcopy(pair, "10.0")
    assert both.src.refused("migrate_cancel") == (
        "Postcopy migration in progress, cannot cancel."
    )
    old = in_postcopy(pair, "7.2")
    old.src.command("migrate_cancel")
    old.run(1)
    assert old.statuses == ("cancelled", "postcopy-paused")
    assert old.runstates == ("postmigrate", "running")


@pytest.mark.parametrize("version", VERSIONS)
def test_postcopy_waits_before_the_switchover_if_asked(pair, version):
    both = pair(version, "postcopy-ram", "pause-before-switchover")
    both.src.set(max_bandwidth=1000)
    both.migrate(1)
    both.src.command("migrate-start-postcopy")
    both.run(5)
    assert both.src.status == "pre-switchover"
    both.src.command("migrate-continue", state="pre-switchover")
    both.run()
    assert both.statuses == ("completed", "completed")


def test_a_destination_that_dies_before_it_may_run_costs_nothing(pair):
    both = pair("11.1", "postcopy-ram")
    both.src.set(max_bandwidth=1000)
    both.migrate(1)
    both.src.command("migrate-start-postcopy")
    both.clock.advance(MILLISECOND)
    assert both.src.status == "device"
    both.src.host.streams[0].break_off()
    both.run()
    assert both.src.status == "failed"
    assert both.runstates[0] == "running"


# -- snapshots and files -------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_background_snapshot(make, clock, version):
    vm = make(version, machine_type="q35")
    vm.switch("background-snapshot", "events")
    vm.machine.lifecycle.cont()
    vm.events.clear()
    vm.command("migrate", uri="exec:cat > /f")
    clock.run_until_idle()
    assert told(vm) == ["setup", "active", "STOP", "RESUME", "completed"]
    assert vm.machine.runstate.running
    dst = make(version, machine_type="q35", inmigrate=True)
    dst.command("migrate-incoming", uri="exec:cat /f")
    dst.host.streams[0].on_data(vm.host.streams[0].written)
    assert (dst.status, dst.machine.runstate.current) == ("completed", "running")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("state", ["prelaunch", "io-error", "watchdog"])
def test_a_background_snapshot_of_a_stopped_guest_leaves_its_state(make, clock, version, state):
    vm = make(version, machine_type="q35")
    vm.switch("background-snapshot", "events")
    if state != "prelaunch":
        vm.machine.lifecycle.cont()
        vm.machine.runstate.set(state)
    vm.events.clear()
    vm.command("migrate", uri="exec:cat > /f")
    clock.run_until_idle()
    assert told(vm) == ["setup", "active", "completed"]
    assert vm.machine.runstate.current == state


def test_mapped_ram_goes_to_a_file_with_holes(make, clock):
    vm = make("11.1", machine_type="q35")
    vm.switch("mapped-ram", "multifd")
    vm.command("migrate", uri="file:/f")
    clock.run_until_idle()
    assert vm.status == "completed"
    written = vm.host.streams[0].written
    assert len(written) > 128 << 20
    dst = make("11.1", machine_type="q35", inmigrate=True)
    dst.switch("mapped-ram")
    dst.command("migrate-incoming", uri="file:/f")
    reader = dst.host.streams[0]
    at, skipped = 0, []
    reader.skip = skipped.append
    while reader.on_data is not None and at < len(written):
        reader.on_data(written[at : at + 65536])
        at += 65536 + sum(skipped)
        skipped.clear()
    assert dst.status == "completed"


@pytest.mark.parametrize("version", VERSIONS)
def test_yank_breaks_either_side(pair, version):
    for side in ("src", "dst"):
        both = pair(version, "return-path")
        both.src.set(max_bandwidth=1000)
        both.migrate(1)
        getattr(both, side).command("yank", instances=[{"type": "migration"}])
        both.run(1)
        assert both.src.status == "failed"
        assert both.src.machine.runstate.running
        assert both.dst.machine.process.exit_code == 1


def test_a_huge_guest_costs_no_more_than_a_small_one(make, clock):
    costs = []
    for size in (1 << 30, 1 << 42):
        vm = make("11.1", machine_type="q35", ram=size)
        vm.machine.guest_workload = Workload(
            dirty_rate=1 << 30, working_set=None, zero_permille=0, link=1 << 30
        )
        vm.machine.lifecycle.cont()
        vm.set(max_bandwidth=0)
        vm.command("migrate", uri="unix:/m")
        while vm.migration.outgoing.transfer.dirty_sync_count < 30:
            assert clock.jump()
        vm.machine.lifecycle.stop()
        clock.run_until_idle(100)
        info = vm.command("query-migrate")
        assert info["status"] == "completed"
        assert info["ram"]["transferred"] > 20 * size
        costs.append((len(vm.host.streams[0].written), len(list(vm.machine.journal))))
    assert costs[1][0] == pytest.approx(costs[0][0], abs=200)
    assert costs[1][1] == pytest.approx(costs[0][1], abs=2)


@pytest.mark.parametrize("version", VERSIONS)
def test_blocktime_is_told_where_postcopy_was(pair, version):
    both = in_postcopy(pair, version, "postcopy-blocktime")
    both.src.set(max_postcopy_bandwidth=0)
    both.run()
    info = both.dst.command("query-migrate")
    assert info["postcopy-vcpu-blocktime"] == [0]
    assert ("postcopy-latency" in info) == (version == "11.1")
    early = pair(version, "postcopy-ram", "postcopy-blocktime")
    early.migrate()
    assert ("postcopy-blocktime" in early.dst.command("query-migrate")) == (version != "11.1")


def test_a_late_clock_does_not_make_the_guest_write_after_it_was_stopped(make, clock):
    for version in VERSIONS:
        vm = make(version, machine_type="q35")
        vm.switch("events")
        vm.machine.lifecycle.cont()
        vm.events.clear()
        vm.command("migrate", uri="unix:/m")
        while vm.status != "active":
            clock.jump()
        # the machine was busy with something else for a second
        clock._now += SECOND
        clock.run_until_idle()
        passes = [e[1] for e in vm.events if e[0] == "MIGRATION_PASS"]
        assert passes == ([2] if version == "11.1" else [1, 2])


# -- recovery on a channel that is not listened for ----------------------------------------------


class Monitor:
    """Whoever gave a descriptor its name."""


def paused(pair, version: str):
    both = in_postcopy(pair, version)
    both.src.command("migrate-pause")
    both.run(1)
    both.src.set(max_postcopy_bandwidth=0)
    both.forget()
    return both


def opened(both, uri: str):
    """What the destination opens for `migrate-recover`."""
    both.dst.command("migrate-recover", uri=uri)
    both.run(1)
    return both.dst.host.streams[-1]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("other", [False, True])
def test_a_descriptor_is_recovered_to_with_its_first_byte(pair, version, other):
    both = paused(pair, version)
    end = opened(both, "fd:7")
    if other:
        both.dst.command("migrate-recover", uri="unix:/other")
    both.run(1)
    assert both.dst.status == "postcopy-paused"
    both.src.host.world["/fd"] = lambda peer: join(end, peer)
    both.src.command("migrate", uri="unix:/fd", resume=True)
    both.run()
    assert both.statuses == ("completed", "completed")
    assert [e for e in told(both.dst) if e != "setup"] == [
        "postcopy-recover", "postcopy-active", "completed",
    ]  # fmt: skip


def join(end, peer) -> None:
    """Let `end`, which the destination has opened, be the peer of the source's stream."""
    source = peer.peer
    source.peer, end.peer, peer.peer = end, source, None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("uri", ["fd:7", "fd:8", "exec:false"])
def test_only_a_socket_that_closes_without_a_byte_is_noticed(pair, version, uri):
    both = paused(pair, version)
    both.dst.host.kinds[8] = "pipe"
    opened(both, uri).end()
    both.run(1)
    noticed = ["postcopy-recover", "postcopy-paused"] if uri == "fd:7" else []
    assert [e for e in told(both.dst) if e != "setup"] == noticed
    both.dst.command("migrate-recover", uri="unix:/r")
    both.src.command("migrate", uri="unix:/r", resume=True)
    both.run()
    assert both.statuses == ("completed", "completed")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_second_descriptor_comes_too_late(pair, version):
    both = paused(pair, version)
    first, second = opened(both, "fd:7"), opened(both, "fd:8")
    for end in (first, second):
        end._arrived += b"\x08"
        end._deliver()
    both.run(1)
    assert (first.closed, second.closed) == (False, True)
    assert both.dst.status == "postcopy-recover"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_source_that_cannot_read_answers_pauses_again(pair, version):
    both = paused(pair, version)
    both.src.host.kinds[9] = "pipe"
    monitor = Monitor()
    both.src.machine.named_fds.of(monitor).add("s", 9)
    both.src.command("migrate", monitor, uri="fd:s", resume=True)
    both.run(1)
    setup = [] if version == "7.2" else ["postcopy-recover-setup"]
    assert told(both.src) == [*setup, "postcopy-recover", "postcopy-paused"]
    if version != "7.2":
        assert both.src.command("query-migrate")["error-desc"] == (
            "Unable to read from file: Bad file descriptor"
        )


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("7.2", None),
        ("10.0", "Error in migration completion: Bad address"),
        ("11.1", "Block inactivate failed during switchover"),
    ],
)
def test_a_disk_that_a_job_writes_to_fails_the_switchover(pair, version, error):
    both = pair(version)
    src = both.src
    block = src.machine.block
    for name in ("a", "b"):
        block.add({"driver": "null-co", "node-name": name, "size": 1 << 20})
    backend = block.backends.create("disk")
    backend.insert(block.graph.lookup("a", "a"))
    command = {"job-id": "j", "device": "disk", "target": "b", "sync": "none"}
    blockdev_backup(block, command).start()
    both.migrate()
    info = src.command("query-migrate")
    assert (info["status"], info.get("error-desc")) == ("failed", error)
    assert both.runstates[0] == "running"
    assert any("bdrv_inactivate_all() failed" in line for line in src.host.warnings)
    assert all(node.inactive is False for node in block.graph.nodes.values())
