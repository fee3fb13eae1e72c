import pytest


def test_partial_paths(q35):
    assert q35.ask("qom-get", path="peripheral/rp1", property="type") == "pcie-root-port"
    # the port and its bus have the same name
    assert q35.error("qom-list", path="rp1")[1] == "Path 'rp1' is ambiguous"
    assert q35.error("qom-list", path="")[1] == "Path '' is ambiguous"
    assert q35.error("qom-get", path="nope", property="x")[0] == "DeviceNotFound"
    assert q35.ask("qom-get", path="/machine/peripheral/rp1/parent_bus", property="type") == "PCIE"


def test_setting_a_realized_device(q35):
    q35.ask("device_add", driver="virtio-rng-pci", id="r", bus="rp1")

    def refusal(name, value):
        return q35.error("qom-set", path="/machine/peripheral/r", property=name, value=value)[1]

    assert refusal("romfile", "x") == (
        "Attempt to set property 'romfile' on device 'r' (type 'virtio-rng-pci')"
        " after it was realized"
    )
    assert "anonymous device (type 'virtio-rng-device')" in refusal("period", 1)
    assert refusal("hotplugged", True) == "Property 'virtio-rng-pci.hotplugged' is not writable"
    assert refusal("realized", "yes").endswith("expected: boolean")
    assert refusal("nope", 1) == "Property 'virtio-rng-pci.nope' not found"


@pytest.mark.parametrize("profile", ["7.2", "10.0"])
def test_setting_what_a_machine_does_not_let_be_set(start, profile):
    """Asked of a real 7.2 and 10.0."""
    machine = start("-machine", "pc", profile=profile)
    type = f"pc-i440fx-{profile}-machine"

    def refusal(name, value):
        return machine.error("qom-set", path="/machine", property=name, value=value)[1]

    for value in (1 << 63, 1.5, "x", None, [], {}):
        assert refusal("type", value) == f"Property '{type}.type' is not writable"
        assert refusal("smram", value) == f"Property '{type}.smram' is not writable"
        # an alias goes by the name of what it stands for
        assert refusal("rtc-time", value) == "Property 'mc146818rtc.date' is not writable"
    for value in (1 << 63, "x", None, []):
        for name in ("smp", "memory", "boot"):
            expected = f"Invalid parameter type for '{name}', expected: object"
            assert refusal(name, value) == expected
    for value in (1, "x", {}):
        assert refusal("sgx-epc", value) == "Invalid parameter type for 'sgx-epc', expected: array"
    assert refusal("acpi-device", 1) == (
        "Invalid parameter type for 'acpi-device', expected: string"
    )
    assert refusal("acpi-device", "/machine").startswith("fakeqemu does not model")


def test_machine_shows_topology_and_memory(start):
    machine = start("-machine", "q35", "-smp", "4,cores=2", "-m", "64,slots=2,maxmem=1G")
    smp = machine.ask("qom-get", path="/machine", property="smp")
    assert (smp["cpus"], smp["sockets"], smp["cores"]) == (4, 2, 2)
    assert machine.ask("qom-get", path="/machine", property="memory") == {
        "size": 64 << 20,
        "slots": 2,
        "max-size": 1 << 30,
    }
    assert machine.ask("query-memory-size-summary")["base-memory"] == 64 << 20


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_whole_tree_can_be_walked(start, profile):
    machine = start("-machine", "q35", "-smp", "2", profile=profile)
    paths = ["/"]
    for path in paths:
        for entry in machine.ask("qom-list", path=path):
            if entry["type"].startswith("child<"):
                paths.append(f"{path.rstrip('/')}/{entry['name']}")
    assert len(paths) > 100
    types = [machine.ask("qom-get", path=path, property="type") for path in paths]
    assert types.count("qemu64-x86_64-cpu") == 2
