"""Machines of other targets than x86_64, from the profiles that come along."""

from __future__ import annotations

import pytest

from fakeqemu.profile import Profile, store
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.testing import FakeQemu

ARM = "10.0/aarch64"
PPC = "10.0/ppc64"
S390X = "10.0/s390x"
RISCV = "10.0/riscv64"
TARGETS = store.target_profile_names()


@pytest.mark.parametrize("name", TARGETS)
def test_every_recorded_machine_type_starts_as_it_was_recorded(start, name):
    profile = Profile.load(name)
    recorded = set(profile.part("machine-data"))
    newest = [
        each
        for each in profile.machines
        if (each.alias or each.is_default) and each.name in recorded
    ]
    assert newest
    for each in newest:
        machine = start("-machine", each.name, "-nodefaults", "-S", profile=name)
        facts = profile.per_machine(each.name)
        cpus = [{**cpu, "thread-id": 0} for cpu in machine.ask("query-cpus-fast")]
        assert cpus == facts["cpus"]
        assert machine.ask("query-pci") == (facts["pci"] or [])
        assert machine.ask("query-memory-size-summary") == facts["memory"]


def test_the_profile_names_its_target_and_has_the_traits_of_its_version():
    profile = Profile.load(S390X)
    assert (profile.name, profile.target) == (S390X, "s390x")
    assert profile.traits is Profile.load("10.0").traits
    assert not profile.missing


def test_cores_are_numbered_by_cpu_on_s390x(start):
    machine = start("-smp", "5,maxcpus=8,sockets=2,cores=4", "-S", profile=S390X)
    props = [cpu["props"] for cpu in machine.ask("query-cpus-fast")]
    assert [each["core-id"] for each in props] == [0, 1, 2, 3, 4]
    assert [each["socket-id"] for each in props] == [0, 0, 0, 0, 1]
    states = [cpu["cpu-state"] for cpu in machine.ask("query-cpus-fast")]
    assert states == ["operating", *4 * ["stopped"]]
    slots = machine.ask("query-hotpluggable-cpus")
    assert len(slots) == 8 and "qom-path" not in slots[0]


def test_harts_are_parts_of_their_socket_on_riscv(start):
    machine = start(
        "-machine", "virt", "-smp", "4,sockets=2,cores=2", "-nodefaults", "-S", profile=RISCV
    )
    paths = [cpu["qom-path"] for cpu in machine.ask("query-cpus-fast")]
    assert paths[0] == "/machine/soc0/harts[0]" and len(set(paths)) == 4
    assert {machine.ask("qom-get", path=path, property="type") for path in paths} == {
        "rv64-riscv-cpu"
    }


def test_what_is_plugged_into_a_port_without_acpi_needs_no_guest_to_go(start):
    port = ("-device", "pcie-root-port,id=rp1,chassis=1")
    machine = start("-machine", "virt", "-nodefaults", "-S", *port, profile=RISCV)
    machine.ask("device_add", driver="virtio-rng-pci", id="r0", bus="rp1")
    machine.ask("device_del", id="r0")
    assert [event for event, _ in machine.events if event == "DEVICE_DELETED"]
    with pytest.raises(QapiError, match="not found"):
        machine.ask("device_del", id="r0")


def test_what_was_there_at_the_start_waits_for_the_guest(start):
    port = ("-device", "pcie-root-port,id=rp1,chassis=1", "-device", "virtio-rng-pci,bus=rp1,id=r0")
    machine = start("-machine", "virt", "-nodefaults", "-S", *port, profile=RISCV)
    machine.ask("device_del", id="r0")
    with pytest.raises(QapiError, match="already in the process of unplug"):
        machine.ask("device_del", id="r0")


def test_an_interrupt_controller_is_the_one_that_was_asked_for(start):
    machine = start("-machine", "virt,gic-version=3", "-S", profile=ARM)
    types = {entry["type"] for entry in machine.ask("qom-list", path="/machine/unattached")}
    assert "child<arm-gicv3>" in types and "child<arm_gic>" not in types
    with pytest.raises(StartupError, match=r"does not model .*gic-version=3"):
        start("-machine", "virt,gic-version=3,secure=on", "-S", profile=ARM)
    with pytest.raises(StartupError, match="requires KVM"):
        start("-machine", "virt,gic-version=host", "-S", profile=ARM)


def test_an_older_machine_type_has_the_board_of_the_newest_where_they_are_alike(start):
    machine = start("-machine", "virt-9.2,gic-version=3", "-S", profile=ARM)
    types = {entry["type"] for entry in machine.ask("qom-list", path="/machine/unattached")}
    assert "child<arm-gicv3>" in types
    assert machine.ask("qom-get", path="/machine", property="type") == "virt-9.2-machine"


def test_a_serial_port_of_the_board_has_the_character_device(start):
    options = ("-chardev", "null,id=c0", "-serial", "chardev:c0")
    machine = start("-machine", "virt", "-S", *options, profile=ARM)
    (entry,) = (each for each in machine.ask("query-chardev") if each["label"] == "c0")
    assert entry["frontend-open"]
    with pytest.raises(StartupError, match="a second -serial"):
        start("-machine", "virt", "-S", "-serial", "null", "-serial", "null", profile=ARM)


def test_memory_that_may_be_plugged_makes_a_node(start):
    """Also of PCs; of older machine types only slots do."""
    for machine, memory, profile, nodes in (
        ("virt", "512M,maxmem=2G", ARM, 1),
        ("q35", "512M,maxmem=2G", "10.0", 1),
        ("q35", "512M", "10.0", 0),
        ("pc-q35-5.0", "512M,maxmem=2G", "10.0", 0),
        ("pc-q35-5.0", "512M,maxmem=2G,slots=1", "10.0", 1),
    ):
        found = start("-machine", machine, "-m", memory, "-S", profile=profile)
        assert found.hmp("info numa").startswith(f"{nodes} nodes\n")


def test_modules_need_what_firmware_brings(start):
    machine = start("-machine", "virt", "-S", "-m", "512M,slots=2,maxmem=2G", profile=ARM)
    error = machine.error("device_add", driver="pc-dimm", id="m0")
    assert error == ("GenericError", "memory hotplug is not enabled: missing acpi-ged device")


def test_nobody_takes_an_nmi_on_a_board_without(start):
    machine = start("-machine", "virt", "-S", profile=ARM)
    assert machine.error("inject-nmi") == ("GenericError", "machine does not provide NMIs")
    start("-S", profile=S390X).ask("inject-nmi")


def test_guest_memory_begins_where_the_board_has_it(start):
    machine = start("-machine", "virt", "-S", profile=ARM)
    assert "Cannot access" in machine.hmp("xp 0x3ffff000")
    assert "0x00000000" in machine.hmp("xp 0x40001000")


def test_expansion_of_a_model_of_another_target(start):
    machine = start("-machine", "virt", "-S", profile=ARM)

    def expand(name, **props):
        return machine.ask("query-cpu-model-expansion", type="full",
                           model={"name": name, **({"props": props} if props else {})})  # fmt: skip

    assert expand("cortex-a57", pmu=False)["model"]["props"] == {"aarch64": True, "pmu": False}
    assert expand("cortex-m3") == {"model": {"name": "cortex-m3"}}
    with pytest.raises(QapiError, match="zz' is unexpected"):
        expand("cortex-a57", zz=True)
    with pytest.raises(QapiError, match="'nope' is not a recognized ARM CPU type"):
        expand("nope")
    with pytest.raises(NotModelledError):
        expand("max", sve=False)


def test_registers_of_other_cpus_than_x86_are_not_made_up(start):
    machine = start("-S", profile=S390X)
    text = machine.ask("human-monitor-command", command_line="info registers")
    assert "does not model" in text


def test_an_unknown_cpu_model_is_refused_in_the_words_of_the_target(start):
    with pytest.raises(StartupError, match="unable to find CPU model 'qemu64'"):
        start("-cpu", "qemu64", "-S", profile=S390X)


def test_devices_of_a_channel_subsystem_are_numbered(start):
    machine = start("-S", "-device", "virtio-rng-ccw,id=first", profile=S390X)
    machine.ask("device_add", driver="virtio-rng-ccw", id="named", devno="fe.0.1234")
    machine.ask("device_add", driver="virtio-rng-ccw", id="second")

    def numbers(id):
        return [
            machine.ask("qom-get", path=f"/machine/peripheral/{id}", property=name)
            for name in ("dev_id", "subch_id")
        ]

    assert numbers("first") == ["fe.0.0000", "fe.0.0000"]
    assert numbers("named") == ["fe.0.1234", "fe.0.0001"]
    assert numbers("second") == ["fe.0.0002", "fe.0.0002"]
    taken = machine.error("device_add", driver="virtio-rng-ccw", id="x", devno="fe.0.1234")
    assert taken == ("GenericError", "Device fe.0.1234 already exists")
    odd = machine.error("device_add", driver="virtio-rng-ccw", id="x", devno="zz")
    assert odd == ("GenericError", "Property 'virtio-rng-ccw.devno' doesn't take value 'zz'")


def test_a_cpu_of_s390x_comes_and_stays(start):
    machine = start("-smp", "1,maxcpus=3", "-S", profile=S390X)
    driver = machine.ask("query-hotpluggable-cpus")[0]["type"]
    machine.ask("device_add", driver=driver, id="c1", core_id=2)
    assert [cpu["props"]["core-id"] for cpu in machine.ask("query-cpus-fast")] == [0, 2]
    for core, text in ((2, "it already exists"), (9, "maximum core-id: 2")):
        assert machine.error("device_add", driver=driver, id="c2", core_id=core)[1].endswith(text)
    assert machine.error("device_del", id="c1")[1] == "CPU hot unplug not supported on this machine"


def test_threads_of_a_core_are_its_parts_on_pseries(start):
    machine = start("-machine", "pseries", "-smp", "4,threads=2", "-S", profile=PPC)
    cpus = machine.ask("query-cpus-fast")
    assert [cpu["props"] for cpu in cpus] == [
        {"core-id": core, "node-id": 0} for core in (0, 0, 2, 2)
    ]
    assert [cpu["qom-path"].rpartition("/")[2] for cpu in cpus] == 2 * ["thread[0]", "thread[1]"]
    slots = machine.ask("query-hotpluggable-cpus")
    assert [slot["vcpus-count"] for slot in slots] == [2, 2]
    assert slots[1]["qom-path"] == cpus[0]["qom-path"].rpartition("/")[0]
    assert "does not model" in machine.hmp("info pic")


def test_drives_without_an_interface_have_that_of_the_board(start):
    for profile in (ARM, S390X, RISCV):
        board = () if profile == S390X else ("-machine", "virt")
        machine = start(*board, "-nodefaults", "-S", "-drive", "file.driver=null-co,format=raw",
                        profile=profile)  # fmt: skip
        (entry,) = machine.ask("query-block")
        assert entry["device"] == "virtio0"
        assert entry["qdev"] == "/machine/peripheral-anon/device[0]/virtio-backend"


def test_a_card_is_made_without_default_devices(start):
    machine = start("-machine", "virt", "-nodefaults", "-S", "-nic", "user,id=n0", profile=ARM)
    assert [each["name"] for each in machine.ask("query-rx-filter")] == ["virtio-net-pci.0"]


@pytest.mark.parametrize(("cpus", "most"), [(1, 1), (5, 5), (1, 8)])
def test_a_gic_grows_with_the_cpus(start, cpus, most):
    machine = start("-machine", "virt", "-nodefaults", "-smp", f"{cpus},maxcpus={most}", "-S",
                    profile=ARM)  # fmt: skip
    text = machine.hmp("info qtree").partition("dev: arm_gic,")[2].partition("dev:")[0]
    assert f'gpio-out "sysbus-irq" {4 * cpus}\n' in text.replace("\r", "")
    assert f'gpio-in "" {256 + 32 * cpus}\n' in text.replace("\r", "")
    assert f"num-cpu = {cpus} " in text
    assert text.count("/0000000000000100") == cpus


@pytest.mark.parametrize(
    ("option", "cpus", "shown", "type"),
    [("", 8, "2", "arm_gic"), ("", 9, "3", "arm-gicv3"), (",gic-version=max", 1, "3", "arm-gicv3")],
)
def test_a_gic_is_chosen_by_the_number_of_cpus(start, option, cpus, shown, type):
    machine = start("-machine", f"virt{option}", "-smp", str(cpus), "-S", profile=ARM)
    assert machine.ask("qom-get", path="/machine", property="gic-version") == shown
    types = {entry["type"] for entry in machine.ask("qom-list", path="/machine/unattached")}
    assert f"child<{type}>" in types


def test_controllers_of_riscv_have_a_line_for_each_hart(start):
    machine = start("-machine", "virt", "-smp", "3", "-nodefaults", "-S", profile=RISCV)
    text = machine.hmp("info qtree").replace("\r", "")
    assert 'hart-config = "MS,MS,MS"\n' in text and 'gpio-out "" 6\n' in text
    assert text.count("num-harts = 3 (0x3)\n") == 3


def test_the_mode_of_interrupts_decides_which_controllers_pseries_has(start):
    for option, cpu, xive, ics in (
        ("", "power9", True, True),
        (",ic-mode=xics", "power9", False, True),
        (",ic-mode=xive", "power9", True, False),
        ("", "power8", False, True),
    ):
        machine = start("-machine", f"pseries{option}", "-cpu", cpu, "-S", profile=PPC)
        below = {each["type"] for each in machine.ask("qom-list", path="/machine/unattached")}
        beside = {each["name"] for each in machine.ask("qom-list", path="/machine")}
        assert ("child<spapr-xive>" in below, "ics" in beside) == (xive, ics)


def test_pseries_has_a_connector_for_each_core(start):
    machine = start("-machine", "pseries", "-smp", "2,threads=2,maxcpus=6", "-S", profile=PPC)
    names = {each["name"] for each in machine.ask("qom-list", path="/machine")}
    cores = {f"dr-connector[{(1 << 28) + core}]" for core in range(6)} & names
    assert cores == {f"dr-connector[{(1 << 28) + core}]" for core in (0, 2, 4)}


def test_what_a_pseries_guest_has_not_seen_goes_without_it(start):
    machine = start("-machine", "pseries", "-nodefaults", "-S", "-device", "virtio-rng-pci,id=old",
                    profile=PPC)  # fmt: skip
    machine.ask("device_add", driver="virtio-rng-pci", id="new")
    for id in ("new", "old"):
        machine.ask("device_del", id=id)
    left = [each["name"] for each in machine.ask("qom-list", path="/machine/peripheral")]
    assert left == ["type", "old"]


def test_default_devices_of_pseries_are_where_a_real_one_has_them():
    with FakeQemu.sync("-machine", "pseries", "-S", profile=PPC) as machine:
        listed = machine.qmp("qom-list", path="/machine/unattached")
        types = {each["name"]: each["type"] for each in listed}
        assert [types[f"device[{number}]"] for number in (6, 7, 10, 11)] == [
            "child<spapr-vlan>", "child<spapr-vscsi>", "child<usb-kbd>", "child<usb-mouse>"
        ]  # fmt: skip
        (drive, _) = machine.qmp("query-block")
        assert drive["qdev"] == "/machine/unattached/device[7]/v-scsi@71000003.0/legacy[2]"
        assert "l-lan@71000002: index=0,type=nic" in machine.hmp("info network")
        speed = "Speed 480 Mb/s, Product QEMU USB"
        assert machine.hmp("info usb").splitlines() == [
            f"  Device 0.0, Port 1, {speed} Keyboard", f"  Device 0.0, Port 2, {speed} Mouse"
        ]  # fmt: skip
        assert "port 1, speed 480, name QEMU USB Keyboard" in machine.hmp("info qtree")


def test_cards_on_the_bus_of_virtual_devices_have_the_next_address(start):
    machine = start("-machine", "pseries", "-nic", "user", "-nic", "user,model=ibmveth",
                    "-device", "spapr-vty,chardev=c", "-chardev", "null,id=c", "-S",
                    profile=PPC)  # fmt: skip
    text = machine.hmp("info network")
    assert "l-lan@71000001: index=0,type=nic,model=spapr-vlan" in text
    assert "l-lan@71000002: index=0,type=nic,model=spapr-vlan" in text
    assert 'dev: spapr-vty, id "vty@71000003"' in machine.hmp("info qtree")
    with pytest.raises(StartupError, match="spapr-vlan and spapr-vty devices conflict at address"):
        start("-machine", "pseries", "-S", "-nic", "none", "-chardev", "null,id=c",
              "-device", "spapr-vty,reg=0x71000001,chardev=c",
              "-device", "spapr-vlan,reg=0x71000001", profile=PPC)  # fmt: skip


def test_a_second_card_before_a_default_adapter_is_not_modelled():
    machine = FakeQemu.sync("-machine", "pseries", "-nic", "user", "-nic", "user", profile=PPC)
    with pytest.raises(StartupError, match="does not model 'several NICs before a spapr-vscsi'"):
        machine.start()


def test_each_socket_of_a_riscv_board_has_its_controllers(start):
    nodes = [
        word
        for node in range(2)
        for word in (
            "-object", f"memory-backend-ram,id=m{node},size=64M",
            "-numa", f"node,memdev=m{node},cpus={2 * node}-{2 * node + 1}",
        )
    ]  # fmt: skip
    machine = start("-machine", "virt", "-smp", "4", "-m", "128M", *nodes, "-S", profile=RISCV)
    place = "/machine/unattached/device[{}]"
    for number, type in ((3, "swi"), (4, "mtimer")):
        path = place.format(number)
        assert machine.ask("qom-get", path=path, property="type") == f"riscv.aclint.{type}"
        assert machine.ask("qom-get", path=path, property="num-harts") == 2
        assert machine.ask("qom-get", path=path, property="hartid-base") == 2
    lines = [
        machine.ask("qom-get", path=place.format(5), property=f"unnamed-gpio-out[{number}]")
        for number in range(4)
    ]
    assert lines == [
        f"/machine/soc1/harts[{hart}]/unnamed-gpio-in[{line}]"
        for line in (9, 11)
        for hart in (0, 1)
    ]
    assert "does not model" in machine.hmp("info qtree")


@pytest.mark.parametrize(
    ("argv", "types"),
    [
        ([], {"nec-usb-xhci": "01.0", "usb-kbd": None, "usb-mouse": None}),
        (["-vga", "none"], {}),
        (["-vga", "none", "-machine", "usb=on"], {"nec-usb-xhci": "00.0"}),
        (["-nodefaults", "-machine", "usb=on"], {"nec-usb-xhci": "00.0"}),
        (["-nodefaults", "-vga", "std"], {}),
        (["-machine", "usb=off"], {}),
    ],
)
def test_a_pseries_board_has_usb_beside_an_adapter_or_if_asked_for(argv, types):
    with FakeQemu.sync("-machine", "pseries", "-S", *argv, profile=PPC) as machine:
        text = machine.hmp("info qtree")
    for type in ("nec-usb-xhci", "usb-kbd", "usb-mouse"):
        assert (f"dev: {type}," in text) == (type in types)
    if types:
        controller = text.partition("dev: nec-usb-xhci")[2]
        assert controller.partition("addr = ")[2].startswith(types["nec-usb-xhci"])
