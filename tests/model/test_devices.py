import pytest

from fakeqemu.check import LookingHost
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qmp.dispatch import dispatcher_of


def add(machine, **options):
    return machine.error("device_add", **options)[1]


def test_plug_unplug_and_plug_again(q35):
    q35.ask("device_add", driver="virtio-rng-pci", id="r", bus="rp1", **{"max-bytes": 7})
    assert q35.ask("qom-get", path="r", property="max-bytes") == 7
    assert q35.ask("qom-get", path="r/virtio-backend", property="max-bytes") == 7
    assert q35.ask("qom-get", path="r", property="hotplugged") is True
    q35.ask("device_del", id="r")
    assert "already in the process of unplug" in q35.error("device_del", id="r")[1]
    assert q35.names() == []
    q35.ask("system_reset")
    assert q35.events[1:] == [
        ("DEVICE_DELETED", {"path": "/machine/peripheral/r/virtio-backend"}),
        ("DEVICE_DELETED", {"device": "r", "path": "/machine/peripheral/r"}),
    ]
    assert q35.error("device_del", id="r") == ("DeviceNotFound", "Device 'r' not found")
    q35.ask("device_add", driver="virtio-rng-pci", id="r", bus="rp1")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "Parameter 'driver' is missing"),
        ({"driver": "nope"}, "'nope' is not a valid device model name"),
        ({"driver": "pci-device"}, "Parameter 'driver' expects a non-abstract device type"),
        ({"driver": "ICH9-LPC"}, "Parameter 'driver' expects a pluggable device type"),
        ({"driver": "e1000e", "bus": "nope"}, "Bus 'nope' not found"),
        ({"driver": "e1000e", "bus": "isa.0"}, "Device 'e1000e' can't go on ISA bus"),
        ({"driver": "e1000e"}, "Bus 'pcie.0' does not support hotplugging"),
        ({"driver": "usb-tablet"}, "No 'usb-bus' bus found for device 'usb-tablet'"),
        ({"driver": "virtio-blk-pci", "bus": "rp1"}, "drive property not set"),
        ({"driver": "e1000e", "bus": "rp1", "x": 1}, "Property 'e1000e.x' not found"),
        (
            {"driver": "e1000e", "bus": "rp1", "mac": "1"},
            "Property 'e1000e.mac' doesn't take value '1'",
        ),
        ({"driver": "e1000e", "bus": "rp1", "id": "rp2"}, "Duplicate device ID 'rp2'"),
    ],
)
def test_refusals(q35, options, text):
    before = q35.ask("qom-list", path="/machine/peripheral")
    assert add(q35, **options) == text
    assert q35.ask("qom-list", path="/machine/peripheral") == before


def test_a_failed_device_leaves_its_slot_free(q35):
    assert "can't find value" in add(q35, driver="e1000e", bus="rp1", netdev="nope")
    q35.ask("device_add", driver="e1000e", bus="rp1", id="ok")
    assert "already occupied" in add(q35, driver="e1000e", bus="rp1")


def test_values_are_typed_in_new_versions_and_texts_in_old(start):
    ports = ("-device", "pcie-root-port,id=rp,chassis=1")
    new = start("-machine", "q35", "-S", *ports)
    assert add(new, driver="virtio-rng-pci", bus="rp", period="0x10").endswith("uint64")
    old = start("-machine", "q35", "-S", *ports, profile="7.2")
    old.ask("device_add", driver="virtio-rng-pci", bus="rp", id="r", period="0x10")
    assert old.ask("qom-get", path="r", property="period") == 16


def test_usb_ports_are_given_out_in_turn(start):
    machine = start("-machine", "q35", "-device", "qemu-xhci,id=usb")
    for id in ("a", "b"):
        machine.ask("device_add", driver="usb-tablet", id=id)
    machine.ask("device_del", id="a")
    assert machine.events[-1] == (
        "DEVICE_DELETED",
        {"device": "a", "path": "/machine/peripheral/a"},
    )
    machine.ask("device_add", driver="usb-kbd", id="c")
    assert "Port 3" in machine.hmp("info usb").splitlines()[-1]
    text = add(machine, driver="usb-kbd", port="2")
    assert text == "usb port 2 (bus usb.0) not found (in use?)"


def test_cpus_shift_the_numbers_of_unattached_devices(start):
    one = start("-machine", "q35")
    two = start("-machine", "q35", "-smp", "2")
    assert [c["qom-path"] for c in two.ask("query-cpus-fast")] == [
        "/machine/unattached/device[0]",
        "/machine/unattached/device[2]",
    ]
    link = "/machine", "acpi-device"
    paths = [m.ask("qom-get", path=link[0], property=link[1]) for m in (one, two)]
    assert paths == ["/machine/unattached/device[2]", "/machine/unattached/device[3]"]
    assert two.ask("qom-get", path=paths[1], property="type") == "ICH9-LPC"


def test_cpu_hotplug(start):
    machine = start("-machine", "q35", "-smp", "1,sockets=3,maxcpus=3")
    ids = {"core-id": 0, "thread-id": 0}
    driver = "qemu64-x86_64-cpu"
    assert add(machine, driver=driver) == "CPU socket-id is not set"
    machine.ask("device_add", driver=driver, id="c1", **{"socket-id": 1}, **ids)
    assert "exists" in add(machine, driver=driver, **{"socket-id": 1}, **ids)
    assert "range 0:2" in add(machine, driver=driver, **{"socket-id": 3}, **ids)
    slots = machine.ask("query-hotpluggable-cpus")
    assert [s.get("qom-path") for s in slots] == [
        None,
        "/machine/peripheral/c1",
        "/machine/unattached/device[0]",
    ]
    assert machine.error("device_del", id="/machine/unattached/device[0]")[1] == (
        "Boot CPU is unpluggable"
    )


def test_pci_of_a_plugged_device(start):
    machine = start("-machine", "q35", "-device", "e1000e,id=nic,addr=5.0")
    devices = machine.ask("query-pci")[0]["devices"]
    nic = next(d for d in devices if d["qdev_id"] == "nic")
    assert (nic["slot"], nic["id"]["vendor"]) == (5, 0x8086)
    assert devices == sorted(devices, key=lambda d: (d["slot"], d["function"]))


@pytest.mark.parametrize(
    ("machine", "driver", "more", "text"),
    [
        ("pc", "e1000", {}, "failover primary device must be on PCIExpress bus"),
        ("q35", "virtio-rng-pci", {}, "failover primary device is not an Ethernet device"),
        ("q35", "e1000", {"addr": "9.1"}, "failover: primary device must be in its own PCI slot"),
        ("q35", "e1000", {"multifunction": True}, "must be in its own PCI slot"),
    ],
)
def test_a_failover_primary_sits_alone_on_pci_express(start, machine, driver, more, text):
    options = ",".join(f"{key}={value}" for key, value in more.items()).replace("True", "on")
    device = f"{driver},failover_pair_id=p" + (f",{options}" if options else "")
    with pytest.raises(StartupError, match=text):
        start("-machine", machine, "-device", device)


@pytest.mark.parametrize("outer_first", [True, False])
def test_the_global_of_the_outer_device_has_the_last_word(start, outer_first):
    outer = ("-global", "virtio-rng-pci.max-bytes=7")
    inner = ("-global", "virtio-rng-device.max-bytes=5")
    words = [*outer, *inner] if outer_first else [*inner, *outer]
    machine = start("-device", "virtio-rng-pci,id=r", *words)
    assert machine.ask("qom-get", path="r", property="max-bytes") == 7
    assert machine.ask("qom-get", path="r/virtio-backend", property="max-bytes") == 7


def test_a_global_gives_a_property_as_an_option_does(start):
    machine = start("-global", "virtio-rng-pci.addr=9", "-device", "virtio-rng-pci,id=r")
    (bus,) = machine.ask("query-pci")
    assert next(d["slot"] for d in bus["devices"] if d["qdev_id"] == "r") == 9


@pytest.mark.parametrize(
    ("given", "driver", "text"),
    [
        ("virtio-net-pci.mac=x", "virtio-net-pci",
         "Property 'virtio-net-device.mac' doesn't take value 'x'"),
        ("rocker.ports=x", "rocker", "Invalid parameter type for 'ports', expected: array"),
    ],
)  # fmt: skip
def test_a_global_that_cannot_be_applied(start, given, driver, text):
    with pytest.raises(StartupError, match="can't apply global") as caught:
        start("-global", given, "-device", driver)
    assert caught.value.message.endswith(f"{given}: {text}")


@pytest.mark.parametrize(
    ("profile", "options", "text"),
    [
        ("11.1", {"driver": "vhost-vsock-pci", "guest-cid": 2},
         "guest-cid property must be greater than 2"),
        ("11.1", {"driver": "vhost-vsock-pci", "guest-cid": 1 << 32},
         "guest-cid property must be a 32-bit number"),
        ("11.1", {"driver": "vhost-vsock-pci", "guest-cid": 5},
         "Could not open '/dev/vhost-vsock': No such file or directory"),
        ("10.0", {"driver": "vhost-vsock-pci-non-transitional", "guest-cid": 5},
         "vhost-vsock: failed to open vhost device: No such file or directory"),
        ("11.1", {"driver": "vhost-scsi-pci", "wwpn": "naa.1"},
         "Could not open '/dev/vhost-scsi': No such file or directory"),
        ("7.2", {"driver": "vhost-scsi-pci-transitional", "wwpn": "naa.1"},
         "vhost-scsi: open vhost char device failed: No such file or directory"),
        ("7.2", {"driver": "usb-host", "hostbus": 99, "hostaddr": 99},
         "failed to find host usb device 99:99"),
        ("7.2", {"driver": "usb-host", "productid": 65536}, "productid out of range"),
        ("7.2", {"driver": "usb-host", "hostdevice": "/nope"},
         "failed to open /nope: No such file or directory"),
        ("10.0", {"driver": "usb-host", "hostdevice": "/nope"},
         "Could not open '/nope': No such file or directory"),
        ("10.0", {"driver": "usb-host", "vendorid": 1},
         "fakeqemu does not model 'device usb-host'"),
        ("10.0", {"driver": "usb-mtp", "rootdir": "nope"},
         "usb-mtp: rootdir must be configured and be an absolute path"),
        ("10.0", {"driver": "usb-mtp", "rootdir": "/nope"},
         "usb-mtp: rootdir does not exist/not readable"),
    ],
)  # fmt: skip
def test_what_needs_something_of_the_host_that_is_not_there(start, profile, options, text):
    host = LookingHost()
    machine = start("-M", "pc", "-device", "qemu-xhci", profile=profile, host=host)
    assert add(machine, **options) == text


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_a_standby_nic_hides_its_primary(start, version):
    """It is made when the guest's driver has agreed to a standby NIC: no guest here does."""
    vm = start(
        "-machine", "q35", "-device", "pcie-root-port,id=rp,chassis=1",
        "-device", "pcie-root-port,id=rp2,chassis=2", "-device", "pcie-root-port,id=rp3,chassis=3",
        "-device", "virtio-net-pci,failover=on,id=s,bus=rp",
        "-device", "e1000e,failover_pair_id=s,id=p,bus=rp2",
        profile=version,
    )  # fmt: skip
    there = vm.ask("qom-list", path="/machine/peripheral")
    assert "p" not in [each["name"] for each in there]

    def plug(**options):
        dispatcher_of(vm.vm).execute("device_add", {"driver": "e1000e", **options})

    def refusal(**options):
        with pytest.raises(QapiError) as caught:
            plug(**options)
        return caught.value.desc

    late = {"bus": "rp3"}
    assert refusal(**late, failover_pair_id="x") == "Device with failover_pair_id needs to have id"
    assert refusal(**late, id="q", failover_pair_id="s") == (
        "Cannot attach more than one primary device to 's': 'p' and 'q'"
    )
    plug(**late, id="o", failover_pair_id="other")
    assert vm.ask("qom-get", path="o", property="failover_pair_id") == "other"
    # the NIC takes what it knew with it
    vm.ask("device_del", id="s")
    vm.ask("system_reset")
    vm.ask("device_add", driver="virtio-net-pci", bus="rp", id="s", failover=True)
    plug(bus="rp2", id="q", failover_pair_id="s")
    assert refusal(bus="pcie.0", id="p", failover_pair_id="s") == (
        "Cannot attach more than one primary device to 's': 'q' and 'p'"
    )
    assert "q" not in [each["name"] for each in vm.ask("qom-list", path="/machine/peripheral")]


@pytest.mark.parametrize(
    ("version", "machine", "bus"),
    [("7.2", "pc,acpi=off", "pci.0"), ("10.0", "pc,acpi=off", "pci.0"), ("10.0", "q35", "pcie.0"),
     ("11.1", "q35", "pcie.0"), ("7.2", "q35", ""), ("10.0", "pc", "")],
)  # fmt: skip
def test_a_hidden_primary_needs_a_bus_that_takes_it_later(start, version, machine, bus):
    argv = ["-machine", machine, "-device", "virtio-net-pci,failover=on,id=s"]
    argv += ["-device", "e1000e,failover_pair_id=s,id=p"]
    if not bus:
        assert start(*argv, profile=version).ask("qom-list", path="/machine/peripheral")
        return
    with pytest.raises(StartupError, match=f"Bus '{bus}' does not support hotplugging"):
        start(*argv, profile=version)
