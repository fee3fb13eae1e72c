import pytest

QUERIES = [
    *("query-name", "query-uuid", "query-kvm", "query-cpus-fast", "query-memory-size-summary"),
    *("query-memdev", "query-memory-devices", "query-pci", "query-iothreads", "query-chardev"),
    *("query-fdsets", "query-mice", "query-rx-filter", "query-vnc", "query-spice"),
    *("query-current-machine", "query-status", "query-dump", "query-yank", "query-tpm"),
    "query-jobs",
]
PROFILES = ["7.2", "10.0", "11.1"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("machine", ["none", "q35", "pc"])
def test_queries_without_arguments_fit_the_schema(start, profile, machine):
    running = start("-machine", machine, profile=profile)
    for name in QUERIES:
        running.ask(name)


def test_name_and_uuid(start):
    uuid = "AAAAAAAA-1111-2222-3333-444444444444"
    machine = start("-machine", "none", "-name", "guest=a b", "-uuid", uuid)
    assert machine.ask("query-name") == {"name": "a b"}
    assert machine.ask("query-uuid")["UUID"] == uuid.lower()


def test_absent_hardware_answers_as_recorded(start):
    machine = start("-machine", "q35")
    assert machine.error("query-balloon") == (
        "DeviceNotActive",
        "No balloon device has been activated",
    )
    assert "EPC" in machine.error("query-sgx")[1]
    assert "PC machines" in start("-machine", "none").error("query-sgx")[1]


def test_balloon(start):
    machine = start("-machine", "q35", "-m", "64", "-device", "virtio-balloon-pci")
    assert machine.ask("query-balloon") == {"actual": 64 << 20}
    assert machine.error("balloon", value=0)[1] == "Parameter 'value' expects a size"


def test_numa_in_preconfig(start):
    machine = start("-machine", "q35", "-smp", "2", "-m", "64", "-preconfig", "-S")
    machine.ask("object-add", qom_type="memory-backend-ram", id="m", size=64 << 20)
    machine.ask("set-numa-node", type="node", nodeid=0, memdev="m")
    assert "Duplicate NUMA nodeid" in machine.error("set-numa-node", type="node", nodeid=0)[1]
    text = machine.error("set-numa-node", type="cpu", **{"node-id": 0, "socket-id": 9})[1]
    assert text == "no match found"
    machine.ask("x-exit-preconfig")
    assert "only before the machine" in machine.error("set-numa-node", type="node")[1]
    assert {c["props"]["node-id"] for c in machine.ask("query-cpus-fast")} == {0}


def test_net_backends_and_links(q35):
    q35.ask("netdev_add", type="user", id="u")
    assert q35.error("netdev_add", type="user", id="u")[1] == "Duplicate ID 'u'"
    q35.ask("device_add", driver="virtio-net-pci", id="nic", bus="rp1", netdev="u")
    assert "in use" in q35.error("device_add", driver="e1000e", bus="rp2", netdev="u")[1]
    assert "\n \\ u: index=0,type=user" in q35.hmp("info network")
    q35.ask("set_link", name="nic", up=False)
    assert q35.ask("query-rx-filter", name="nic")[0]["main-mac"] == "52:54:00:12:34:56"
    q35.ask("netdev_del", id="u")
    assert q35.error("set_link", name="u", up=True) == ("DeviceNotFound", "Device 'u' not found")


def test_descriptor_sets(start):
    machine = start("-machine", "none")
    assert machine.error("add-fd")[1] == "No file descriptor supplied via SCM_RIGHTS"
    for number in (5, 2):
        machine.vm.fdsets.add(100 + number, number, None)
    assert [s["fdset-id"] for s in machine.ask("query-fdsets")] == [5, 2]
    text = machine.error("remove-fd", **{"fdset-id": 5, "fd": 1})[1]
    assert text == "File descriptor named 'fdset-id:5, fd:1' not found"
    machine.ask("remove-fd", **{"fdset-id": 5})
    assert [s["fdset-id"] for s in machine.ask("query-fdsets")] == [2]


def test_dump(start):
    machine = start("-machine", "q35", "-m", "16")
    machine.names()
    machine.ask("dump-guest-memory", paging=False, protocol="file:/core")
    assert machine.names() == ["STOP", "DUMP_COMPLETED", "RESUME"]
    assert machine.ask("query-dump")["completed"] == (16 << 20) + (256 << 10)
    machine.ask("dump-guest-memory", paging=False, protocol="file:/core", detach=True)
    assert "dump in process" in machine.error("cont")[1]
    machine.vm.clock.run_until_idle()
    machine.ask("cont")


def test_yank_wants_known_instances(start):
    machine = start("-machine", "none", "-chardev", "null,id=c")
    assert machine.ask("query-yank") == []
    error = machine.error("yank", instances=[{"type": "chardev", "id": "c"}])
    assert error == ("DeviceNotFound", "Instance not found")


def test_input(start):
    machine = start("-machine", "q35", "-S", "-device", "qemu-xhci")
    key = [{"type": "key", "data": {"down": True, "key": {"type": "qcode", "data": "a"}}}]
    assert machine.error("input-send-event", events=key)[1] == "VM not running"
    machine.ask("cont")
    machine.ask("input-send-event", events=key)
    move = [{"type": "abs", "data": {"axis": "x", "value": 1}}]
    assert "not found for event type abs" in machine.error("input-send-event", events=move)[1]
    machine.ask("device_add", driver="usb-tablet", id="t")
    machine.ask("input-send-event", events=move)
    assert machine.ask("query-mice")[0]["name"] == "QEMU HID Tablet"


def test_input_for_a_console(start):
    """Beside a real 7.2, 10.0 and 11.1."""
    options = ("-device", "virtio-scsi-pci,id=s", "-device", "virtio-gpu-pci,id=g,max_outputs=2")
    machine = start("-machine", "q35", *options)
    click = [{"type": "btn", "data": {"button": "left", "down": True}}]
    machine.ask("input-send-event", device="g", head=1, events=click)
    for device, head in (("s", 0), ("g", 2)):
        assert machine.error("input-send-event", device=device, head=head, events=click)[1] == (
            f"Device {device} (head {head}) is not bound to a QemuConsole"
        )
    move = [{"type": "abs", "data": {"axis": "x", "value": 1}}]
    error = machine.error("input-send-event", device="g", events=move)[1]
    assert error == "Input handler not found for event type abs"

def test_handlers_keep_their_numbers_and_the_mouse_that_was_chosen_comes_first(start):
    """Beside a real 10.0: keyboards have numbers too, and none is given a second time."""
    devices = [
        *("-device", "qemu-xhci", "-device", "usb-mouse", "-device", "usb-tablet,id=z"),
        *("-device", "virtio-tablet-pci,id=a", "-device", "usb-kbd,id=k"),
    ]
    machine = start("-machine", "q35", "-S", *devices)

    def line(text):
        return machine.ask("human-monitor-command", **{"command-line": text})

    def numbers():
        mice = machine.ask("query-mice")
        assert [each["current"] for each in mice] == [False] * (len(mice) - 1) + [True]
        return [each["index"] for each in mice]

    assert numbers() == [5, 4, 3, 2]
    assert line("mouse_set 4") == ""
    assert numbers() == [5, 3, 2, 4]
    assert line("mouse_set 1") == "Error: Input device 'QEMU PS/2 Keyboard' is not a mouse\r\n"
    assert line("mouse_set 7") == "Error: Mouse at index '7' not found\r\n"
    machine.ask("device_del", id="z")
    machine.ask("device_add", driver="usb-tablet", id="u")
    assert numbers() == [7, 5, 3, 2]


def test_objects_are_listed_as_qemus_table_of_names_has_them(start):
    """The order beside a real 7.2 and 10.0, one object deleted and others made in its place."""
    options = [
        *("-machine", "q35", "-m", "64", "-nodefaults"),
        *("-object", "memory-backend-ram,id=mem0,size=1M", "-object", "iothread,id=io0"),
        *("-object", "secret,id=sec0,data=abc", "-object", "throttle-group,id=tg0"),
    ]
    machine = start(*options)
    machine.ask("object-del", id="sec0")
    machine.ask("object-add", **{"qom-type": "memory-backend-ram"}, id="new1", size=4096)

    def listed(path):
        return [entry["name"] for entry in machine.ask("qom-list", path=path)]

    assert listed("/objects") == ["type", "io0", "new1", "mem0", "pc.ram", "tg0"]
    assert [entry["id"] for entry in machine.ask("query-memdev")] == ["new1", "mem0", "pc.ram"]
    assert listed("sysbus") == [
        *("type", "child[6]", "child[2]", "realized", "child[0]", "child[1]", "child[3]"),
        *("hotplug-handler", "child[4]", "child[5]"),
    ]


def test_cxl_events_are_checked_in_qemus_order(start):
    machine = start("-machine", "q35", "-device", "virtio-balloon-pci,id=b", profile="10.0")

    def poison(path, start=0, length=64):
        return machine.error("cxl-inject-poison", path=path, start=start, length=length)[1]

    assert poison("nope", 1, 65) == "Poison injection must be in multiples of 64 bytes"
    assert poison("nope", 1) == "Poison start address must be 64 byte aligned"
    assert poison("nope") == "Unable to resolve path"
    assert poison("sysbus") == "Path does not point to a CXL type 3 device"
    capacity = {"path": "b", "host-id": 1, "removal-policy": "tag-based", "region": 1}
    released = {**capacity, "extents": [], "forced-removal": True}
    name = "cxl-release-dynamic-capacity"
    assert machine.error(name, **released)[1] == "Forced removal not supported yet"
    released["forced-removal"] = False
    assert machine.error(name, **released)[1] == "Removal policy not supported"
    assert "'virtio-balloon-device'" in machine.error("device-sync-config", id="b")[1]
