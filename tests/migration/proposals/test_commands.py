"""Ideas about commands: migrate-incoming on the command line, and a migration in two phases."""

from __future__ import annotations

import json

import pytest

from fakeqemu.migration.parameters.early import EarlyParameters
from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.testing import FakeQemu, QmpError

IMPLIED = Layer.IMPLIED

TAP = "tap,id=n0,ifname=tap0,script=no"
DEFER = ("-incoming", "defer")


# -- -migrate-incoming ---------------------------------------------------------------------------


async def test_item_41_migrate_incoming_is_an_option(boot, tmp_path):
    arguments = {
        "uri": f"unix:{tmp_path / 'main'}",
        "config": {"multifd-channels": 4, "local": True},
        "capabilities": [{"capability": "multifd", "state": True}],
        "exit-on-error": False,
    }
    vm = await boot(
        "migrate-incoming-option,config-argument,local",
        *("-migrate-incoming", json.dumps(arguments), "-netdev", TAP),
    )
    assert await vm.status() == "inmigrate"
    assert (await vm.qmp("query-migrate"))["socket-address"][0]["type"] == "unix"
    assert await vm.parameters("multifd-channels", "local") == [4, True]
    assert vm.vm.migration.object.capabilities("multifd")
    # the parameters came early enough for a TAP
    assert [(tap.local, tap.opened) for tap in vm.vm.taps] == [(True, False)]
    assert vm.vm.migration.object.incoming.exit_on_error is False


async def test_item_41_without_an_address_it_waits_for_the_command(boot):
    vm = await boot(
        "migrate-incoming-option,config-argument", "-migrate-incoming", "config.multifd-channels=4"
    )
    assert await vm.status() == "inmigrate"
    assert await vm.qmp("query-migrate") == {}
    assert await vm.parameters("multifd-channels") == 4
    assert await vm.qmp("migrate-incoming", uri=vm.machine.migration_uri) == {}


async def test_item_41_exit_on_error_without_an_address_is_for_the_command(boot):
    design = "migrate-incoming-option,config-argument"
    for given, command, exits in (
        ('{"exit-on-error": false}', {}, False),
        ('{"exit-on-error": false}', {"exit-on-error": True}, True),
        ("{}", {}, True),
    ):
        vm = await boot(design, "-migrate-incoming", given)
        assert await vm.qmp("migrate-incoming", uri=vm.machine.migration_uri, **command) == {}
        assert vm.vm.migration.object.incoming.exit_on_error is exits


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["{}", "-migrate-incoming", "{}"], "Only one -migrate-incoming is allowed."),
        (["{}", *DEFER], "-migrate-incoming and a main channel by -incoming are mutually"),
        (['{"uri": "bogus:"}'], "unknown migration protocol: bogus:"),
        (['{"uri": "tcp:a:1", "channels": [{}]}'], "Parameter 'channels[0].channel-type' is miss"),
        (['{"config": {"multifd-channels": 0}}'], "Option multifd-channels expects"),
        (["nosuch=1"], "Parameter 'nosuch' is unexpected"),
    ],
)
async def test_item_41_what_is_refused(boot, options, text):
    vm = await boot("migrate-incoming-option,config-argument", "-migrate-incoming", *options)
    assert text in vm.error.message
    vm = await boot("config-argument", "-migrate-incoming", *options)
    assert vm.error.message == "-migrate-incoming: invalid option"


async def test_item_41_42_a_command_on_the_command_line_comes_alone(boot):
    both = "migrate-incoming-option,config-argument,prepare-run"
    options = ["-migrate-incoming", "-migrate-prepare"]
    for first, second in (options, reversed(options)):
        vm = await boot(both, first, "{}", second, "{}")
        assert vm.error.message == (
            f"{second} {{}}: {second} and a main channel by {first} are mutually exclusive"
        )


# -- migrate_prepare, migrate_run ----------------------------------------------------------------


async def test_item_42_prepare_sets_and_run_starts(boot):
    vm = await boot("prepare-run", *DEFER)
    uri = vm.machine.migration_uri
    assert await vm.qmp("migrate_run", uri=uri) == "No migration has been prepared"
    assert "Option multifd-channels" in await vm.qmp(
        "migrate_prepare", config={"multifd-channels": 0, "max-bandwidth": 1}
    )
    assert await vm.qmp("query-migrate") == {}
    states = [{"capability": "multifd", "state": True}]
    prepared = {"config": {"multifd-channels": 4}, "capabilities": states}
    assert await vm.qmp("migrate_prepare", **prepared) == {}
    assert await vm.qmp("query-migrate") == {"status": "prepared"}
    assert await vm.parameters("multifd-channels") == 4
    fixed = "A migration has been prepared, its parameters are fixed"
    assert await vm.qmp("migrate-set-parameters", **{"multifd-channels": 5}) == fixed
    assert await vm.qmp("migrate-set-capabilities", capabilities=states) == fixed
    twice = "A migration has been prepared already"
    assert await vm.qmp("migrate_prepare") == twice
    assert await vm.qmp("migrate-incoming", uri=uri) == twice
    # what cannot run stays prepared
    assert "multi-channel" in await vm.qmp("migrate_run", uri="exec:true")
    assert await vm.qmp("query-migrate") == {"status": "prepared"}
    assert await vm.qmp("migrate_run", uri=uri) == {}
    assert (await vm.qmp("query-migrate"))["status"] == "setup"
    vm = await boot("local", *DEFER)
    assert "has not been found" in await vm.qmp("migrate_prepare")


async def test_item_42_a_prepared_one_is_called_off(boot):
    vm = await boot("prepare-run")
    assert await vm.qmp("migrate_prepare") == {}
    assert await vm.qmp("migrate_cancel") == {}
    assert await vm.qmp("query-migrate") == {}
    assert await vm.qmp("migrate-set-parameters", **{"multifd-channels": 5}) == {}


async def test_item_42_an_outgoing_one(boot):
    vm = await boot("prepare-run", "-machine", "q35", "-nodefaults")
    assert await vm.qmp("migrate_prepare", config={"max-bandwidth": 1 << 40}) == {}
    assert await vm.qmp("migrate", uri="exec:true") == "A migration has been prepared already"
    assert await vm.qmp("migrate_run", uri="exec:cat >/dev/null") == {}
    await vm.machine.wait_for("migration", "completed")
    vm = await boot("prepare-run:outgoing=off")
    assert "was not specified" in await vm.qmp("migrate_prepare")


async def test_item_42_the_address_may_be_part_of_the_preparations(boot):
    vm = await boot("prepare-run:address=prepare", *DEFER)
    assert "need either" in await vm.qmp("migrate_prepare")
    assert await vm.qmp("migrate_prepare", uri=vm.machine.migration_uri) == {}
    assert "unexpected" in await vm.qmp("migrate_run", uri="exec:true")
    assert await vm.qmp("migrate_run") == {}
    assert (await vm.qmp("query-migrate"))["status"] == "setup"


async def test_item_42_an_address_on_the_command_line_is_judged_as_by_qmp(boot):
    design = "prepare-run:address=prepare"
    states = [{"capability": "multifd", "state": True}]
    main = {"channel-type": "main", "addr": {"transport": "exec", "args": ["/bin/true"]}}
    for given, text in (
        ({}, "need either 'uri' or 'channels' argument"),
        ({"uri": "exec:true", "capabilities": states}, "Migration requires multi-channel URIs"),
        ({"channels": [main], "capabilities": states}, "Migration requires multi-channel URIs"),
    ):
        vm = await boot(design, "-migrate-prepare", json.dumps(given))
        assert vm.error.message.startswith(f"-migrate-prepare {json.dumps(given)}: {text}")
        vm = await boot(design, *DEFER)
        assert text in await vm.qmp("migrate_prepare", **given)
        assert await vm.qmp("query-migrate") == {}


async def test_item_42_on_the_command_line(boot):
    vm = await boot(
        "prepare-run,local", "-migrate-prepare", '{"config": {"local": true}}', "-netdev", TAP
    )
    assert await vm.status() == "inmigrate"
    assert await vm.qmp("query-migrate") == {"status": "prepared"}
    assert [(tap.local, tap.opened) for tap in vm.vm.taps] == [(True, False)]
    assert await vm.qmp("migrate_run", uri=vm.machine.migration_uri) == {}


async def jobs(vm):
    """(type, status) of each job."""
    return [(job["type"], job["status"]) for job in await vm.qmp("query-jobs")]


async def test_item_42_as_a_job(boot):
    vm = await boot("prepare-run:jobs=on:address=prepare", "-machine", "q35", "-nodefaults")
    assert await vm.qmp("migrate_prepare", uri="exec:cat >/dev/null") == {}
    assert await jobs(vm) == [("migration", "ready")]
    assert await vm.qmp("job-complete", id="migration") == {}
    await vm.machine.wait_for("job", "migration", state="concluded", type="migration")
    assert await jobs(vm) == [("migration", "concluded")]
    assert (await vm.qmp("query-migrate"))["status"] == "completed"
    assert await vm.qmp("job-dismiss", id="migration") == {}
    assert await jobs(vm) == []


async def test_item_42_a_job_that_is_called_off(boot):
    vm = await boot("prepare-run:jobs=on", *DEFER)
    assert await vm.qmp("migrate_prepare") == {}
    # it cannot run without an address
    assert "need either" in await vm.qmp("job-complete", id="migration")
    assert await vm.qmp("job-cancel", id="migration") == {}
    assert await jobs(vm) == [("migration", "concluded")]
    assert await vm.qmp("query-migrate") == {}
    assert await vm.qmp("job-dismiss", id="migration") == {}
    assert await vm.qmp("migrate_prepare") == {}
    assert await vm.qmp("migrate_cancel") == {}
    assert await jobs(vm) == [("migration", "concluded")]
    assert await vm.qmp("query-migrate") == {}


async def test_item_42_what_cannot_be_a_job_is_not_prepared(boot):
    vm = await boot("prepare-run:jobs=on", *DEFER)
    assert await vm.qmp("migrate_prepare") == {}
    assert await vm.qmp("migrate_cancel") == {}
    # the job of the one that was called off is not dismissed yet
    refused = await vm.qmp("migrate_prepare", config={"multifd-channels": 7})
    assert refused == "Job ID 'migration' already in use"
    assert await vm.qmp("query-migrate") == {}
    assert await vm.parameters("multifd-channels") == 2


async def test_item_42_cancelling_the_job_cancels_the_migration(boot):
    design = "prepare-run:jobs=on"
    vm = await boot(design, "-machine", "q35", "-nodefaults", clock="virtual")
    assert await vm.qmp("migrate_prepare", config={"max-bandwidth": 1}) == {}
    assert await vm.qmp("migrate_run", uri="exec:cat >/dev/null") == {}
    assert await vm.qmp("job-cancel", id="migration") == {}
    assert await jobs(vm) == [("migration", "concluded")]
    assert (await vm.qmp("query-migrate"))["status"] in ("cancelling", "cancelled")
    # nothing can cancel an incoming one
    vm = await boot(design, *DEFER)
    assert await vm.qmp("migrate_prepare") == {}
    assert await vm.qmp("migrate_run", uri=vm.machine.migration_uri) == {}
    refused = await vm.qmp("job-cancel", id="migration")
    assert refused == "An incoming migration cannot be cancelled"
    assert await jobs(vm) == [("migration", "ready")]


async def test_missed_09_preparing_resets_the_mode(boot, tmp_path):
    vm = await boot("prepare-run,incoming-config")
    vm.vm.migration.object.parameters.lay(IMPLIED, "mode", "cpr-transfer")
    assert await vm.parameters("mode") == "cpr-transfer"
    assert await vm.qmp("migrate_prepare") == {}
    assert await vm.parameters("mode") == "normal"


# -- qmp-first -----------------------------------------------------------------------------------


async def test_item_43_a_start_by_qmp_alone(boot, tmp_path):
    machine = FakeQemu(profile="11.1", proposals=["qmp-first,local"])
    async with machine as vm:
        # FakeQemu gives it one -qmp and nothing else
        assert (await vm.qmp("query-status"))["status"] == "prelaunch"
        walked = [entry.name for entry in vm.boot_log]
        assert "monitors" in walked
        assert not {"net backends", "late objects", "tpm", "migration object"} & set(walked)
        await vm.qmp("migrate-set-parameters", {"multifd-channels": 4})
        with pytest.raises(QmpError, match="only after machine initialization"):
            await vm.qmp("query-migrate-parameters")
        await vm.qmp("object-add", {"qom-type": "rng-random", "id": "r0"})
        assert await vm.qmp("x-exit-preconfig") == {}
        assert (await vm.qmp("query-migrate-parameters"))["multifd-channels"] == 4
        assert (await vm.qmp("query-status"))["status"] == "running"
        assert vm.parameters.explain("multifd-channels").winner is Layer.QMP


async def test_item_43_the_machine_is_known_before_its_backends(boot):
    options = ("-machine", "q35", "-smp", "2", "-m", "64", "-nodefaults", "-preconfig")
    vm = await boot("qmp-first", *options)
    slots = await vm.qmp("query-hotpluggable-cpus")
    assert [(each["type"], each["props"]["core-id"]) for each in slots] == [
        ("qemu64-x86_64-cpu", 1), ("qemu64-x86_64-cpu", 0)
    ]  # fmt: skip
    memory = {"qom-type": "memory-backend-ram", "id": "m0", "size": 64 << 20}
    assert await vm.qmp("object-add", **memory) == {}
    assert await vm.qmp("set-numa-node", type="node", nodeid=0, memdev="m0") == {}
    assert await vm.qmp("x-exit-preconfig") == {}
    assert all("qom-path" in each for each in await vm.qmp("query-hotpluggable-cpus"))


async def test_item_43_what_qmp_sets_is_seen_by_backends(boot):
    vm = await boot("qmp-first:query=given,local", "-preconfig", *DEFER, "-netdev", TAP)
    assert await vm.qmp("query-migrate-parameters") == {}
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    assert await vm.qmp("query-migrate-parameters") == {"local": True}
    added = {"type": "tap", "id": "n1", "ifname": "tap1", "script": "no"}
    assert await vm.qmp("netdev_add", **added) == {}
    assert await vm.qmp("x-exit-preconfig") == {}
    # the one of the command line is made after that
    assert [(tap.id, tap.opened) for tap in vm.vm.taps] == [("n1", False), ("n0", False)]
    vm = await boot("local", "-preconfig", *DEFER, "-netdev", TAP)
    assert "only after machine initialization" in await vm.qmp(
        "migrate-set-parameters", local=True
    )


async def test_item_43_qmp_overrules_the_mode_of_a_cpr_channel_early_as_later():
    early = EarlyParameters()
    early.imply_mode("cpr-transfer")
    early.add_config({"mode": "normal"}, Layer.QMP)
    assert early.read("mode") == "normal"
    assert early.implied_mode == "cpr-transfer"


async def test_item_43_what_is_illegal_ends_the_process_when_the_rest_is_made(boot):
    vm = await boot("qmp-first", "-preconfig")
    assert await vm.qmp("migrate-set-parameters", **{"max-cpu-throttle": 1}) == {}
    await vm.qmp("x-exit-preconfig")
    assert await vm.machine.wait_exit() == 1
    assert "Option max-cpu-throttle expects" in vm.machine.stderr.getvalue()
