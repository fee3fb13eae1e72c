"""Memory modules: slots, addresses, what the guest is asked and answers."""

from __future__ import annotations

import pytest

GIB = 1 << 30


@pytest.fixture
def roomy(start):
    machine = start("-M", "q35", "-m", "1G,slots=2,maxmem=2G")
    for name in ("a", "b", "c"):
        machine.ask("object-add", qom_type="memory-backend-ram", id=name, size=GIB // 4)
    return machine


def plug(machine, name, **more):
    machine.ask("device_add", driver="pc-dimm", id=f"dimm-{name}", memdev=name, **more)


def test_a_module_gets_the_next_slot_and_address(roomy):
    plug(roomy, "a", slot=1)
    plug(roomy, "b")

    found = [info["data"] for info in roomy.ask("query-memory-devices")]
    assert [(data["id"], data["slot"], data["addr"]) for data in found] == [
        ("dimm-a", 1, 4 * GIB),
        ("dimm-b", 0, 4 * GIB + GIB // 4),
    ]
    summary = roomy.ask("query-memory-size-summary")
    assert summary == {"base-memory": GIB, "plugged-memory": GIB // 2}


def test_refusals_leave_nothing_behind(roomy):
    plug(roomy, "a")
    before = roomy.ask("qom-list", path="/machine/peripheral")
    for options, text in (
        ({"memdev": "a"}, "can't use already busy memdev: a"),
        ({"memdev": "b", "slot": 0}, "slot 0 is busy"),
        ({"memdev": "b", "addr": 4 * GIB + 1}, "address must be aligned to 0x200000 bytes"),
        (
            {"memdev": "b", "addr": 4 * GIB},
            "address range conflicts with memory device id='dimm-a'",
        ),
    ):
        refused = roomy.error("device_add", driver="pc-dimm", id="x", **options)
        assert refused == ("GenericError", text)
    assert roomy.ask("qom-list", path="/machine/peripheral") == before


def test_a_guest_lets_a_module_go_or_says_that_it_does_not(roomy):
    plug(roomy, "a")
    roomy.ask("device_del", id="dimm-a")
    roomy.ask("system_reset")
    assert len(roomy.ask("query-memory-devices")) == 1

    roomy.names()
    roomy.vm.guest.refuse_unplug("dimm-a")
    told = {"device": "dimm-a", "slot": "0", "slot-type": "DIMM", "source": 3, "status": 1}
    assert roomy.events == [("ACPI_DEVICE_OST", {"info": told})]

    roomy.names()
    roomy.ask("device_del", id="dimm-a")
    roomy.vm.guest.unplug("dimm-a")
    assert roomy.names() == ["DEVICE_DELETED"]
    assert roomy.ask("query-memory-devices") == []
    roomy.ask("object-del", id="a")
