"""Places in the boot order that devices ask for."""

import pytest

from fakeqemu.qapi.errors import StartupError

SCSI = ("-device", "virtio-scsi-pci,id=s")


def disk(name, *rest):
    options = ",".join((f"scsi-hd,drive={name},id={name}", *rest))
    return ("-blockdev", f"null-co,node-name={name}", "-device", options)


def test_two_devices_cannot_have_the_same(start):
    with pytest.raises(StartupError) as refused:
        start("-machine", "q35", *SCSI, *disk("a", "bootindex=1"), *disk("b", "bootindex=1"))
    assert "The bootindex 1 has already been used" in str(refused.value)
    start("-machine", "q35", *SCSI, *disk("a", "bootindex=-1"), *disk("b", "bootindex=-1"))


def test_it_can_change_while_the_device_is_there(start):
    nic = ("-device", "virtio-net-pci,id=n,bootindex=2")
    machine = start("-machine", "q35", *SCSI, *disk("a", "bootindex=1"), *nic)

    def set(path, value):
        return machine.error("qom-set", path=path, property="bootindex", value=value)[1]

    used = "The bootindex {} has already been used"
    assert set("n", 1) == used.format(1)
    assert set("n", 2) == used.format(2)
    assert set("n", "x") == "Invalid parameter type for 'bootindex', expected: integer"
    machine.ask("qom-set", path="n", property="bootindex", value=7)
    assert machine.ask("qom-get", path="n", property="bootindex") == 7
    machine.ask("qom-set", path="a", property="bootindex", value=2)
    add = {"driver": "scsi-hd", "drive": "b", "id": "b", "bus": "s.0"}
    machine.ask("blockdev-add", **{"driver": "null-co", "node-name": "b"})
    assert machine.error("device_add", **add, bootindex=7)[1] == used.format(7)
    machine.ask("device_add", **add, bootindex=1)
    machine.vm.devices.gone(machine.vm.devices.find("a"))
    machine.ask("qom-set", path="n", property="bootindex", value=2)


def test_what_an_object_names_is_looked_up_when_it_is_set(start):
    machine = start("-machine", "none", "-object", "iothread,id=io0", profile="10.0")

    def added(type, id, **options):
        return machine.error("object-add", **{"qom-type": type}, id=id, **options)

    memory = {"size": 4096, "prealloc-context": "x", "host-nodes": [59973]}
    missing = ("DeviceNotFound", "Device 'x' not found")
    assert added("memory-backend-ram", "io0", **memory) == missing
    memory["prealloc-context"] = "io0"
    assert added("memory-backend-ram", "m", **memory)[1] == (
        "Invalid parameter type for 'prealloc-context', expected: thread-context"
    )
    nobody = "Cannot find character device 'c'"
    assert added("qtest", "io0", chardev="c")[1] == nobody
    machine.ask("object-add", **{"qom-type": "memory-backend-ram"}, id="m", size=4096)
    size = machine.error("qom-set", path="/objects/m", property="size", value={})
    assert size[1] == "cannot change property size of memory-backend-ram "
