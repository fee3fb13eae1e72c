"""TAPs and `local`: what each saw when it was made, and whether that still holds."""

from __future__ import annotations

import pytest

from fakeqemu.migration.parameters.early import EarlyParameters
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.testing import FakeQemu, QmpError


def boot_tap(vm, values, **options):
    """A TAP of the command line: made before the migration object."""
    vm.reader.object, vm.reader.early = None, EarlyParameters()
    vm.reader.early.add_config(values)
    try:
        return vm.machine.taps.create("n0", "tap0", **options)
    finally:
        vm.reader.object = vm.migration


def test_a_tap_of_the_command_line_sees_the_early_value(make):
    vm = make("next", inmigrate=True)
    tap = boot_tap(vm, {"local": True})
    assert (tap.local, tap.opened) == (True, False)


def test_without_an_early_value_it_opens_its_device(make):
    tap = boot_tap(make("next", inmigrate=True), {})
    assert (tap.local, tap.opened) == (False, True)


def test_a_tap_added_later_sees_the_current_value(make):
    vm = make("next", inmigrate=True)
    vm.set(local=True)
    tap = vm.machine.taps.create("n1", "tap1")
    assert (tap.local, tap.opened) == (True, False)


def test_a_device_without_support_opens_whatever_local_says(make):
    tap = boot_tap(make("next", inmigrate=True), {"local": True}, supports_local=False)
    assert tap.opened


def test_only_an_incoming_machine_waits_for_the_device(make):
    assert boot_tap(make("next"), {"local": True}).opened


def test_a_second_opener_is_busy(make):
    vm = make("next")
    vm.machine.taps.create("a", "tap0")
    with pytest.raises(QapiError) as caught:
        vm.machine.taps.create("b", "tap0")
    assert caught.value.desc == (
        "could not configure /dev/net/tun (tap0): Device or resource busy"
    )


@pytest.mark.parametrize(("made", "now"), [(False, True), (True, False)])
def test_incoming_is_refused_when_local_has_changed_since(make, made, now):
    vm = make("next", inmigrate=True)
    boot_tap(vm, {"local": made})
    vm.set(local=now)
    assert "'local'" in vm.refused("migrate-incoming", uri="unix:/m")
    vm.set(local=made)
    vm.command("migrate-incoming", uri="unix:/m")


def test_that_it_was_opened_stays_on_record(make):
    vm = make("next", inmigrate=True)
    tap = boot_tap(vm, {})
    vm.set(local=True)
    assert tap.opened
    assert vm.machine.journal.of("tap", "n0")[0].data["opened"] is True


# -- whole machines ------------------------------------------------------------------------------

TAP = "tap,id=n0,ifname=tap0,script=no,downscript=no"


def machine(*options, profile="next"):
    return FakeQemu("-machine", "none", *options, profile=profile, socket=False, client=False)


def tap_notes(vm):
    taps = vm.journal.of("tap")
    return [(entry.name, entry.data["local"], entry.data["opened"]) for entry in taps]


async def test_a_tap_of_the_command_line_waits_for_its_device():
    options = ("-incoming", "defer", "-incoming", "config:local=on", "-netdev", TAP)
    async with machine(*options) as vm:
        assert tap_notes(vm) == [("n0", True, False)]
        step = next(entry for entry in vm.boot_log if entry.name == "net backends")
        assert step.data["local"] == {"n0": True}
        await vm.qmp("migrate-set-parameters", local=False)
        with pytest.raises(QmpError, match="created with migration parameter 'local' on"):
            await vm.qmp("migrate-incoming", uri="unix:/nonexistent/x")
        await vm.qmp("migrate-set-parameters", local=True)
        with pytest.raises(QmpError, match="requires a UNIX domain socket channel"):
            await vm.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        await vm.qmp("migrate-incoming", uri=vm.migration_uri)


async def test_a_tap_of_netdev_add_sees_the_value_then():
    async with machine("-incoming", "defer", "-netdev", TAP) as vm:
        await vm.qmp("migrate-set-parameters", local=True)
        await vm.qmp("netdev_add", type="tap", id="n1", ifname="tap1", script="no")
        assert tap_notes(vm) == [("n0", False, True), ("n1", True, False)]


async def test_a_taken_interface_is_free_again_when_its_tap_is_gone():
    async with machine("-netdev", TAP) as vm:
        add = {"type": "tap", "id": "n1", "ifname": "tap0", "script": "no"}
        with pytest.raises(QmpError, match="Device or resource busy"):
            await vm.qmp("netdev_add", add)
        await vm.qmp("netdev_del", id="n0")
        await vm.qmp("netdev_add", add)


async def test_a_mode_without_a_channel_has_nothing_saved():
    options = ("-incoming", "defer", "-incoming", "config:mode=cpr-transfer")
    with pytest.raises(StartupError) as caught:
        await machine(*options, "-netdev", "tap,id=n0,fd=5").start()
    assert caught.value.message.endswith("cannot find saved value for fd 5")


async def test_real_versions_know_nothing_of_local():
    async with machine("-incoming", "defer", "-netdev", TAP, profile="11.1") as vm:
        assert tap_notes(vm) == [("n0", False, True)]
        await vm.qmp("migrate-incoming", uri=vm.migration_uri)
