"""Ideas about when values of `config:` apply and what they win over.

The numbers are those of docs/proposals-ideas.md.
"""

from __future__ import annotations

import pytest

from fakeqemu.explain import explain_boot
from fakeqemu.migration.parameters.early import EarlyReadError
from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.profile import Profile

DESIGN = "incoming-config,local"
DEFER = ("-incoming", "defer")
OLD = ("-machine", "pc-q35-8.2", "-nodefaults", "-S")
ADDED = {"type": "tap", "id": "n0", "ifname": "tap0", "script": "no"}


def account(*options):
    """What a start with these options does."""
    return explain_boot(options, Profile.load("11.1", [DESIGN]))


async def test_item_10_default_machine_global_config_qmp(boot):
    name = "zero-page-detection"
    over = ("-global", f"migration.{name}=none")
    config = ("-incoming", f"config:{name}=multifd")
    for options, value in (
        (("-machine", "none"), "multifd"),
        (OLD, "legacy"),
        ((*OLD, *over), "none"),
        ((*OLD, *over, *config), "multifd"),
        ((*OLD, *config), "multifd"),
    ):
        vm = await boot(DESIGN, *options)
        assert await vm.parameters(name) == value
    vm = await boot(DESIGN, *OLD, *over, *config)
    await vm.qmp("migrate-set-parameters", **{name: "none"})
    assert vm.machine.parameters.explain(name).layers == {
        Layer.DEFAULT: "multifd",
        Layer.MACHINE: "legacy",
        Layer.GLOBAL: "none",
        Layer.CONFIG: "multifd",
        Layer.QMP: "none",
    }


@pytest.mark.parametrize(
    ("machine", "named"), [("pc-q35-5.2", ["zero-page-detection"]), ("pc-q35-11.1", [])]
)
def test_item_11_one_parameter_is_a_compatibility_property_too(machine, named):
    told = account("-machine", machine, "-nodefaults", "-incoming", "config:multifd-channels=4")
    found = [each["name"] for each in told["parameters"] if "machine compat" in each["layers"]]
    assert found == named
    assert not any("machine compat" in each["layers"] for each in told["capabilities"])


def test_item_12_the_object_is_made_after_machine_accelerator_and_backends():
    told = account("-machine", "none", "-incoming", "config:multifd-channels=4")
    steps = [step["step"] for step in told["steps"]]
    order = ["early parameters", "machine object", "accelerator", "net backends",
             "migration object"]  # fmt: skip
    assert [step for step in steps if step in order] == order
    made = next(step for step in told["steps"] if step["step"] == "migration object")
    assert made["reads"]["early"] == {"multifd-channels": 4}


LEGAL = ("-incoming", "config:max-cpu-throttle=40")
ILLEGAL = ("-global", "migration.x-cpu-throttle-initial=50", *LEGAL)
RANGE = "Option max-cpu-throttle expects an integer in the range of cpu-throttle-initial to 99"


async def test_item_13_what_is_legal_alone_is_refused_once_all_layers_are_on(boot):
    vm = await boot(DESIGN, *LEGAL)
    assert await vm.parameters("max-cpu-throttle") == 40
    for options in (
        ILLEGAL,
        # with the default, and with another compatibility
        ("-incoming", "config:max-cpu-throttle=1"),
        ("-incoming", "config:cpu-throttle-initial=99,max-cpu-throttle=98"),
    ):
        vm = await boot(DESIGN, *options)
        assert (vm.error.message, vm.error.code) == (RANGE, 1)


def test_item_13_its_client_was_greeted_and_sees_the_end_of_file(process):
    ended = process(f"11.1+{DESIGN.replace(',', '+')}", *ILLEGAL)
    assert [list(message) for message in ended.messages] == [["QMP"]]
    assert (ended.code, ended.said) == (1, RANGE)


async def test_item_14_exit_or_as_posted_an_abort(boot):
    vm = await boot(DESIGN, *ILLEGAL)
    assert (vm.error.code, vm.error.lines) == (1, (RANGE,))
    vm = await boot(DESIGN, *ILLEGAL, as_posted=True)
    assert vm.error.code == -6
    assert vm.error.heading.startswith("Unexpected error in migrate_params_check() at ")
    # what is illegal without config is not the posted code's
    vm = await boot(DESIGN, "-global", "migration.multifd-channels=0", as_posted=True)
    assert vm.error.code == 1


async def test_item_16_after_the_start_there_is_one_store(boot):
    vm = await boot(DESIGN, *DEFER, "-incoming", "config:local=on")
    with pytest.raises(EarlyReadError):
        vm.vm.migration.parameters.early.read("local")
    assert vm.vm.migration.parameters.early.values() == {}
    # what QMP changes is what is read from then on
    await vm.qmp("migrate-set-parameters", local=False)
    await vm.qmp("netdev_add", **ADDED)
    assert [(tap.local, tap.opened) for tap in vm.vm.taps] == [(False, True)]


async def test_item_17_qmp_changes_what_config_gave(boot):
    vm = await boot(DESIGN, "-incoming", "config:multifd-channels=4,max-bandwidth=1M")
    assert await vm.qmp("migrate-set-parameters", **{"multifd-channels": 5}) == {}
    assert await vm.parameters("multifd-channels", "max-bandwidth") == [5, 1 << 20]
    # the rules are those of the merged set
    refused = await vm.qmp("migrate-set-parameters", **{"max-cpu-throttle": 1})
    assert refused == RANGE
    assert await vm.parameters("multifd-channels", "max-bandwidth") == [5, 1 << 20]


async def test_item_18_global_works_beside_it(boot):
    vm = await boot(
        DESIGN, "-incoming", "config:multifd-channels=4",
        *("-global", "migration.multifd-channels=3", "-global", "migration.x-max-bandwidth=1M"),
        *("-global", "migration.send-configuration=off", "-global", "migration.x-multifd=on"),
    )  # fmt: skip
    assert await vm.parameters("multifd-channels", "max-bandwidth") == [4, 1 << 20]
    assert vm.vm.migration.object.capabilities("multifd")
    assert "send-configuration: off" in await vm.machine.hmp("info migrate -a")


async def test_item_19_only_migratable_is_no_parameter(boot):
    vm = await boot(DESIGN, "-incoming", "config:only-migratable=on")
    assert vm.error.text == "Parameter 'only-migratable' is unexpected"
    # so nothing takes it back
    vm = await boot(DESIGN, "-only-migratable")
    refused = await vm.qmp("migrate-set-parameters", **{"only-migratable": False})
    assert refused == "Parameter 'only-migratable' is unexpected"
    assert "only-migratable: on" in await vm.machine.hmp("info migrate -a")
