"""-numa as a whole, and which memory the machine then has; texts are those of real ones."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

LATENCY = "hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency="
BANDWIDTH = "hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth="
CACHE = "hmat-cache,node-id=0,associativity=direct,policy=write-back,line=8"


def two_nodes(*numa: str, first: str = "", second: str = "", more: str = "") -> FakeQemu:
    """A machine with 64 MiB in two backends, four CPUs and these -numa."""
    backends = [f"memory-backend-ram,id=m{n},size=32M" for n in (0, 1)]
    nodes = [f"node,memdev=m0{first}", f"node,memdev=m1{second}", *numa]
    return FakeQemu(
        "-machine", f"pc{more}", "-nodefaults", "-m", "64", "-smp", "4",
        *(word for backend in backends for word in ("-object", backend)),
        *(word for node in nodes for word in ("-numa", node)),
    )  # fmt: skip


async def refusal(machine: FakeQemu) -> str:
    with pytest.raises(StartupError) as caught:
        async with machine:
            pass
    return caught.value.message


async def test_backends_of_nodes_are_the_memory() -> None:
    async with two_nodes() as machine:
        assert {each["id"] for each in await machine.qmp("query-memdev")} == {"m0", "m1"}
        where = {"path": "/machine", "property": "memory-backend"}
        assert await machine.qmp("qom-get", where) == ""


async def test_memory_is_made_after_preconfig() -> None:
    async with FakeQemu("-machine", "pc", "-nodefaults", "-preconfig") as machine:
        assert await machine.qmp("query-memdev") == []
        await machine.qmp("x-exit-preconfig")
        assert [each["id"] for each in await machine.qmp("query-memdev")] == ["pc.ram"]


async def test_the_size_of_a_backend_is_the_machines_unless_given() -> None:
    words = ("-machine", "pc,memory-backend=m", "-object", "memory-backend-ram,id=m,size=32M")
    async with FakeQemu("-nodefaults", *words) as machine:
        assert (await machine.qmp("query-memory-size-summary"))["base-memory"] == 32 << 20
    said = await refusal(FakeQemu("-nodefaults", "-m", "64", *words))
    assert said == "Machine memory size does not match the size of the memory backend"


async def test_the_name_of_the_memory_is_taken() -> None:
    words = ("-machine", "pc", "-nodefaults", "-object", "memory-backend-ram,id=pc.ram,size=1M")
    said = await refusal(FakeQemu(*words, profile="7.2"))
    assert said.endswith("for any other purposes. Change the object's 'id' to something else")
    said = await refusal(FakeQemu(*words, profile="10.0"))
    assert said.endswith("by setting 'memory-backend=pc.ram' with '-machine'.")


@pytest.mark.parametrize(
    ("numa", "text"),
    [
        (("node", "node,nodeid=3"), "numa: Node ID missing: 2"),
        (("node",), "total memory for NUMA nodes (0x0) should equal RAM size (0x4000000)"),
    ],
)
async def test_nodes_that_make_no_machine(numa: tuple[str, ...], text: str) -> None:
    words = [word for each in numa for word in ("-numa", each)]
    machine = FakeQemu("-machine", "pc", "-nodefaults", "-m", "64", *words)
    assert await refusal(machine) == text


async def test_a_node_is_missing_a_distance() -> None:
    said = await refusal(two_nodes("dist,src=0,dst=0,val=10"))
    assert said.startswith("The distance between node 0 and 1 is missing")


async def test_cpus_that_were_forgotten_go_to_the_first_node() -> None:
    async with two_nodes(second=",cpus=0-1") as machine:
        slots = await machine.qmp("query-hotpluggable-cpus")
        assert sorted(slot["props"]["node-id"] for slot in slots) == [0, 0, 1, 1]
        said = machine.stderr.getvalue()
    assert "CPU(s) not present in any NUMA nodes: CPU 2 [socket-id: 0, core-id: 2, " in said
    assert said.count("warning: ") == 2


@pytest.mark.parametrize(
    ("first", "second", "numa", "text"),
    [
        ("", ",initiator=0", (LATENCY + "5",), "Invalid initiator=0, it isn't an initiator"),
        (",cpus=0-3", "", (LATENCY + "5", LATENCY + "5"), "Duplicate configuration of the lat"),
        (",cpus=0-3", "", (BANDWIDTH + "5",), "Bandwidth 5 between initiator=0 and target=0"),
        (",cpus=0-3", "", (CACHE + ",level=1,size=1K",), "The latency and bandwidth information"),
        (",cpus=0-3", ",initiator=1", (), "The initiator of NUMA node 1 is invalid"),
        (",cpus=0-3,initiator=1", "", (), "The initiator of CPU NUMA node 0 should be itself"),
        (
            ",cpus=0-3", "",
            (LATENCY + "5", BANDWIDTH + "1M", CACHE + ",level=1,size=10K",
             CACHE + ",level=2,size=9K"),
            "Invalid size=9216, the size of level=2 should be larger than the size(10240)",
        ),
    ],
)  # fmt: skip
async def test_memory_attributes(
    first: str, second: str, numa: tuple[str, ...], text: str
) -> None:
    said = await refusal(two_nodes(*numa, first=first, second=second, more=",hmat=on"))
    assert text in said


async def test_a_machine_with_memory_attributes_starts() -> None:
    numa = (LATENCY + "5", BANDWIDTH + "1M", CACHE + ",level=1,size=10K")
    async with two_nodes(*numa, first=",cpus=0-3", more=",hmat=on") as machine:
        assert (await machine.qmp("query-status"))["status"] == "running"
