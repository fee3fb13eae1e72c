"""How CPUs are numbered on machine types whose numbering was recorded."""

from __future__ import annotations

import pytest

from fakeqemu.model.boards.targets.cpu_slots import slots_of


def machine(levels, props, special=(), alone=None, **more):
    """`machine-data` of a type whose CPUs have `props`, a function of their number."""
    number = 1
    for each in levels.values():
        number *= each
    cpus = [{"cpu-index": n, "qom-path": "/machine/unattached/device[0]", "props": props(n)}
            for n in range(number)]  # fmt: skip
    first = {**cpus[0], "props": props(0) if alone is None else alone}
    topology = {"levels": levels, "special": list(special), "cpus": cpus, "slots": None}
    topology |= {"cpu-values": {}, "type": "x-cpu", **more}
    return {"cpus": [first], "topology": topology}


def levels(**given):
    names = ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")
    return {**dict.fromkeys(names, 1), **given}


def test_numbers_within_each_level():
    """As those of Arm's virt machines are."""
    facts = machine(
        {"sockets": 2, "clusters": 2, "cores": 2, "threads": 2},
        lambda n: {
            "socket-id": n // 8, "cluster-id": n // 4 % 2, "core-id": n // 2 % 2, "thread-id": n % 2
        },
        special=("clusters",),
    )  # fmt: skip
    slots = slots_of(facts)
    assert slots.levels == ("clusters",)
    found = slots.props(7, levels(sockets=1, clusters=2, cores=3, threads=2))
    assert found == {"socket-id": 0, "cluster-id": 1, "core-id": 0, "thread-id": 1}


def test_numbers_that_count_cpus():
    """As those of s390x are: a core's number is the CPU's."""
    facts = machine(
        {"drawers": 2, "sockets": 2, "cores": 2},
        lambda n: {"core-id": n, "socket-id": n // 2 % 2, "drawer-id": n // 4},
    )
    found = slots_of(facts).props(5, levels(drawers=1, sockets=2, cores=3))
    assert found == {"core-id": 5, "socket-id": 1, "drawer-id": 0}


def test_cores_that_are_numbered_by_their_first_thread():
    """As those of pseries are; each CPU is on a node, whether there are any or not."""
    facts = machine(
        {"sockets": 2, "cores": 2, "threads": 2},
        lambda n: {"core-id": n - n % 2, "node-id": 0},
        slots=[{"type": "x-core", "vcpus-count": 2}],
    )
    slots = slots_of(facts)
    assert slots.by_core and slots.always_on_node
    assert slots.props(11, levels(cores=3, threads=4)) == {"core-id": 8}
    assert slots.slot_type("y-cpu") == "y-core"


def test_a_number_that_shows_only_where_there_are_several():
    """As the dies of a PC do."""
    facts = machine(
        {"sockets": 2, "dies": 2}, lambda n: {"socket-id": n // 2, "die-id": n % 2},
        alone={"socket-id": 0},
    )  # fmt: skip
    slots = slots_of(facts)
    assert slots.props(1, levels(sockets=2)) == {"socket-id": 1}
    assert slots.props(1, levels(dies=2)) == {"socket-id": 0, "die-id": 1}


def test_numbers_that_follow_no_rule_are_refused():
    facts = machine({"sockets": 2, "cores": 2}, lambda n: {"core-id": [0, 7, 1, 2][n]})
    with pytest.raises(ValueError, match="core-id"):
        slots_of(facts)
