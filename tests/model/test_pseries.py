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
