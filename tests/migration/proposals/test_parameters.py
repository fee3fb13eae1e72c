"""Ideas about parameters: merged with capabilities, inline, early, and what a TAP sees of them.

The numbers are those of docs/proposals-ideas.md.
"""

from __future__ import annotations

import pytest

from fakeqemu.explain import explain_boot
from fakeqemu.profile import Profile

TAP = "tap,id=n0,ifname=tap0,script=no"
DEFER = ("-incoming", "defer")


def early_reads(design, name):
    """What each early read of `name` returned."""
    return [entry.data["value"] for entry in design.machine.journal.of("early-read", name)]


# -- capabilities are parameters -----------------------------------------------------------------


async def test_item_38_capabilities_are_parameters(boot):
    vm = await boot("merged-options,incoming-config", "-incoming", "config:postcopy-ram=on")
    assert await vm.parameters("postcopy-ram", "multifd") == [True, False]
    states = {c["capability"]: c["state"] for c in await vm.qmp("query-migrate-capabilities")}
    assert states["postcopy-ram"] is True
    assert await vm.qmp("migrate-set-parameters", multifd=True, **{"multifd-channels": 4}) == {}
    assert await vm.parameters("multifd", "multifd-channels") == [True, 4]
    assert "\nmultifd: on\n" in await vm.machine.hmp("info migrate_parameters")
    assert await vm.machine.hmp("migrate_set_parameter multifd off") == ""
    assert await vm.parameters("multifd") is False


async def test_item_38_the_rules_are_the_same_and_all_or_nothing(boot):
    vm = await boot("merged-options")
    refused = await vm.qmp(
        "migrate-set-parameters",
        **{"multifd-channels": 4, "postcopy-ram": True, "x-ignore-shared": True},
    )
    assert refused == "Postcopy is not compatible with ignore-shared"
    assert await vm.parameters("multifd-channels", "postcopy-ram") == [2, False]
    # a parameter and a capability that contradict each other within one call
    refused = await vm.qmp(
        "migrate-set-parameters",
        **{"zero-copy-send": True, "multifd": True, "multifd-compression": "zlib"},
    )
    assert refused == "Zero copy only available for non-compressed non-TLS multifd migration"
    assert await vm.parameters("zero-copy-send", "multifd-compression") == [False, "none"]


async def test_item_38_their_own_commands_are_deprecated(boot):
    vm = await boot("merged-options", "-compat", "deprecated-input=reject")
    for command in ("query-migrate-capabilities", "migrate-set-capabilities"):
        assert "disabled by policy" in await vm.qmp(command)
    vm = await boot("merged-options")
    schema = {entry["name"]: entry for entry in await vm.qmp("query-qmp-schema")}
    assert schema["migrate-set-capabilities"]["features"] == ["deprecated"]
    vm = await boot("local")
    assert "unexpected" in await vm.qmp("migrate-set-parameters", **{"postcopy-ram": True})


@pytest.mark.parametrize(
    ("choice", "reply"),
    [("refused", "There's a migration process in progress"), ("allowed", {})],
)
async def test_item_38_while_a_migration_runs(boot, choice, reply):
    vm = await boot(
        f"merged-options:running={choice}", "-machine", "q35", "-nodefaults", clock="virtual"
    )
    await vm.qmp("migrate-set-parameters", **{"max-bandwidth": 1})
    await vm.qmp("migrate", uri="exec:cat >/dev/null")
    assert await vm.qmp("migrate-set-parameters", **{"auto-converge": True}) == reply
    assert await vm.qmp("migrate-set-parameters", **{"max-bandwidth": 2}) == {}


# -- inline --------------------------------------------------------------------------------------


async def test_item_40_inline_values_are_for_one_migration(boot):
    vm = await boot("config-argument", *DEFER)
    reply = await vm.qmp(
        "migrate-incoming",
        uri=vm.machine.migration_uri,
        config={"multifd-channels": 5},
        capabilities=[{"capability": "multifd", "state": True}],
    )
    assert reply == {}
    assert vm.machine.parameters.get("multifd-channels") == 5
    assert vm.vm.migration.object.capabilities("multifd")
    assert await vm.parameters("multifd-channels") == 2


async def test_item_40_what_is_illegal_changes_nothing(boot):
    vm = await boot("config-argument", *DEFER)
    uri = vm.machine.migration_uri
    for arguments, text in (
        ({"config": {"multifd-channels": 0}}, "Option multifd-channels expects"),
        ({"config": {"nosuch": 0}}, "is unexpected"),
        ({"capabilities": [{"capability": "postcopy-preempt", "state": True}]}, "requires"),
        # legal by itself and not with the address
        ({"capabilities": [{"capability": "mapped-ram", "state": True}]}, "seekable transport"),
    ):
        assert text in await vm.qmp("migrate-incoming", uri=uri, **arguments)
        assert await vm.qmp("query-migrate") == {}
        assert not vm.vm.migration.object.capabilities("mapped-ram")
    assert await vm.qmp("migrate-incoming", uri=uri) == {}


@pytest.mark.parametrize(("choice", "after"), [("off", 134217728), ("on", 1 << 30)])
async def test_item_45_whether_inline_values_are_stored(boot, choice, after):
    vm = await boot(f"config-argument:stored={choice}", *("-machine", "q35", "-nodefaults"))
    await vm.qmp("migrate", uri="exec:cat >/dev/null", config={"max-bandwidth": 1 << 30})
    await vm.machine.wait_for("migration", "completed")
    assert await vm.parameters("max-bandwidth") == after
    assert vm.machine.parameters.get("max-bandwidth") == after


async def test_item_40_nothing_inline_when_a_migration_is_resumed(boot):
    vm = await boot("config-argument")
    for inline in ({"config": {}}, {"capabilities": []}):
        refused = await vm.qmp("migrate", uri="exec:true", resume=True, **inline)
        assert refused == "'config' and 'capabilities' cannot be given with 'resume'"
    assert "resume" in await vm.qmp("migrate", uri="exec:true", resume=True)


async def test_item_45_inline_values_end_with_a_cpr_exec_that_fails(boot):
    command = ["/nosuch"]
    vm = await boot("config-argument", "-machine", "pc", "-nodefaults")
    inline = {"mode": "cpr-exec", "cpr-exec-command": command}
    reply = await vm.qmp("migrate", uri=f"file:{vm.machine.directory}/f", config=inline)
    assert reply == {}
    await vm.machine.wait_for("migration", "failed")
    assert vm.machine.parameters.get("mode") == "normal"


async def test_item_44_inline_against_a_global_local_is_illegal(boot):
    design = "config-argument,local,incoming-config"
    vm = await boot(design, *DEFER, "-incoming", "config:local=on")
    uri = vm.machine.migration_uri
    text = "Parameter 'local' contradicts its global value, which is read when devices are made"
    assert await vm.qmp("migrate-incoming", uri=uri, config={"local": False}) == text
    assert await vm.qmp("query-migrate") == {}
    assert await vm.qmp("migrate-incoming", uri=uri, config={"local": True}) == {}


async def test_missed_13_what_modules_read_is_global(boot):
    vm = await boot("config-argument,local,incoming-config", *DEFER, "-netdev", TAP)
    # the TAP has opened its device: the value inline comes too late for it
    refused = await vm.qmp(
        "migrate-incoming", uri=vm.machine.migration_uri, config={"local": True}
    )
    assert refused == (
        "netdev 'n0' was created with migration parameter 'local' off, it is on now"
    )
    assert vm.machine.parameters.get("local") is False


# -- early reads ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unset", "local", "channels"),
    [("null", None, None), ("zeroed", False, 0), ("defaults", False, 2)],
)
async def test_item_25_what_an_unset_parameter_reads_as(boot, unset, local, channels):
    seen = []

    def look(vm):
        read = vm.taps.create

        def create(*arguments, **keywords):
            try:
                seen.append(vm.migration.parameters.early.read("multifd-channels"))
            except AssertionError:
                seen.append(None)
            return read(*arguments, **keywords)

        vm.taps.create = create

    vm = await boot(
        f"incoming-config,local,early-reads:unset={unset}", "-netdev", TAP, before_boot=[look]
    )
    assert early_reads(vm, "local") == [local]
    assert seen == [channels]
    assert await vm.parameters("multifd-channels") == 2


def test_missed_03_global_is_never_seen_early():
    options = ["-machine", "none", "-incoming", "defer", "-global", "migration.mode=cpr-transfer"]
    account = explain_boot(
        [*options, "-netdev", "tap,id=n0,fd=5"], Profile.load("11.1+incoming-config+local")
    )
    reads = [read for step in account["steps"] for read in step["early-reads"]]
    assert {"name": "mode", "value": "normal"} in reads
    modes = [each["value"] for each in account["parameters"] if each["name"] == "mode"]
    assert modes == ["cpr-transfer"]


async def test_missed_08_early_may_be_too_early(boot):
    # an outgoing side may give early values too, where the option is not about incoming; who
    # reads before the store is filled gets none
    vm = await boot("own-option,local", "-migration-parameters", "local=on", "-netdev", TAP)
    assert early_reads(vm, "local") == [True]
    assert [tap.opened for tap in vm.vm.taps] == [True]
    vm = await boot("qmp-preconfig,local", "-preconfig", "-netdev", TAP)
    assert early_reads(vm, "local") == [None]
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    assert [tap.local for tap in vm.vm.taps] == [False]


async def test_missed_11_mode_by_qmp_makes_a_deferred_target_a_cpr_one(boot):
    fd = {"type": "tap", "id": "n0", "fd": "500"}
    vm = await boot("incoming-config,local", *DEFER)
    await vm.qmp("migrate-set-parameters", mode="cpr-transfer")
    assert vm.vm.migration.parameters.cpr_is_incoming()
    vm = await boot("local", *DEFER)
    await vm.qmp("migrate-set-parameters", mode="cpr-transfer")
    assert not vm.vm.migration.parameters.cpr_is_incoming()
    assert await vm.qmp("netdev_add", **fd) != "cannot find saved value for fd 500"


# -- local ---------------------------------------------------------------------------------------


async def test_item_48_local_cannot_be_changed_while_incoming_is_awaited(boot):
    text = "you can not change 'local' parameter value after TAP device initialization"
    vm = await boot("local,immutable-local", *DEFER, "-netdev", TAP)
    assert await vm.qmp("migrate-set-parameters", local=True, **{"multifd-channels": 4}) == text
    assert await vm.parameters("multifd-channels") == 2
    assert await vm.qmp("migrate-set-parameters", local=False) == {}
    # without a TAP nobody has read it; without incoming it is for a migration to come
    vm = await boot("local,immutable-local", *DEFER)
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    vm = await boot("local,immutable-local", "-netdev", TAP)
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    # by whatever way
    vm = await boot("local,immutable-local,prepare-run", *DEFER, "-netdev", TAP)
    assert await vm.qmp("migrate_prepare", config={"local": True}) == text
    vm = await boot("local,immutable-local,config-argument", *DEFER, "-netdev", TAP)
    uri = vm.machine.migration_uri
    assert await vm.qmp("migrate-incoming", uri=uri, config={"local": True}) == text
    added = {"type": "tap", "id": "n0", "ifname": "tap0", "script": "no"}
    vm = await boot("local,immutable-local,qmp-first", "-preconfig", *DEFER)
    assert await vm.qmp("netdev_add", **added) == {}
    assert await vm.qmp("migrate-set-parameters", local=True) == text
    vm = await boot("local", *DEFER, "-netdev", TAP)
    assert await vm.qmp("migrate-set-parameters", local=True) == {}


async def test_item_56_local_in_preconfig_is_seen_by_netdev_add(boot):
    vm = await boot("qmp-preconfig,local", "-preconfig", *DEFER)
    assert await vm.qmp("migrate-set-parameters", local=True) == {}
    added = {"type": "tap", "id": "n0", "ifname": "tap0", "script": "no"}
    assert await vm.qmp("netdev_add", **added) == {}
    assert [(tap.local, tap.opened) for tap in vm.vm.taps] == [(True, False)]
    assert await vm.qmp("x-exit-preconfig") == {}
    assert await vm.parameters("local") is True
    vm = await boot("local", "-preconfig", *DEFER)
    assert "only after machine initialization" in await vm.qmp(
        "migrate-set-parameters", local=True
    )


async def test_missed_14_local_is_experimental(boot):
    vm = await boot("local", "-compat", "unstable-input=reject")
    refused = await vm.qmp("migrate-set-parameters", local=True)
    assert refused == "Unstable parameter local disabled by policy"
    added = {"type": "tap", "id": "n0", "ifname": "tap0", "script": "no"}
    assert "Unstable parameter" in await vm.qmp(
        "netdev_add", **added, **{"local-migration-supported": True}
    )


@pytest.mark.parametrize(("flag", "opened"), [("on", False), ("off", True)])
async def test_item_53_each_device_says_whether_it_takes_part(boot, flag, opened):
    vm = await boot(
        "local,incoming-config", *DEFER, "-incoming", "config:local=on",
        *("-netdev", f"{TAP},local-migration-supported={flag}"),
    )  # fmt: skip
    assert [tap.opened for tap in vm.vm.taps] == [opened]


@pytest.mark.parametrize("design", ["incoming-config", "own-option"])
def test_missed_12_a_daemon_in_mode_cpr_exec_never_returns(design):
    options = {
        "incoming-config": ["-incoming", "config:mode=cpr-exec"],
        "own-option": ["-migration-parameters", "mode=cpr-exec"],
    }
    for given, skipped in ((options[design], True), ([], False)):
        account = explain_boot(
            ["-machine", "none", "-daemonize", *given], Profile.load("11.1", [design])
        )
        post = next(step for step in account["steps"] if step["step"] == "setup post")
        assert post["reads"]["skipped"] is skipped
