"""pseries machines: what hangs on connectors, and comes and goes with them."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.testing import FakeQemu

PPC = "10.0/ppc64"
CORE = "power10_v2.0-spapr-cpu-core"
TOPOLOGY = ("-smp", "2,maxcpus=16,threads=2,cores=8")


@pytest.fixture
def pseries(start):
    def make(*argv):
        return start("-machine", "pseries", "-nodefaults", "-S", *argv, profile=PPC)

    return make


def deleted(machine):
    return [data["path"] for name, data in machine.events if name == "DEVICE_DELETED"]


def test_a_core_comes_with_its_threads(pseries):
    machine = pseries(*TOPOLOGY)
    machine.ask("device_add", driver=CORE, id="c6", **{"core-id": 6})
    machine.ask("device_add", driver=CORE, id="c2", **{"core-id": 2})
    cpus = machine.ask("query-cpus-fast")
    # in the order in which they came
    assert [cpu["cpu-index"] for cpu in cpus] == [0, 1, 6, 7, 2, 3]
    assert cpus[3]["qom-path"] == "/machine/peripheral/c6/thread[1]"
    path = "/machine/peripheral/c6/thread[1]"
    assert machine.ask("qom-get", path=f"{path}/icp", property="cpu") == path
    connector = f"/machine/dr-connector[{(1 << 28) + 6}]"
    assert machine.ask("qom-get", path=connector, property="device") == "/machine/peripheral/c6"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"core-id": 0}, "core 0 already populated"),
        ({"core-id": 3}, "invalid core id 3"),
        ({"core-id": 16}, "core id 16 out of range"),
        ({"core-id": -2}, "Invalid core id -2"),
        ({"core-id": 4, "nr-threads": 4}, "invalid nr-threads 4, must be 2"),
        ({"core-id": 4, "node-id": 1}, "invalid node-id, must be 0"),
        ({"core-id": "4"}, "Invalid parameter type for 'core-id', expected: integer"),
        ({"core-id": 4, "foo": 1}, f"Property '{CORE}.foo' not found"),
    ],
)
def test_a_core_is_refused(pseries, options, text):
    machine = pseries(*TOPOLOGY)
    with pytest.raises(QapiError) as failure:
        machine.ask("device_add", driver=CORE, id="c", **options)
    assert failure.value.desc == text
    assert len(machine.ask("query-cpus-fast")) == 2
    with pytest.raises(QapiError, match="CPU core type should be"):
        machine.ask("device_add", driver="power9_v2.2-spapr-cpu-core", id="c")


def test_a_core_that_no_guest_has_taken_goes_at_once(pseries):
    machine = pseries(*TOPOLOGY)
    machine.ask("device_add", driver=CORE, id="c2", **{"core-id": 2})
    machine.ask("device_del", id="c2")
    thread = "/machine/peripheral/c2/thread[{}]"
    assert deleted(machine) == [
        *(f"{thread.format(n)}{part}" for n in (0, 1) for part in ("/icp", "/xive-tctx", "")),
        "/machine/peripheral/c2",
    ]
    assert len(machine.ask("query-cpus-fast")) == 2
    connector = f"/machine/dr-connector[{(1 << 28) + 2}]"
    assert "device" not in {each["name"] for each in machine.ask("qom-list", path=connector)}


def test_a_core_that_was_there_goes_with_the_next_reset(pseries):
    machine = pseries(*TOPOLOGY, "-device", f"{CORE},core-id=8,id=cold")
    machine.ask("device_del", id="cold")
    machine.ask("device_del", id="cold")
    assert not deleted(machine)
    machine.ask("system_reset")
    names = [name for name, _ in machine.events]
    assert names.index("DEVICE_DELETED") < names.index("RESET")
    assert names.count("DEVICE_DELETED") == 7
    with pytest.raises(QapiError, match="Boot CPU core may not be unplugged"):
        machine.ask("device_del", id="/machine/unattached/device[1]")


def test_a_core_needs_a_pseries_machine(start):
    with pytest.raises(StartupError, match="spapr-cpu-core needs a pseries machine"):
        start("-machine", "none", "-device", CORE, profile=PPC)


@pytest.mark.parametrize(("mode", "there"), [("xics", "icp"), ("xive", "xive-tctx")])
def test_threads_have_what_presents_interrupts_of_the_mode(start, mode, there):
    board = ("-machine", f"pseries,ic-mode={mode}", "-smp", "1,maxcpus=2")
    machine = start(*board, "-nodefaults", "-S", profile=PPC)
    machine.ask("device_add", driver=CORE, id="c", **{"core-id": 1})
    for cpu in machine.ask("query-cpus-fast"):
        names = {each["name"] for each in machine.ask("qom-list", path=cpu["qom-path"])}
        assert names & {"icp", "xive-tctx"} == {there}


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("-smp", "6,threads=3"), "Cannot support 3 threads/core on a pseries machine because"),
        (("-smp", "16,threads=16"), "TCG cannot support more than 8 threads/core"),
        (("-smp", "3,threads=2,maxcpus=4"), r"smp_cpus \(3\) must be multiple of threads \(2\)"),
        (("-cpu", "power7", "-smp", "2,threads=2"), "TCG only supports SMT on POWER8 or newer"),
    ],
)
def test_threads_that_no_core_has_are_refused(pseries, argv, text):
    with pytest.raises(StartupError, match=text):
        pseries(*argv)


def test_a_function_zero_takes_the_others_along(pseries):
    slot = {"driver": "virtio-rng-pci", "multifunction": True}
    machine = pseries()
    machine.ask("device_add", id="f1", addr="5.1", **slot)
    machine.ask("device_add", id="f0", addr="5.0", **slot)
    machine.ask("device_del", id="f0")
    assert [path for path in deleted(machine) if "backend" not in path] == [
        "/machine/peripheral/f1",
        "/machine/peripheral/f0",
    ]


def test_what_a_guest_was_asked_for_is_asked_for_once(pseries):
    machine = pseries("-device", "virtio-rng-pci,id=r0")
    machine.ask("device_del", id="r0")
    with pytest.raises(QapiError) as failure:
        machine.ask("device_del", id="r0")
    assert failure.value.desc == "PCI device unplug already in progress for device r0"


async def test_slots_without_a_node_are_named_by_their_cores() -> None:
    options = []
    for node, cpus in enumerate((",cpus=0-13", "")):
        options += ["-object", f"memory-backend-ram,id=m{node},size=256M"]
        options += ["-numa", f"node,memdev=m{node}{cpus}"]
    board = ("-machine", "pseries", "-nodefaults", "-m", "512M", *TOPOLOGY)
    async with FakeQemu(*board, *options, profile=PPC) as machine:
        await machine.qmp("system_reset")
        said = machine.stderr.getvalue()
    assert "any NUMA nodes: CPU 7 [core-id: 14]\n" in said
    # at each reset, of which the start has one
    assert said.count("TCG doesn't support requested feature, cap-cfpc=workaround") == 2


MEMORY = ("-m", "512M,slots=2,maxmem=2G")
UUID = "72511b67-0b3b-42fd-8d1d-5be3cae8bcaa"


def backend(id, size):
    return ("-object", f"memory-backend-ram,id={id},size={size}")


def test_a_module_hangs_on_a_connector_for_each_of_its_blocks(pseries):
    machine = pseries(*MEMORY, *backend("m1", "512M"))
    machine.ask("device_add", driver="pc-dimm", id="d1", memdev="m1")
    (module,) = machine.ask("query-memory-devices")
    assert (module["data"]["addr"], module["data"]["slot"]) == (1 << 30, 0)
    for block in (4, 5):
        connector = f"/machine/dr-connector[{(8 << 28) + block}]"
        assert machine.ask("qom-get", path=connector, property="device") == "/machine/peripheral/d1"
    types = {each["type"] for each in machine.ask("qom-list", path="/machine")}
    assert {"child<spapr-drc-lmb>", "child<spapr-drc-pmem>"} <= types
    machine.ask("device_del", id="d1")
    assert deleted(machine) == ["/machine/peripheral/d1"]
    assert not machine.ask("query-memory-devices")


def test_a_module_that_was_there_goes_with_the_next_reset(pseries):
    machine = pseries(*MEMORY, *backend("m1", "256M"), "-device", "pc-dimm,memdev=m1,id=d1")
    machine.ask("device_del", id="d1")
    with pytest.raises(QapiError) as failure:
        machine.ask("device_del", id="d1")
    assert failure.value.desc == "Memory unplug already in progress for device d1"
    machine.ask("system_reset")
    assert deleted(machine) == ["/machine/peripheral/d1"]


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("pc-dimm", {"memdev": "odd"}, "Hotplugged memory size must be a multiple of 256 MB"),
        ("pc-dimm", {"memdev": "m1", "slot": 3}, "invalid slot number 3, valid range is [0-1]"),
        ("pc-dimm", {}, "'memdev' property must be set"),
        ("nvdimm", {"memdev": "m1"}, "PAPR requires NVDIMM devices to have label-size set"),
        (
            "nvdimm",
            {"memdev": "m1", "label-size": 131072},
            "PAPR requires NVDIMM memory size (excluding label) to be a multiple of 256MB",
        ),
        (
            "nvdimm",
            {"memdev": "nv", "label-size": 131072},
            "NVDIMM device requires the uuid to be set",
        ),
        (
            "spapr-nvdimm",
            {"memdev": "nv", "label-size": 131072, "uuid": UUID},
            "spapr-nvdimm device requires the memdev nv to be of memory-backend-file type",
        ),
    ],
)
def test_a_module_is_refused(pseries, driver, options, text):
    backends = (*backend("m1", "256M"), *backend("odd", "300M"), *backend("nv", "262272K"))
    machine = pseries(*MEMORY, *backends)
    with pytest.raises(QapiError) as failure:
        machine.ask("device_add", driver=driver, id="d", **options)
    assert failure.value.desc == text


def test_an_nvdimm_has_a_connector_of_its_slot(pseries):
    machine = pseries(*MEMORY, *backend("nv", "262272K"))
    options = {"memdev": "nv", "label-size": 131072, "uuid": UUID, "slot": 1}
    machine.ask("device_add", driver="nvdimm", id="n", **options)
    connector = f"/machine/dr-connector[{(9 << 28) + 1}]"
    assert machine.ask("qom-get", path=connector, property="device") == "/machine/peripheral/n"
    with pytest.raises(QapiError, match="nvdimm device hot unplug is not supported yet"):
        machine.ask("device_del", id="n")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("-m", "300M"), "Memory size 0x12c00000 is not aligned to 256 MiB"),
        (("-m", "512M,maxmem=700M"), "Maximum memory size 0x20000000 is not aligned to 256 MiB"),
        (("-m", "512M,slots=40,maxmem=1G"), "Specified number of memory slots 40 exceeds max"),
        (
            ("-m", "512M", *backend("a", "384M"), *backend("b", "128M"),
             "-numa", "node,memdev=a", "-numa", "node,memdev=b"),
            "Node 0 memory size 0x18000000 is not aligned to 256 MiB",
        ),
    ],
)  # fmt: skip
def test_memory_that_is_no_number_of_blocks_is_refused(pseries, argv, text):
    with pytest.raises(StartupError, match=text):
        pseries(*argv)


async def test_drives_without_an_interface_sit_on_adapters_of_the_board(tmp_path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(1 << 20))
    drive = f"file={tmp_path}/{{}},format=raw{{}}"
    options = [drive.format("a", ""), drive.format("b", ",index=8"),
               drive.format("c", ",media=cdrom")]  # fmt: skip
    argv = [word for each in options for word in ("-drive", each)]
    async with FakeQemu("-machine", "pseries", "-nodefaults", *argv, profile=PPC) as machine:
        found = {each["device"]: each["qdev"] for each in await machine.qmp("query-block")}
    unattached = "/machine/unattached/device"
    assert found == {
        "scsi0-hd0": f"{unattached}[5]/v-scsi@71000001.0/legacy[0]",
        "scsi0-cd1": f"{unattached}[5]/v-scsi@71000001.0/legacy[1]",
        "scsi1-hd1": f"{unattached}[6]/v-scsi@71000002.0/legacy[1]",
    }


async def test_a_disk_takes_the_place_of_the_default_cd_drive(tmp_path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    drive = f"file={tmp_path}/a,format=raw,index=2"
    async with FakeQemu("-machine", "pseries", "-drive", drive, profile=PPC) as machine:
        (found,) = (b for b in await machine.qmp("query-block") if b["device"].startswith("scsi"))
        printed = await machine.hmp("info qtree")
    assert (found["device"], found["removable"]) == ("scsi0-hd2", False)
    assert "dev: scsi-cd" not in printed and "dev: scsi-hd" in printed


@pytest.mark.parametrize(
    ("model", "type"),
    [("power9_v2.0", "power9_v2.0-powerpc64-cpu"), ("POWER9", "power9_v2.2-powerpc64-cpu")],
)
def test_cpu_models_are_known_by_their_types_and_in_any_case(pseries, model, type):
    machine = pseries("-cpu", model)
    path = machine.ask("query-cpus-fast")[0]["qom-path"]
    assert machine.ask("qom-get", path=path, property="type") == type


def test_a_cpu_without_a_core_is_refused(pseries):
    with pytest.raises(StartupError, match="Unable to find sPAPR CPU Core definition"):
        pseries("-cpu", "e500")


@pytest.mark.parametrize(("model", "said"), [("970", 1), ("power8", 3)])
async def test_what_tcg_lacks_is_said_of_cpus_that_have_it(model, said) -> None:
    argv = ("-machine", "pseries", "-nodefaults", "-cpu", model)
    async with FakeQemu(*argv, profile=PPC) as machine:
        assert machine.stderr.getvalue().count("TCG doesn't support requested feature") == said
