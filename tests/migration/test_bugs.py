"""Bugs of ours in the middle of a migration: it fails, on its side; nothing else does."""

from __future__ import annotations

import pytest

INTERNAL = "internal error of fakeqemu"


def broken(*_args, **_keywords):
    raise KeyError("x")


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    "where",
    [
        "fakeqemu.migration.outgoing.precopy.Precopy.iterate",
        "fakeqemu.migration.outgoing.driver.OutgoingDriver.channel_opened",
        "fakeqemu.migration.outgoing.driver.OutgoingDriver.channels_ready",
    ],
)
def test_the_source_fails_and_its_guest_goes_on(make, clock, monkeypatch, bugs, version, where):
    vm = make(version, machine_type="q35")
    vm.machine.lifecycle.cont()
    monkeypatch.setattr(where, broken)
    vm.command("migrate", uri="exec:cat >/dev/null")
    clock.run_until_idle()
    info = vm.command("query-migrate")
    assert (info["status"], info["error-desc"]) == ("failed", INTERNAL)
    assert vm.machine.runstate.running
    assert vm.machine.process.exit_code is None
    assert [bug.name for bug in bugs] == ["KeyError"]
    bugs.clear()
    monkeypatch.undo()
    vm.command("migrate", uri="exec:cat >/dev/null")
    clock.run_until_idle()
    assert vm.status == "completed"


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_a_source_whose_guest_runs_elsewhere_pauses_and_can_go_on(
    make, clock, monkeypatch, bugs, version
):
    dst = make(version, inmigrate=True, machine_type="q35")
    src = make(version, machine_type="q35")
    for vm in (src, dst):
        vm.switch("postcopy-ram")
    src.set(max_bandwidth=1 << 20)
    dst.command("migrate-incoming", uri="unix:/m")
    src.machine.lifecycle.cont()
    src.command("migrate", uri="unix:/m")
    clock.advance(50_000_000)
    src.command("migrate-start-postcopy")
    monkeypatch.setattr("fakeqemu.migration.outgoing.savevm.SaveVm.postcopy_end", broken)
    clock.run_until_idle()
    assert src.status == dst.status == "postcopy-paused"
    assert [bug.name for bug in bugs] == ["KeyError"]
    bugs.clear()
    monkeypatch.undo()
    dst.command("migrate-recover", uri="unix:/n")
    src.command("migrate", uri="unix:/n", resume=True)
    clock.run_until_idle()
    assert src.status == dst.status == "completed"
    assert dst.machine.runstate.running


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_the_destination_fails_and_stays(make, clock, monkeypatch, bugs, version):
    dst = make(version, inmigrate=True, machine_type="q35")
    dst.command("migrate-incoming", uri="unix:/m")
    src = make(version, machine_type="q35")
    monkeypatch.setattr("fakeqemu.migration.incoming.loadvm.LoadVm.feed", broken)
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert dst.migration.incoming.status == "failed"
    assert dst.migration.incoming.error == INTERNAL
    assert dst.machine.process.exit_code is None
    assert src.status == "failed"
    assert [bug.name for bug in bugs] == ["KeyError"]
    bugs.clear()


def test_a_dirty_rate_that_cannot_be_measured_can_be_asked_for_again(
    make, clock, monkeypatch, bugs
):
    vm = make("11.1", machine_type="q35")
    vm.machine.lifecycle.cont()
    monkeypatch.setattr("fakeqemu.migration.transfer.dirtyrate._guest_rate", broken)
    vm.command("calc-dirty-rate", calc_time=1)
    clock.run_until_idle()
    assert vm.command("query-dirty-rate")["status"] == "unstarted"
    bugs.clear()
    monkeypatch.undo()
    vm.command("calc-dirty-rate", calc_time=1)
    clock.run_until_idle()
    assert vm.command("query-dirty-rate")["status"] == "measured"
