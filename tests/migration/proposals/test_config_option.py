"""Ideas about `-incoming config:` itself: what it takes, how often, and in which spelling.

The numbers are those of docs/proposals-ideas.md.
"""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from fakeqemu.profile import Profile

DESIGN = "incoming-config,local"
DEFER = ("-incoming", "defer")

#: a value other than the default for each parameter that takes more than one
VALUES = {
    "announce-initial": 51,
    "announce-max": 551,
    "announce-rounds": 6,
    "announce-step": 101,
    "throttle-trigger-threshold": 51,
    "cpu-throttle-initial": 21,
    "cpu-throttle-increment": 11,
    "cpu-throttle-tailslow": True,
    "max-cpu-throttle": 98,
    "tls-creds": "creds",
    "tls-hostname": "host",
    "tls-authz": "authz",
    "max-bandwidth": 1 << 20,
    "avail-switchover-bandwidth": 1 << 21,
    "downtime-limit": 301,
    "x-checkpoint-delay": 20001,
    "multifd-channels": 4,
    "xbzrle-cache-size": 1 << 20,
    "max-postcopy-bandwidth": 1 << 22,
    "multifd-compression": "zlib",
    "multifd-zlib-level": 2,
    "multifd-qatzip-level": 2,
    "multifd-zstd-level": 2,
    "block-bitmap-mapping": [{"node-name": "n", "alias": "a", "bitmaps": []}],
    "x-vcpu-dirty-limit-period": 999,
    "vcpu-dirty-limit": 2,
    "mode": "cpr-reboot",
    "zero-page-detection": "legacy",
    "direct-io": True,
    "x-rdma-chunk-size": 1 << 21,
    "cpr-exec-command": ["/bin/new", "-S"],
    "local": True,
}


def keyval(name, value):
    """key=value as the option takes it; a list by its members' numbers."""
    if isinstance(value, list):
        members = enumerate(value)
        return ",".join(keyval(f"{name}.{number}", member) for number, member in members)
    if isinstance(value, dict):
        return ",".join(keyval(f"{name}.{key}", member) for key, member in value.items() if member)
    return f"{name}={value if not isinstance(value, bool) else 'on' if value else 'off'}"


async def test_item_01_any_migration_parameter_at_boot(boot):
    members = Profile.load("11.1", ["local"]).migration_defaults.parameters
    assert set(VALUES) == set(members) | {"block-bitmap-mapping"}
    vm = await boot(DESIGN)
    before = await vm.qmp("query-migrate-parameters")
    assert all(before.get(name) != value for name, value in VALUES.items())
    vm = await boot(DESIGN, "-incoming", f"config:{json.dumps(VALUES)}")
    assert await vm.qmp("query-migrate-parameters") == VALUES


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("nosuch=1", "Parameter 'nosuch' is unexpected"),
        ("multifd-channels", "Expected '=' after parameter 'multifd-channels'"),
        ("multifd-channels=abc", "Parameter 'multifd-channels' expects integer"),
        ("multifd-channels=256", "Parameter 'multifd-channels' expects uint8_t"),
        ("max-bandwidth=1Q", "Parameter 'max-bandwidth' expects size"),
        ("local=maybe", "Parameter 'local' expects 'on' or 'off'"),
        ("help", "Help is not available for this option"),
    ],
)
async def test_item_01_faults_name_the_option_and_come_before_any_socket(
    boot, tmp_path, given, fault
):
    path = tmp_path / "qmp"
    monitor = ("-qmp", f"unix:{path},server=on,wait=off")
    vm = await boot(DESIGN, *monitor, "-incoming", f"config:{given}")
    assert vm.error.message == f"-incoming config:{given}: {fault}"
    assert vm.error.code == 1
    assert not path.exists()


@pytest.mark.parametrize("second", ["", "multifd-channels=4", "nosuch=1", "{"])
@pytest.mark.parametrize("first", ["", "multifd-channels=4"])
async def test_item_02_only_one_whatever_they_say(boot, first, second):
    options = ("-incoming", f"config:{first}", *DEFER, "-incoming", f"config:{second}")
    vm = await boot(DESIGN, *options, "-version")
    only = "Only one -incoming config:* is allowed."
    assert vm.error.message == f"-incoming config:{second}: {only}"
    assert vm.error.code == 1


async def test_item_03_mixed_with_channels_in_any_order_and_the_last_channel_counts(
    boot, tmp_path
):
    addresses = [f"unix:{tmp_path / 'first'}", f"unix:{tmp_path / 'second'}"]
    for order in permutations(["config:multifd-channels=4", *addresses]):
        vm = await boot(DESIGN, *(word for text in order for word in ("-incoming", text)))
        last = next(text for text in reversed(order) if text in addresses)
        shown = (await vm.qmp("query-migrate"))["socket-address"]
        assert [f"unix:{each['path']}" for each in shown] == [last]
        assert await vm.parameters("multifd-channels") == 4


@pytest.mark.parametrize(
    "name", ["multifd-channels", "max-bandwidth", "local", "mode", "tls-creds"]
)
async def test_item_04_json_and_key_value_come_to_the_same(boot, name):
    value = VALUES[name]
    shown = []
    for text in (json.dumps({name: value}), keyval(name, value)):
        vm = await boot(DESIGN, *DEFER, "-incoming", f"config:{text}")
        shown.append(await vm.qmp("query-migrate-parameters"))
    assert shown[0] == shown[1]
    assert shown[0][name] == value


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"multifd-channels": "4"}, "Parameter 'multifd-channels' expects uint64"),
        ({"max-bandwidth": "1M"}, "Parameter 'max-bandwidth' expects uint64"),
        ({"local": "on"}, "Invalid parameter type for 'local', expected: boolean"),
        ({"mode": 1}, "Invalid parameter type for 'mode', expected: string"),
    ],
)
async def test_item_04_json_has_types(boot, given, fault):
    vm = await boot(DESIGN, "-incoming", f"config:{json.dumps(given)}")
    assert vm.error.text == fault


async def test_item_05_null_can_be_said_in_json_only(boot):
    below = ("-global", "migration.tls-creds=below")
    vm = await boot(DESIGN, *below, "-incoming", 'config:{"tls-creds": null}')
    assert await vm.parameters("tls-creds") == ""
    vm = await boot(DESIGN, *below, "-incoming", "config:tls-creds=null")
    assert await vm.parameters("tls-creds") == "null"


@pytest.mark.parametrize("name", ["block-bitmap-mapping", "cpr-exec-command"])
async def test_item_05_a_list_is_no_scalar(boot, name):
    vm = await boot(DESIGN, "-incoming", f"config:{json.dumps({name: VALUES[name]})}")
    assert await vm.parameters(name) == VALUES[name]
    vm = await boot(DESIGN, "-incoming", f"config:{name}=x")
    assert vm.error.text == f"Invalid parameter type for '{name}', expected: array"


async def test_item_06_capabilities_are_no_parameters(boot):
    names = Profile.load("11.1").migration_defaults.capabilities
    assert len(names) == 21
    for name in names:
        vm = await boot(DESIGN, "-incoming", f"config:{name}=on")
        assert vm.error.text == f"Parameter '{name}' is unexpected"
    # unless they are, by another proposal
    vm = await boot(f"{DESIGN},merged-options", "-incoming", "config:postcopy-ram=on")
    assert vm.vm.migration.object.capabilities("postcopy-ram")


@pytest.mark.parametrize("text", ["Config:", "CONFIG:", "configs:", "xconfig:"])
async def test_item_07_the_prefix_is_strict(boot, text):
    text += "multifd-channels=4"
    vm = await boot(DESIGN, "-incoming", text)
    assert vm.error.text == f"unknown migration protocol: {text}"
    # without a colon it is the type of a channel
    vm = await boot(DESIGN, "-incoming", "config")
    assert vm.error.text == "Parameter 'channel-type' does not accept value 'config'"
    # and no released version knows it
    vm = await boot("local", "-incoming", "config:multifd-channels=4")
    assert vm.error.text == "unknown migration protocol: config:multifd-channels=4"
