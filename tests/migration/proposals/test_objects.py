"""Ideas about objects: one that users make, parameters that leave it, TAPs with cpr=on."""

from __future__ import annotations

import asyncio
import json

import pytest

M0 = "migration,id=m0"
TAP = "tap,id=n0,ifname=tap0,script=no"


def prop(name, **value):
    """Arguments of qom-get and qom-set."""
    return {"path": "/objects/m0", "property": name, **value}


async def test_item_34_the_migration_object_is_user_creatable(boot):
    vm = await boot("migration-object", "-object", f"{M0},multifd-channels=4,postcopy-ram=on")
    assert await vm.parameters("multifd-channels") == 4
    assert vm.vm.migration.object.capabilities("postcopy-ram")
    assert await vm.qmp("qom-get", **prop("multifd-channels")) == 4
    assert await vm.qmp("qom-set", **prop("multifd-channels", value=6)) == {}
    assert await vm.parameters("multifd-channels") == 6
    assert await vm.qmp("migrate-set-parameters", **{"multifd-channels": 7}) == {}
    assert await vm.qmp("qom-get", **prop("multifd-channels")) == 7
    assert "Option multifd-channels expects" in await vm.qmp(
        "qom-set", **prop("multifd-channels", value=0)
    )
    vm = await boot("local", "-object", M0)
    assert "does not accept value 'migration'" in vm.error.text


async def test_item_34_by_object_add(boot):
    vm = await boot("migration-object")
    assert await vm.qmp("object-add", id="m0", **{"qom-type": "migration", "multifd": True}) == {}
    assert vm.vm.migration.object.capabilities("multifd")
    assert await vm.qmp("qom-get", **prop("multifd")) is True
    assert "in use" in await vm.qmp("object-del", id="m0")


@pytest.mark.parametrize(("choice", "channels"), [("refused", 4), ("current", 8)])
async def test_item_34_of_two_one_is_current(boot, choice, channels):
    vm = await boot(f"migration-object:second={choice}", "-object", f"{M0},multifd-channels=4")
    added = {"qom-type": "migration", "id": "m1", "multifd-channels": 8}
    reply = await vm.qmp("object-add", **added)
    assert reply == ("there is a migration object already: 'm0'" if channels == 4 else {})
    assert await vm.parameters("multifd-channels") == channels
    assert await vm.qmp("qom-set", **prop("multifd-channels", value=9)) == {}
    assert await vm.qmp("qom-get", **prop("multifd-channels")) == 9
    assert await vm.parameters("multifd-channels") == (9 if channels == 4 else 8)


async def test_item_34_a_second_one_begins_without_what_the_first_was_given(boot):
    design, bandwidth = "migration-object:second=current", ("multifd-channels", "max-bandwidth")
    first = {"multifd-channels": 4, "multifd": True}
    early = await boot(design, "-object", f"{M0},multifd-channels=4,multifd=on",
                       "-object", "migration,id=m1,max-bandwidth=1")  # fmt: skip
    late = await boot(design, "-object", json.dumps({"qom-type": "migration", "id": "m0", **first}))
    await late.qmp("migrate-set-parameters", **{"downtime-limit": 1})
    second = {"qom-type": "migration", "id": "m1", "max-bandwidth": 1}
    # what cannot be leaves the first one as it was
    refused = await late.qmp("object-add", **{**second, "multifd-channels": 0})
    assert "Option multifd-channels expects" in refused
    assert await late.parameters(*bandwidth, "downtime-limit") == [4, 134217728, 1]
    assert late.vm.migration.object.capabilities("multifd")
    assert await late.qmp("object-add", **second) == {}
    for vm in (early, late):
        assert await vm.parameters(*bandwidth, "downtime-limit") == [2, 1, 300]
        assert not vm.vm.migration.object.capabilities("multifd")
        assert await vm.qmp("qom-get", **prop("multifd-channels")) == 4
        assert await vm.qmp("qom-get", **prop("multifd")) is True
    assert await late.qmp("qom-get", **prop("downtime-limit")) == 1


async def test_item_34_a_second_one_does_not_come_while_a_migration_goes_on(boot):
    design = "migration-object:second=current"
    second = {"qom-type": "migration", "id": "m1"}
    source = await boot(design, "-machine", "q35", "-nodefaults", "-object", M0, clock="virtual")
    assert await source.qmp("qom-set", **prop("max-bandwidth", value=1)) == {}
    assert await source.qmp("migrate", uri="exec:cat >/dev/null") == {}
    target = await boot(design, "-incoming", "defer", "-object", M0)
    assert await target.qmp("migrate-incoming", uri=target.machine.migration_uri) == {}
    for vm in (source, target):
        refused = await vm.qmp("object-add", **second)
        assert refused == "There's a migration process in progress"
    assert await source.parameters("max-bandwidth") == 1


async def test_item_34_48_a_second_one_does_not_change_what_a_tap_has_read(boot):
    vm = await boot(
        "migration-object:second=current,local,immutable-local", "-incoming", "defer",
        *("-object", f"{M0},local=on", "-netdev", TAP),
    )  # fmt: skip
    second = {"qom-type": "migration", "id": "m1"}
    refused = await vm.qmp("object-add", **second)
    assert refused.startswith("you can not change 'local' parameter value")
    assert await vm.parameters("local") is True
    assert await vm.qmp("object-add", **second, local=True) == {}
    assert await vm.parameters("local") is True


async def test_missed_02_an_early_object_is_only_partly_made(boot):
    # it is there before the backends, over machine compat and -global; what is illegal only
    # shows when the rest of it is made
    vm = await boot(
        "migration-object,local", "-incoming", "defer", "-object", f"{M0},local=on",
        *("-netdev", TAP, "-global", "migration.multifd-channels=5"),
    )  # fmt: skip
    assert [(tap.local, tap.opened) for tap in vm.vm.taps] == [(True, False)]
    assert await vm.parameters("multifd-channels") == 5
    vm = await boot("migration-object", "-object", f"{M0},max-cpu-throttle=1")
    assert vm.error.message.startswith("Option max-cpu-throttle expects")


async def test_missed_07_one_object_has_parameters_and_compat_options(boot):
    vm = await boot("migration-object", "-object", f"{M0},send-configuration=off,multifd=on")
    assert await vm.qmp("qom-get", **prop("send-configuration")) is False
    assert "send-configuration: off" in await vm.machine.hmp("info migrate -a")
    assert await vm.qmp("qom-set", **prop("send-configuration", value=True)) == {}
    assert "send-configuration: on" in await vm.machine.hmp("info migrate -a")
    names = {each["name"] for each in await vm.qmp("qom-list", path="/objects/m0")}
    assert {"send-configuration", "multifd", "multifd-channels", "store-global-state"} <= names


async def test_item_33_missed_01_parameters_leave_the_migration_object(boot):
    channels = ("-global", "migration.multifd-channels=4")
    vm = await boot("parameters-object", *channels)
    assert vm.error.text == (
        "can't apply global migration.multifd-channels=4:"
        " Property 'migration.multifd-channels' not found"
    )
    # compatibility properties and capabilities are as before, those of machine types too
    vm = await boot(
        "parameters-object", "-machine", "pc-q35-8.2", "-nodefaults", "-S",
        *("-global", "migration.send-configuration=off"),
        *("-global", "migration.x-postcopy-ram=on"),
    )  # fmt: skip
    assert await vm.parameters("zero-page-detection") == "legacy"
    assert vm.vm.migration.object.capabilities("postcopy-ram")
    assert "send-configuration: off" in await vm.machine.hmp("info migrate -a")
    names = {p["name"] for p in await vm.qmp("device-list-properties", typename="migration")}
    assert "send-configuration" in names
    assert "multifd-channels" not in names


async def test_item_33_missed_01_an_object_of_another_type_has_them(boot):
    design = "parameters-object:type=migration-parameters"
    vm = await boot(design, "-global", "migration-parameters.multifd-channels=4")
    assert await vm.parameters("multifd-channels") == 4
    assert not vm.machine.stderr.getvalue()
    typename = "migration-parameters"
    names = {p["name"] for p in await vm.qmp("device-list-properties", typename=typename)}
    assert "multifd-channels" in names
    assert "send-configuration" not in names
    for option in ("migration.multifd-channels=4", "migration-parameters.send-configuration=on"):
        vm = await boot(design, "-global", option)
        assert "not found" in vm.error.text


async def test_missed_15_a_property_of_the_tap_beside_the_parameter(boot, tmp_path):
    design = "tap-cpr,local"
    channels = [
        {"channel-type": kind,
         "addr": {"transport": "socket", "type": "unix", "path": str(tmp_path / kind)}}
        for kind in ("main", "cpr")
    ]  # fmt: skip
    source = await boot(design, "-netdev", f"{TAP},cpr=on")
    await source.qmp("migrate-set-parameters", mode="cpr-transfer")
    target = asyncio.create_task(
        boot(design, "-incoming", "defer", "-incoming", json.dumps(channels[1]),
             "-netdev", f"{TAP},cpr=on")
    )  # fmt: skip
    while not (tmp_path / "cpr").exists():
        await asyncio.sleep(0)
    assert await source.qmp("migrate", channels=channels) == {}
    vm = await target
    # its descriptor came along: it need not open the interface
    assert vm.vm.saved_fds.find("n0") is not None
    assert [tap.opened for tap in vm.vm.taps] == [False]
    assert await vm.qmp("migrate-incoming", channels=channels[:1]) == {}
    await vm.machine.wait_for("migration", "completed", side="incoming")
    # without it a TAP opens its own, and no other knows the property
    vm = await boot(design, "-netdev", TAP)
    assert vm.vm.saved_fds.find("n0") is None
    assert [tap.opened for tap in vm.vm.taps] == [True]
    vm = await boot("local", "-netdev", f"{TAP},cpr=on")
    assert vm.error is not None
