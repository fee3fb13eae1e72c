"""Ideas about TAPs and `local`: what each reads when it is made, and what that does.

The numbers are those of docs/proposals-ideas.md.
"""

from __future__ import annotations

import pytest

DESIGN = "incoming-config,local"
DEFER = ("-incoming", "defer")
CONFIG = ("-incoming", "config:local=on")
TAP = "tap,id=n0,ifname=tap0,script=no"
BUSY = "could not configure /dev/net/tun (tap0): Device or resource busy"
ADDED = {"type": "tap", "id": "n1", "ifname": "tap0", "script": "no"}


def taps(vm):
    """(id, whether it read `local` as on, whether it opened its device) of each."""
    return [(tap.id, tap.local, tap.opened) for tap in vm.vm.taps]


async def test_item_46_no_option_says_that_descriptors_come(boot):
    vm = await boot("local", *DEFER, "-netdev", f"{TAP},incoming-fds=on")
    assert vm.error.text == "Invalid parameter 'incoming-fds'"
    vm = await boot("local", *DEFER)
    refused = await vm.qmp("netdev_add", **ADDED, **{"incoming-fds": True})
    assert refused == "Parameter 'incoming-fds' is unexpected"


async def test_item_46_with_both_flags_the_target_never_opens_what_is_in_use(boot):
    vm = await boot(DESIGN, *DEFER, *CONFIG, "-netdev", TAP)
    assert taps(vm) == [("n0", True, False)]
    # nobody has the interface, so another can still open it
    assert await vm.qmp("netdev_add", **ADDED, **{"local-migration-supported": False}) == {}
    assert taps(vm)[1:] == [("n1", False, True)]


async def test_item_47_the_command_line_guarantees_neither(boot):
    # that it is set before a TAP is made
    vm = await boot("local", *DEFER, "-netdev", TAP)
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    assert taps(vm) == [("n0", False, True)]
    # that it stays as it was
    vm = await boot(DESIGN, *DEFER, *CONFIG, "-netdev", TAP)
    assert await vm.qmp("migrate-set-parameters", local=False) == {}
    assert taps(vm) == [("n0", True, False)]


@pytest.mark.parametrize(
    ("options", "early", "now"),
    [((), (False, True), (True, False)), (CONFIG, (True, False), (True, False))],
)
async def test_item_49_one_of_the_command_line_and_one_of_netdev_add(boot, options, early, now):
    vm = await boot(DESIGN, *DEFER, *options, "-netdev", TAP)
    assert taps(vm) == [("n0", *early)]
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    assert await vm.qmp("netdev_add", **{**ADDED, "ifname": "tap1"}) == {}
    assert taps(vm) == [("n0", *early), ("n1", *now)]
    assert await vm.qmp("migrate-set-parameters", local=False) == {}
    assert await vm.qmp("netdev_add", **{**ADDED, "id": "n2", "ifname": "tap2"}) == {}
    assert taps(vm)[2:] == [("n2", False, True)]


@pytest.mark.parametrize(("made", "now"), [("on", False), ("off", True)])
async def test_item_50_migrate_incoming_compares_with_what_a_tap_read(boot, made, now):
    vm = await boot(DESIGN, *DEFER, "-incoming", f"config:local={made}", "-netdev", TAP)
    await vm.qmp("migrate-set-parameters", local=now)
    uri = vm.machine.migration_uri
    assert await vm.qmp("migrate-incoming", uri=uri) == (
        f"netdev 'n0' was created with migration parameter 'local' {made},"
        f" it is {'on' if now else 'off'} now"
    )
    # nothing has begun: with the value that it read it can
    assert await vm.qmp("query-migrate") == {}
    await vm.qmp("migrate-set-parameters", local=not now)
    assert await vm.qmp("migrate-incoming", uri=uri) == {}


async def test_item_51_by_then_the_device_has_been_opened(boot):
    vm = await boot(DESIGN, *DEFER, "-netdev", TAP)
    [opened] = vm.machine.journal.of("tap", "n0")
    assert opened.data["opened"] is True
    assert await vm.qmp("netdev_add", **ADDED) == BUSY
    # turning it on afterwards does not take that back
    await vm.qmp("migrate-set-parameters", local=True)
    assert taps(vm) == [("n0", False, True)]
    assert await vm.qmp("netdev_add", **ADDED, **{"local-migration-supported": False}) == BUSY


async def test_item_52_order_is_the_administrators_business(boot):
    # QMP may change it although a TAP has read it, by default
    vm = await boot("local", *DEFER, "-netdev", TAP)
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    assert await vm.parameters("local") is True
    assert not vm.machine.stderr.getvalue().count("local")
    vm = await boot("local,immutable-local", *DEFER, "-netdev", TAP)
    assert "can not change" in await vm.qmp("migrate-set-parameters", local=True)


async def test_item_54_taps_by_qmp_alone(boot):
    vm = await boot("local", *DEFER)
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    assert await vm.qmp("netdev_add", **ADDED) == {}
    assert taps(vm) == [("n1", True, False)]
    assert await vm.qmp("migrate-incoming", uri="tcp:127.0.0.1:0") == (
        "local migration requires a UNIX domain socket channel"
    )
    uri = vm.machine.migration_uri
    assert await vm.qmp("migrate-incoming", uri=uri) == {}
    source = await boot("local", "-netdev", TAP.replace("n0", "n1"))
    await source.qmp("migrate-set-parameters", local=True)
    assert await source.qmp("migrate", uri=uri) == {}
    await vm.machine.wait_for("migration", "completed", side="incoming")
    assert await vm.status() == "running"
