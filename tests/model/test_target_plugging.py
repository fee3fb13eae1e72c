"""What is plugged into machines of other targets than PCs: CPUs of any model, memory."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import QapiError

S390X = "10.0/s390x"


def test_a_cpu_of_another_model_is_taken(start):
    machine = start("-smp", "2,maxcpus=4", "-nodefaults", "-S", profile=S390X)
    machine.ask("device_add", driver="max-s390x-cpu", id="c3", **{"core-id": 3})
    path = machine.ask("query-cpus-fast")[-1]["qom-path"]
    assert machine.ask("qom-get", path=path, property="type") == "max-s390x-cpu"
    slots = machine.ask("query-hotpluggable-cpus")
    assert {slot["type"] for slot in slots} == {"qemu-s390x-cpu"}
    for driver, text in (
        ("z14-s390x-cpu", "Some features requested in the CPU model are not available"),
        ("gen17a-s390x-cpu", "Selected CPU generation is too new"),
        ("max-s390x-cpu", "Unable to add CPU with core-id: 3, it already exists"),
    ):
        with pytest.raises(QapiError, match=text):
            machine.ask("device_add", driver=driver, id="c", **{"core-id": 3})


def test_virtio_mem_has_its_place_behind_the_memory(start):
    memory = ("-m", "512M,maxmem=1G", "-object", "memory-backend-ram,id=m1,size=256M")
    machine = start("-nodefaults", "-S", *memory, profile=S390X)
    size = {"block-size": 2 << 20, "requested-size": 2 << 20}
    machine.ask("device_add", driver="virtio-mem-ccw", id="v", memdev="m1", **size)
    (found,) = machine.ask("query-memory-devices")
    assert found["type"] == "virtio-mem"
    assert (found["data"]["memaddr"], found["data"]["requested-size"]) == (1 << 30, 2 << 20)
    with pytest.raises(QapiError, match="while 'requested-size' != '0'"):
        machine.ask("device_del", id="v")
    machine.ask("qom-set", path="/machine/peripheral/v", property="requested-size", value=0)
    machine.ask("device_del", id="v")
    assert not machine.ask("query-memory-devices")


def test_memory_devices_need_room(start):
    machine = start(
        "-nodefaults", "-S", "-object", "memory-backend-ram,id=m1,size=16M", profile=S390X
    )
    with pytest.raises(QapiError, match="not prepared for memory devices"):
        machine.ask("device_add", driver="virtio-mem-ccw", id="v", memdev="m1")


@pytest.mark.parametrize(
    ("board", "profile", "path", "text"),
    [
        ("s390-ccw-virtio", S390X, "unattached/device[0]", "CPU hot unplug not supported on this"),
        ("virt", "10.0/aarch64", "unattached/device[0]", r"cortex-a15-arm-cpu' can not be hotpl"),
        ("virt", "10.0/riscv64", "soc0/harts[0]", "rv64-riscv-cpu' can not be hotplugged"),
        ("isapc", "10.0", "unattached/device[0]", "CPU hot unplug not supported without ACPI"),
        ("microvm", "10.0", "unattached/device[0]", "unplug not supported by microvm"),
    ],
)
def test_a_cpu_that_cannot_go(start, board, profile, path, text):
    machine = start("-machine", board, "-nodefaults", "-S", profile=profile)
    with pytest.raises(QapiError, match=text):
        machine.ask("device_del", id=f"/machine/{path}")


def test_a_machine_of_s390x_has_no_device_tree(start):
    machine = start("-nodefaults", "-S", profile=S390X)
    with pytest.raises(QapiError, match="This machine doesn't have an FDT"):
        machine.ask("dumpdtb", filename="/nowhere")


def test_no_guest_uses_storage_keys(start):
    machine = start("-nodefaults", "-S", profile=S390X)
    with pytest.raises(QapiError, match="This guest is not using storage keys"):
        machine.ask("dump-skeys", filename="/nowhere")
