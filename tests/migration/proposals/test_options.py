"""Ideas about the command line: JSON without a prefix, one JSON with the address, an own option."""

from __future__ import annotations

import asyncio
import json

import pytest

from fakeqemu.proposals import NAMES, proposal_of

TAP = "tap,id=n0,ifname=tap0,script=no"
ADDRESS = '{"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": "0"}'
MAIN = f'"channel-type": "main", "addr": {ADDRESS}'


async def test_item_08_json_without_prefix(boot):
    vm = await boot("incoming-json", "-incoming", '{"multifd-channels": 4}')
    assert await vm.parameters("multifd-channels") == 4
    assert await vm.status() == "running"
    vm = await boot("incoming-json", "-incoming", '{"nosuch": 4}')
    assert vm.error.text == "Parameter 'nosuch' is unexpected"
    vm = await boot("local", "-incoming", '{"multifd-channels": 4}')
    assert vm.error.text == "Parameter 'channel-type' is missing"


async def test_item_08_a_channel_stays_one(boot):
    vm = await boot("incoming-json", "-incoming", f"{{{MAIN}}}")
    assert (await vm.qmp("query-migrate"))["status"] == "setup"
    vm = await boot("incoming-json", "-incoming", f'{{"addr": {ADDRESS}}}')
    assert vm.error.text == "Parameter 'channel-type' is missing"


async def test_item_08_only_one(boot):
    vm = await boot("incoming-json", "-incoming", "{}", "-incoming", "{}")
    assert vm.error.message == "-incoming {}: Only one -incoming with parameters is allowed."


@pytest.mark.parametrize(("choice", "state"), [("runs", "running"), ("waits", "inmigrate")])
async def test_item_08_whether_alone_it_means_incoming(boot, choice, state):
    vm = await boot(f"incoming-json:alone={choice}", "-incoming", "{}")
    assert await vm.status() == state


async def test_missed_06_json_without_prefix_is_read_early(boot):
    vm = await boot(
        "incoming-json,local", "-incoming", "defer", "-incoming", '{"local": true}', "-netdev", TAP
    )
    assert [(tap.local, tap.opened) for tap in vm.vm.taps] == [(True, False)]


async def test_missed_05_legacy_text_or_one_json_with_address_and_parameters(boot):
    both = f'{{{MAIN}, "parameters": {{"multifd-channels": 6, "local": true}}}}'
    vm = await boot("json-or-legacy,local", "-incoming", both, "-netdev", TAP)
    # the address was taken: a TCP socket cannot carry devices
    assert vm.error.text == "local migration requires a UNIX domain socket channel"
    both = both.replace(', "local": true', "")
    vm = await boot("json-or-legacy", "-incoming", both)
    assert await vm.parameters("multifd-channels") == 6
    assert (await vm.qmp("query-migrate"))["socket-address"][0]["type"] == "inet"
    vm = await boot("json-or-legacy", "-incoming", "defer")
    assert await vm.status() == "inmigrate"
    vm = await boot("json-or-legacy", "-incoming", '{"parameters": {"multifd-channels": 6}}')
    assert await vm.status() == "running"
    vm = await boot("json-or-legacy", "-incoming", both, "-incoming", both)
    assert "Only one" in vm.error.text
    vm = await boot("json-or-legacy", "-incoming", "config:multifd-channels=6")
    assert "unknown migration protocol" in vm.error.text


async def test_item_22_an_option_of_its_own(boot):
    vm = await boot("own-option", "-migration-parameters", "multifd-channels=4")
    assert await vm.parameters("multifd-channels") == 4
    assert await vm.status() == "running"
    vm = await boot("own-option", *("-migration-parameters", "multifd-channels=4,max-bandwidth=1"),
                    *("-migration-parameters", '{"multifd-channels": 5}'))  # fmt: skip
    assert await vm.parameters("multifd-channels", "max-bandwidth") == [5, 1]
    groups = [each["option"] for each in await vm.qmp("query-command-line-options")]
    assert "migration-parameters" in groups
    vm = await boot("own-option", "-migration-parameters", "nosuch=1")
    assert vm.error.message == (
        "-migration-parameters nosuch=1: Parameter 'nosuch' is unexpected"
    )
    vm = await boot("local", "-migration-parameters", "multifd-channels=4")
    assert vm.error.message == "-migration-parameters: invalid option"


async def test_missed_10_a_cpr_channel_implies_no_mode(boot, tmp_path):
    path = tmp_path / "cpr"
    addresses = {
        kind: {"transport": "socket", "type": "unix", "path": str(tmp_path / kind)}
        for kind in ("main", "cpr")
    }
    channels = [{"channel-type": kind, "addr": addr} for kind, addr in addresses.items()]
    cpr = json.dumps(channels[1])
    source = await boot("explicit-mode,incoming-config", "-machine", "none")
    await source.qmp("migrate-set-parameters", mode="cpr-transfer")
    for mode in ("normal", "cpr-transfer"):
        options = ("-incoming", "defer", "-incoming", cpr, "-incoming", f"config:mode={mode}")
        if mode == "normal":
            options = options[:4]
        target = asyncio.create_task(boot("explicit-mode,incoming-config", *options))
        while not path.exists():
            await asyncio.sleep(0)
        assert await source.qmp("migrate", channels=channels) == {}
        vm = await target
        assert await vm.parameters("mode") == mode
        assert vm.vm.migration.parameters.cpr_is_incoming() is (mode == "cpr-transfer")
        await source.qmp("migrate_cancel")
        await source.machine.wait_for("migration", "cancelled")
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", NAMES)
async def test_item_39_no_design_makes_incoming_obsolete(boot, tmp_path, name):
    proposal = proposal_of(name)
    needed = ["own-option"] * (proposal.needs is not None)
    vm = await boot(
        ",".join([*proposal.requires, *needed, name]),
        *("-compat", "deprecated-input=reject", "-incoming", f"unix:{tmp_path / 'main'}"),
    )
    assert vm.error is None
    assert (await vm.qmp("query-migrate"))["status"] == "setup"
    assert "deprecated" not in vm.machine.stderr.getvalue()


async def test_item_39_a_new_option_has_no_legacy_text(boot):
    design = "migrate-incoming-option,config-argument"
    vm = await boot(design, "-migrate-incoming", "unix:/m")
    assert vm.error.text == "Invalid parameter 'unix:/m'"
    vm = await boot(design, "-migrate-incoming", "uri=defer")
    assert vm.error.text == "unknown migration protocol: defer"
