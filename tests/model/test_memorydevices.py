"""Memory devices: slots, addresses, what the guest is asked and answers."""

from __future__ import annotations

import re

import pytest

from fakeqemu.qapi.errors import StartupError

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


def test_a_module_whose_size_does_not_fit_its_alignment_is_refused(roomy):
    roomy.ask("object-add", qom_type="memory-backend-ram", id="odd", size=3 << 20)
    refused = roomy.error("device_add", driver="pc-dimm", id="x", memdev="odd")
    assert refused[1] == "backend memory size must be multiple of 0x200000"


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


# -- virtio-mem, virtio-pmem, nvdimm: figures and texts of real ones ------------------------

VIRTIO = [
    *("-m", "64M,maxmem=2G,slots=2", "-nodefaults"),
    *("-object", "memory-backend-ram,id=a,size=256M"),
    *("-object", "memory-backend-ram,id=b,size=64M"),
    *("-object", "memory-backend-ram,id=c,size=64M"),
    *("-device", "pcie-root-port,id=rp,chassis=1", "-device", "pcie-root-port,id=rq,chassis=2"),
    *("-device", "virtio-mem-pci,id=mem,memdev=a,block-size=2M,bus=rp"),
    *("-device", "virtio-pmem-pci,id=pmem,memdev=b"),
    *("-device", "nvdimm,id=nv,memdev=c,label-size=512k"),
]


@pytest.fixture(params=["7.2", "10.0", "11.1"])
def virtio(start, request):
    return start("-M", "q35,nvdimm=on", *VIRTIO, profile=request.param)


def test_devices_of_all_kinds_share_the_address_space(virtio):
    found = virtio.ask("query-memory-devices")
    assert found == [
        {
            "type": "virtio-mem",
            "data": {
                "id": "mem", "memaddr": 4 * GIB, "memdev": "/objects/a", "node": 0,
                "requested-size": 0, "size": 0, "max-size": GIB // 4, "block-size": 2 << 20,
            },
        },
        {
            "type": "virtio-pmem",
            "data": {
                "id": "pmem", "memaddr": 0x110000000, "memdev": "/objects/b", "size": 64 << 20,
            },
        },
        {
            "type": "nvdimm",
            "data": {
                "id": "nv", "addr": 0x114000000, "slot": 0, "node": 0, "memdev": "/objects/c",
                "size": 62 << 20, "hotplugged": False, "hotpluggable": True,
            },
        },
    ]  # fmt: skip
    # the guest has taken nothing of what virtio-mem offers
    assert virtio.ask("query-memory-size-summary")["plugged-memory"] == 126 << 20
    text = virtio.ask("human-monitor-command", command_line="info memory-devices")
    assert (
        'Memory device [virtio-pmem]: "pmem"\r\n  memaddr: 0x110000000\r\n  size: 67108864\r\n'
        in text
    )


def test_what_is_requested_of_a_virtio_mem_is_checked_and_kept(virtio):
    request = {"path": "mem", "property": "requested-size"}
    for value, text in (
        (3 << 20, "'requested-size' has to be multiples of 'block-size' (0x200000)"),
        (GIB, "'requested-size' cannot exceed the memory backend size(0x10000000)"),
    ):
        assert virtio.error("qom-set", **request, value=value)[1] == text
    virtio.ask("qom-set", **request, value=4 << 20)
    assert virtio.ask("qom-get", **request) == 4 << 20
    data = virtio.ask("query-memory-devices")[0]["data"]
    assert (data["requested-size"], data["size"]) == (4 << 20, 0)
    refused = virtio.error("qom-set", path="mem", property="block-size", value=4 << 20)
    assert refused[1] == "'block-size' cannot be changed"
    refused = virtio.error("qom-set", path="mem", property="size", value=4 << 20)
    assert refused[1] == "Property 'virtio-mem.size' is not writable"


def test_a_virtio_mem_that_is_not_asked_for_memory_can_go(start):
    machine = start("-M", "q35,nvdimm=on", *VIRTIO, profile="10.0")
    request = {"path": "mem", "property": "requested-size"}
    machine.ask("qom-set", **request, value=4 << 20)
    assert machine.error("device_del", id="mem")[1] == (
        "virtio-mem device cannot get unplugged while 'requested-size' != '0'"
    )
    machine.ask("qom-set", **request, value=0)
    machine.ask("device_del", id="mem")
    assert machine.error("qom-set", **request, value=0)[1] == (
        "'requested-size' cannot be changed if the device is in the process of unplug"
    )
    assert (
        machine.error("device_del", id="nv")[1] == "nvdimm device hot unplug is not supported yet."
    )
    machine.ask("system_reset")
    assert [info["type"] for info in machine.ask("query-memory-devices")] == [
        "virtio-pmem", "nvdimm",
    ]  # fmt: skip


def test_an_older_one_never_goes(start):
    machine = start("-M", "q35,nvdimm=on", *VIRTIO, profile="7.2")
    assert machine.error("device_del", id="mem")[1] == (
        "virtio based memory devices cannot be unplugged."
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "'memdev' property must be set"),
        ({"memdev": "a"}, "'memdev' property specifies a busy memdev: a"),
        ({"memdev": "d", "block-size": 3}, "'block-size' property has to be at least 0x100000"),
        ({"memdev": "d", "block-size": 3 << 20}, "'block-size' property has to be a power of two"),
        (
            {"memdev": "d", "block-size": 2 << 20, "requested-size": 3},
            "'requested-size' property has to be multiples of 'block-size' (0x200000)",
        ),
        (
            {"memdev": "d", "node": 1},
            "'node' property has value '1', which exceedsthe number of numa nodes: 1",
        ),
        (
            {"memdev": "d", "memaddr": 3},
            "address must be aligned to 0x200000 bytes",
        ),
    ],
)
def test_a_virtio_mem_that_cannot_be(virtio, options, text):
    virtio.ask("object-add", qom_type="memory-backend-ram", id="d", size=64 << 20)
    refused = virtio.error("device_add", driver="virtio-mem-pci", id="x", bus="rq", **options)
    assert refused[1] == text
    assert len(virtio.ask("query-memory-devices")) == 3


@pytest.mark.parametrize(
    ("machine", "device", "text"),
    [
        ("q35", "nvdimm,memdev=a", "nvdimm is not enabled: missing 'nvdimm' in '-M'"),
        (
            "q35,nvdimm=on", "nvdimm,memdev=a,label-size=1",
            "Property 'nvdimm.label-size' (0x1) is required at least 0x20000",
        ),
        (
            "q35,nvdimm=on", "nvdimm,memdev=a,uuid=x",
            "Property 'nvdimm.uuid' has invalid value",
        ),
        (
            "q35,nvdimm=on", "nvdimm,memdev=a,label-size=2M",
            "the size of memdev a (0x200000) is too small to contain nvdimm label (0x200000)"
            " and aligned PMEM (0x200000)",
        ),
    ],
)  # fmt: skip
def test_an_nvdimm_that_cannot_be(start, machine, device, text):
    with pytest.raises(StartupError, match=re.escape(text)):
        start(
            "-M", machine, "-m", "64,slots=2,maxmem=1G",
            "-object", "memory-backend-ram,id=a,size=2M", "-device", device,
        )  # fmt: skip


def test_the_uuid_of_an_nvdimm_can_change_and_its_label_cannot(virtio):
    uuid = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"
    where = {"path": "nv", "property": "uuid"}
    virtio.ask("qom-set", **where, value=uuid.upper())
    assert virtio.ask("qom-get", **where) == uuid
    refused = virtio.error("qom-set", **where, value="x")
    assert refused[1] == "Property 'nvdimm.uuid' has invalid value"
    refused = virtio.error("qom-set", path="nv", property="label-size", value=1 << 20)
    assert refused[1] == "cannot change property value"


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("virtio-mem-pci.block-size=3", "'block-size' property has to be at least 0x100000"),
        ("nvdimm.label-size=1", "Property 'nvdimm.label-size' (0x1) is required at least 0x20000"),
    ],
)
def test_a_global_is_checked_as_the_property_is(start, setting, text):
    with pytest.raises(StartupError, match=re.escape(f"can't apply global {setting}: {text}")):
        start("-M", "q35,nvdimm=on", *VIRTIO, "-global", setting)


def test_a_balloon_counts_modules_and_no_persistent_memory(virtio):
    virtio.ask("object-add", qom_type="memory-backend-ram", id="d", size=64 << 20)
    balloon = {"driver": "virtio-balloon-pci", "id": "bal", "bus": "rq"}
    virtio.ask("device_add", **balloon)
    assert virtio.ask("query-balloon")["actual"] == 64 << 20
    virtio.ask("device_add", driver="pc-dimm", id="dimm", memdev="d")
    assert virtio.ask("query-balloon")["actual"] == 128 << 20
