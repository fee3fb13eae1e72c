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
