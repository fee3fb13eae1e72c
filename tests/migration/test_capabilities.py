"""Capabilities: which may be on together, by version; when they may change."""

from __future__ import annotations

import pytest

from fakeqemu.clock import SECOND


@pytest.mark.parametrize(
    ("version", "names", "text"),
    [
        ("7.2", ["multifd", "compress"], "Multifd is not compatible with compress"),
        ("7.2", ["multifd", "xbzrle"], None),
        ("10.0", ["multifd", "xbzrle"], "Multifd is not compatible with xbzrle"),
        ("10.0", ["postcopy-ram", "multifd"], "Postcopy is not yet compatible with multifd"),
        ("11.1", ["postcopy-ram", "multifd"], None),
        ("10.0", ["x-colo"], None),
        ("11.1", ["x-colo"], "Capability 'x-colo' requires capability 'return-path'"),
        ("11.1", ["switchover-ack"],
         "Capability 'switchover-ack' requires capability 'return-path'"),
        ("11.1", ["background-snapshot", "multifd", "return-path"],
         "Background-snapshot is not compatible with return-path"),
        ("11.1", ["mapped-ram", "postcopy-ram"],
         "Mapped-ram migration is incompatible with postcopy"),
        ("11.1", ["zero-copy-send"],
         "Zero copy only available for non-compressed non-TLS multifd migration"),
    ],
)  # fmt: skip
def test_sets_are_judged_as_a_whole(make, version, names, text):
    vm = make(version)
    wanted = [{"capability": name, "state": True} for name in names]
    if text is None:
        vm.command("migrate-set-capabilities", capabilities=wanted)
        assert all(vm.migration.capabilities(name) for name in names)
    else:
        assert vm.refused("migrate-set-capabilities", capabilities=wanted) == text
        assert not any(vm.migration.capabilities(name) for name in names)


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_names_and_order_are_the_recorded_ones(make, version):
    vm = make(version)
    assert vm.command("query-migrate-capabilities") == vm.profile.per_machine("none")[
        "capabilities"
    ]


def test_of_a_name_given_twice_the_last_state_counts(make):
    vm = make()
    vm.command(
        "migrate-set-capabilities",
        capabilities=[
            {"capability": "events", "state": True},
            {"capability": "events", "state": False},
        ],
    )
    assert not vm.migration.capabilities("events")


def test_a_deprecated_one_warns_at_each_check(make):
    vm = make("10.0")
    vm.switch("zero-blocks")
    vm.switch("events")
    assert vm.host.warnings == ["warning: zero-blocks capability is deprecated"] * 2


def test_nothing_may_change_while_a_migration_runs_not_even_nothing(make, clock):
    vm = make(machine_type="q35")
    vm.set(max_bandwidth=1000)
    vm.command("migrate", uri="exec:cat")
    clock.advance(SECOND)
    assert vm.status == "active"
    text = vm.refused("migrate-set-capabilities", capabilities=[])
    assert text == "There's a migration process in progress"
    vm.command("migrate_cancel")
    clock.advance(SECOND)
    vm.switch("events")


def test_multifd_must_be_on_before_listening(make):
    vm = make(inmigrate=True)
    vm.switch("multifd")
    vm.switch("multifd", state=False)
    vm.command("migrate-incoming", uri="unix:/m")
    wanted = [{"capability": "multifd", "state": True}]
    text = vm.refused("migrate-set-capabilities", capabilities=wanted)
    assert text == "Multifd must be set before incoming starts"
    vm.switch("return-path")


def test_7_2_asks_for_the_transport_instead(make):
    vm = make("7.2", inmigrate=True)
    vm.command("migrate-incoming", uri="exec:cat")
    wanted = [{"capability": "multifd", "state": True}]
    text = vm.refused("migrate-set-capabilities", capabilities=wanted)
    assert text == "multifd is not supported by current protocol"
