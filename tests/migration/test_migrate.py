"""Migrations from end to end on a virtual clock: states, events, run states, refusals."""

from __future__ import annotations

import pytest

from fakeqemu.clock import SECOND
from fakeqemu.formats.migration_stream.channels import return_path as returnpath


def migration_events(vm) -> list:
    return [e if len(e) > 1 else e[0] for e in vm.events]


@pytest.mark.parametrize(
    ("version", "events"),
    [
        ("7.2", ["setup", 1, "active", "STOP", 2, "completed"]),
        ("10.0", ["setup", 1, "active", "STOP", "device", 2, "completed"]),
        ("11.1", ["setup", "active", 2, "STOP", "device", "completed"]),
    ],
)
def test_precopy_of_a_running_guest(make, clock, version, events):
    vm = make(version, machine_type="q35")
    vm.switch("events")
    vm.machine.lifecycle.cont()
    vm.events.clear()
    vm.command("migrate", uri="exec:cat >/dev/null")
    clock.run_until_idle()
    assert vm.status == "completed"
    assert [e[1] if e[0].startswith("MIGRATION") else e[0] for e in vm.events] == events
    assert vm.machine.runstate.current == "postmigrate"
    text = vm.refused("migrate", uri="exec:cat")
    assert text == "Can't migrate the vm that was paused due to previous migration"
    vm.machine.lifecycle.cont()
    assert vm.machine.runstate.running


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_a_guest_left_behind_by_a_failed_loadvm_can_be_migrated(make, clock, version):
    vm = make(version, machine_type="q35")
    vm.machine.lifecycle.cont()
    vm.machine.lifecycle.vm_stop("restore-vm")
    vm.command("migrate", uri="exec:cat >/dev/null")
    clock.run_until_idle()
    assert vm.status == "completed"
    assert vm.machine.runstate.current == "restore-vm"  # a real one aborts


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    ("source", "options", "end"),
    [
        ("running", {}, "running"),
        ("running", {"autostart": False}, "paused"),
        ("prelaunch", {}, "prelaunch"),
    ],
)
def test_the_destination_becomes_what_the_source_was(make, clock, version, source, options, end):
    dst = make(version, inmigrate=True, machine_type="q35", **options)
    dst.command("migrate-incoming", uri="unix:/m")
    src = make(version, machine_type="q35")
    if source == "running":
        src.machine.lifecycle.cont()
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert (src.status, dst.status) == ("completed", "completed")
    assert dst.machine.runstate.current == end
    assert "socket-address" not in dst.command("query-migrate")


def test_the_stream_really_begins_like_one(make, clock):
    vm = make(machine_type="q35")
    vm.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    written = vm.host.streams[0].written
    name = vm.profile.machine("q35").name.encode()
    assert written.startswith(b"QEVM\0\0\0\3\7" + len(name).to_bytes(4, "big") + name)


def test_bandwidth_holds_it_back_and_may_be_raised(make, clock):
    vm = make(machine_type="q35")
    vm.set(max_bandwidth=1000)
    vm.command("migrate", uri="unix:/m")
    clock.advance(5 * SECOND)
    info = vm.command("query-migrate")
    assert info["status"] == "active"
    assert 4000 < info["ram"]["transferred"] < 6000
    assert info["total-time"] == 5000
    vm.set(max_bandwidth=0)
    clock.run_until_idle()
    assert vm.status == "completed"


@pytest.mark.parametrize(
    ("version", "events"),
    [("10.0", ["setup", "failed"]), ("11.1", ["setup", "failing", "failed"])],
)
def test_a_refused_connection(make, clock, host, version, events):
    host.connect_error = "Failed to connect to '/m': Connection refused"
    vm = make(version)
    vm.switch("events")
    assert vm.command("migrate", uri="unix:/m") == {}
    assert vm.status == "setup"
    clock.run_until_idle()
    assert vm.command("query-migrate") == {"status": "failed", "error-desc": host.connect_error}
    assert [e[1] for e in vm.events] == events


def test_a_file_that_cannot_be_made_fails_at_once(make):
    vm = make()
    text = vm.refused("migrate", uri="file:/no/x")
    assert text == "Could not create '/no/x': No such file or directory"
    assert vm.command("query-migrate") == {"status": "failed", "error-desc": text}


def test_7_2_begins_before_it_looks_at_the_uri(make):
    vm = make("7.2")
    vm.switch("events")
    assert vm.refused("migrate", uri="foo:bar") == (
        "Parameter 'uri' expects a valid migration protocol"
    )
    assert [e[1] for e in vm.events] == ["setup", "failed"]
    assert vm.command("query-migrate") == {"status": "failed"}


def test_refusals_in_order(make, clock):
    vm = make()
    assert vm.refused("migrate") == "need either 'uri' or 'channels' argument"
    assert vm.refused("migrate", uri="foo:bar") == "unknown migration protocol: foo:bar"
    assert vm.refused("migrate", uri="unix:/m", resume=True) == (
        "Cannot resume if there is no paused migration"
    )
    waiting = make(inmigrate=True)
    assert waiting.refused("migrate", uri="unix:/m") == (
        "Guest is waiting for an incoming migration"
    )
    vm.switch("mapped-ram")
    assert vm.refused("migrate", uri="unix:/m") == (
        "Migration requires seekable transport (e.g. file)"
    )
    blocked = make()
    blocked.migration.blockers.add("because")
    assert blocked.refused("migrate", uri="unix:/m") == "because"
    assert blocked.command("query-migrate") == {"blocked-reasons": ["because"]}


def test_pause_before_switchover_waits_for_continue(make, clock):
    vm = make()
    vm.switch("pause-before-switchover", "events")
    vm.machine.lifecycle.cont()
    vm.command("migrate", uri="exec:cat")
    clock.run_until_idle()
    assert vm.status == "pre-switchover"
    assert vm.machine.runstate.current == "finish-migrate"
    assert vm.refused("migrate-continue", state="device") == (
        "Migration not in expected state: pre-switchover"
    )
    vm.command("migrate-continue", state="pre-switchover")
    clock.run_until_idle()
    assert vm.status == "completed"


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("7.2", None),
        ("10.0", "Channel error: Input/output error"),
        ("11.1", "Switchover is interrupted"),
    ],
)
def test_a_cancelled_switchover_lets_the_guest_run_again(make, clock, version, error):
    vm = make(version)
    vm.switch("pause-before-switchover", "events")
    vm.machine.lifecycle.cont()
    vm.command("migrate", uri="exec:cat")
    clock.run_until_idle()
    vm.events.clear()
    vm.command("migrate_cancel")
    clock.run_until_idle()
    assert vm.events == [("MIGRATION", "cancelling"), ("RESUME",), ("MIGRATION", "cancelled")]
    assert vm.command("query-migrate").get("error-desc") == error


def test_a_dead_destination_fails_the_source_which_goes_on(make, clock):
    dst = make(inmigrate=True, machine_type="q35")
    dst.command("migrate-incoming", uri="unix:/m")
    src = make(machine_type="q35")
    src.machine.lifecycle.cont()
    src.set(max_bandwidth=1000)
    src.command("migrate", uri="unix:/m")
    clock.advance(SECOND)
    assert (src.status, dst.status) == ("active", "active")
    src.host.streams[0].peer.close()
    clock.advance(0)
    assert src.command("query-migrate") == {
        "status": "failed",
        "error-desc": "Unable to write to socket: Broken pipe",
    }
    assert src.machine.runstate.running


def test_a_broken_source_ends_the_destination(make, clock):
    dst = make(inmigrate=True, machine_type="q35")
    dst.command("migrate-incoming", uri="unix:/m")
    src = make(machine_type="q35")
    src.set(max_bandwidth=1000)
    src.command("migrate", uri="unix:/m")
    clock.advance(SECOND)
    src.host.streams[0].close()
    clock.advance(0)
    assert dst.machine.process.exit_code == 1
    assert dst.host.warnings == [
        "check_section_footer: Read section footer failed: -5",
        "load of migration failed: Invalid argument: Section footer error, section_id: 2",
    ]


def test_another_machine_type_is_refused_by_the_destination(make, clock):
    dst = make("10.0", inmigrate=True, machine_type="pc")
    dst.command("migrate-incoming", uri="unix:/m", exit_on_error=False)
    src = make("10.0", machine_type="q35")
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert dst.machine.process.exit_code is None
    assert dst.command("query-migrate") == {
        "status": "failed",
        "error-desc": "load of migration failed: Invalid argument",
    }
    assert dst.host.warnings == [
        "Machine type received is 'pc-q35-10.0' and local is 'pc-i440fx-10.0'"
    ]
    assert dst.refused("migrate-incoming", uri="unix:/n") == (
        "The incoming migration has already been started"
    )


@pytest.mark.parametrize(
    ("data", "cause", "old"),
    [
        (b"garbage", "Invalid argument: Not a migration stream, magic: 67617262 != 5145564d",
         "Not a migration stream"),
        (b"QEVM",
         "Operation not supported: Unsupported migration stream version, file version 0 != 3",
         "Unsupported migration stream version"),
        (b"QEVM\0\0\0\2",
         "Operation not supported: SaveVM v2 format is obsolete and no longer supported",
         "SaveVM v2 format is obsolete and don't work anymore"),
        (b"QEVM\0\0\0\3\xff", "Invalid argument: Configuration section missing, ff != 7",
         "Configuration section missing"),
        (b"QEVM\0\0\0\3\7\0\0\0\4none",
         "Input/output error: Failed to load section ID: stream error: -5:"
         " Channel error: Input/output error", ""),
        (b"QEVM\0\0\0\3\7\0\0\0\4none\xff", "Invalid argument: Unknown section type 255",
         "Unknown savevm section type 255"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["7.2", "11.1"])
def test_streams_that_are_none(make, version, data, cause, old):
    vm = make(version, inmigrate=True)
    vm.command("migrate-incoming", uri="exec:x")
    channel = vm.host.streams[0]
    channel.on_data(data)
    if channel.on_close is not None:
        channel.on_close(None)
    assert vm.machine.process.exit_code == 1
    errno = cause.split(":")[0]
    if version == "11.1":
        assert vm.host.warnings == [f"load of migration failed: {cause}"]
    else:
        said = [old] if old else []
        assert vm.host.warnings == [*said, f"load of migration failed: {errno}"]


def test_a_command_that_says_nothing_wakes_nobody(make):
    vm = make(inmigrate=True)
    vm.command("migrate-incoming", uri="exec:false")
    vm.host.streams[0].on_close(None)
    assert vm.command("query-migrate") == {"status": "setup"}


def test_a_failed_start_wedges_since_10_0(make, host, clock):
    vm = make(inmigrate=True)
    vm.host.listen_error = "Failed to bind socket to /no/s: No such file or directory"
    assert vm.refused("migrate-incoming", uri="unix:/no/s") == vm.host.listen_error
    vm.host.listen_error = ""
    assert vm.refused("migrate-incoming", uri="unix:/s") == (
        "Illegal migration incoming state: setup"
    )
    older = make("7.2", inmigrate=True)
    older.host.listen_error = "no"
    assert older.refused("migrate-incoming", uri="unix:/no/s") == "no"
    older.host.listen_error = ""
    older.command("migrate-incoming", uri="unix:/s")


def test_incoming_needs_the_option_and_happens_once(make):
    assert make().refused("migrate-incoming", uri="foo:bar") == (
        "'-incoming' was not specified on the command line"
    )
    vm = make(inmigrate=True)
    assert vm.refused("migrate-incoming", uri="defer") == "unknown migration protocol: defer"
    vm.command("migrate-incoming", uri="unix:/m")
    assert vm.command("query-migrate") == {
        "status": "setup",
        "socket-address": [{"type": "unix", "path": "/m"}],
    }
    assert vm.refused("migrate-incoming", uri="foo:bar") == (
        "The incoming migration has already been started"
    )


def test_7_2_says_setup_to_everybody_and_shows_no_status(make):
    vm = make("7.2", inmigrate=True)
    vm.command("migrate-incoming", uri="unix:/m")
    assert vm.events == [("MIGRATION", "setup")]
    assert "status" not in vm.command("query-migrate")


@pytest.mark.parametrize(
    ("version", "kind", "text"),
    [
        ("11.1", "file", "fd: migration to a file is not supported. Use file: instead."),
        ("11.1", "closed", "fd: migration to a file is not supported. Use file: instead."),
        ("10.0", "file", None),
        ("7.2", "file", None),
    ],
)
def test_descriptors_of_plain_files(make, version, kind, text):
    vm = make(version, inmigrate=True)
    vm.host.kinds[7] = kind
    if text is not None:
        assert vm.refused("migrate-incoming", uri="fd:7") == text
        return
    vm.command("migrate-incoming", uri="fd:7")
    warned = ["warning: fd: migration to a file is deprecated. Use file: instead."]
    assert vm.host.warnings == (warned if version == "10.0" else [])


def test_the_return_path_waits_for_the_answer(make, clock):
    vm = make()
    vm.switch("return-path")
    vm.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert vm.status == "device"
    vm.host.streams[0].on_data(returnpath.shut())
    assert vm.status == "completed"


def test_quitting_announces_that_it_cancels(make, clock):
    vm = make(machine_type="q35")
    vm.switch("events")
    vm.set(max_bandwidth=1000)
    vm.command("migrate", uri="unix:/m")
    clock.advance(SECOND)
    vm.machine.lifecycle.quit()
    assert vm.events[-1] == ("MIGRATION", "cancelling")


@pytest.mark.parametrize(("version", "state"), [("7.2", "postmigrate"), ("11.1", "prelaunch")])
def test_a_stopped_source_after_a_cancelled_switchover(make, clock, version, state):
    vm = make(version)
    vm.switch("pause-before-switchover")
    vm.command("migrate", uri="exec:cat")
    clock.run_until_idle()
    vm.command("migrate_cancel")
    clock.run_until_idle()
    assert vm.machine.runstate.current == state


def test_cancelling_twice_says_so_twice(make, clock):
    vm = make(machine_type="q35")
    vm.switch("events")
    vm.set(max_bandwidth=1000)
    vm.command("migrate", uri="unix:/m")
    clock.advance(SECOND)
    vm.events.clear()
    vm.command("migrate_cancel")
    vm.command("migrate_cancel")
    clock.run_until_idle()
    assert [e[1] for e in vm.events] == ["cancelling", "cancelling", "cancelled"]


@pytest.mark.parametrize("both", [True, False])
def test_multifd_needs_its_channels_on_both_sides(make, clock, both):
    dst = make(inmigrate=True)
    dst.switch("multifd")
    dst.command("migrate-incoming", uri="unix:/m")
    src = make()
    if both:
        src.switch("multifd")
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert dst.status == ("completed" if both else "setup")
    assert len(src.host.streams) == (3 if both else 1)


def test_a_second_source_is_turned_away(make, clock):
    dst = make(inmigrate=True, machine_type="q35")
    dst.command("migrate-incoming", uri="unix:/m")
    first, second = make(machine_type="q35"), make(machine_type="q35")
    for source in (first, second):
        source.set(max_bandwidth=1000)
        source.command("migrate", uri="unix:/m")
    clock.advance(SECOND)
    assert (first.status, dst.status) == ("active", "active")
    assert dst.host.warnings == [
        "socket_accept_incoming_migration: Extra incoming migration connection; ignoring"
    ]


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("7.2", "Unable to write to socket: Broken pipe"),
        ("10.0", "ram_save_setup failed: Input/output error"),
    ],
)
def test_a_channel_that_closes_at_once_fails_in_setup(make, clock, version, text):
    vm = make(version)
    vm.command("migrate", uri="unix:/m")
    clock.jump()
    vm.host.streams[0].on_close(None)
    assert vm.command("query-migrate") == {"status": "failed", "error-desc": text}
