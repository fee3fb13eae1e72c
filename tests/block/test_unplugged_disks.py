"""What a disk does to its medium: which thread does its I/O, and what goes with it."""

from __future__ import annotations

from typing import Any

import pytest

MB = 1 << 20
REFUSED = "Cannot change iothread of active block backend"


@pytest.fixture
def controllers(start: Any, request: Any) -> Any:
    """`a` and `b` of threads `ta` and `tb`, `c` of none; nodes `one` and `two`."""
    argv = ["-device", "virtio-scsi-pci,id=c"]
    for name in "ab":
        argv += ["-object", f"iothread,id=t{name}"]
        argv += ["-device", f"virtio-scsi-pci,id={name},iothread=t{name}"]
    machine = start(*argv, profile=getattr(request, "param", "10.0"))
    for name in ("one", "two"):
        machine.add("null-co", name, size=MB)
    return machine


def plug(machine: Any, id: str, node: str, bus: str) -> None:
    machine.ask("device_add", driver="scsi-hd", id=id, drive=node, bus=f"{bus}.0", share_rw=True)


def thread(machine: Any, node: str) -> str | None:
    found: str | None = machine.vm.block.graph.nodes[node].iothread
    return found


def test_a_disk_takes_its_medium_to_the_thread_of_its_controller(controllers: Any) -> None:
    plug(controllers, "d", "one", "a")
    assert thread(controllers, "one") == "ta"
    controllers.ask("device_del", id="d")
    assert thread(controllers, "one") is None


def test_nodes_of_two_threads_cannot_be_linked(controllers: Any) -> None:
    for name in ("top", "low"):
        controllers.image(name)
    plug(controllers, "d", "top", "a")
    plug(controllers, "e", "low", "b")
    options = {"driver": "qcow2", "node-name": "top", "file": "top-file", "backing": "low"}
    assert controllers.desc("blockdev-reopen", options=[options]) == REFUSED
    controllers.ask("device_del", id="e")
    controllers.ask("blockdev-reopen", options=[options])
    assert thread(controllers, "low") == "ta"


@pytest.mark.parametrize("bus", ["b", "c"])
@pytest.mark.parametrize(
    ("controllers", "refused"), [("10.0", False), ("7.2", True)], indirect=["controllers"]
)
def test_only_old_versions_refuse_a_disk_whose_medium_is_elsewhere(
    controllers: Any, bus: str, refused: bool
) -> None:
    plug(controllers, "d", "one", "a")
    more = {"driver": "scsi-hd", "id": "e", "drive": "one", "bus": f"{bus}.0", "share_rw": True}
    if refused:
        assert controllers.desc("device_add", **more) == REFUSED
    else:
        controllers.ask("device_add", **more)
    assert thread(controllers, "one") == "ta"


@pytest.mark.parametrize(("kind", "cancelled"), [("scsi-hd", True), ("ide-hd", False)])
def test_jobs_on_a_drive_are_cancelled_with_its_device(
    start: Any, files: Any, kind: str, cancelled: bool
) -> None:
    files.put("/s", b"\7" * MB)
    bus = ("-device", "virtio-scsi-pci") if kind == "scsi-hd" else ()
    machine = start("-drive", "if=none,id=d,file=/s,format=raw", *bus,
                    "-device", f"{kind},drive=d,id=disk")  # fmt: skip
    files.put("/t", size=MB)
    machine.add("file", "t", filename="/t")
    machine.ask("blockdev-backup", work=False, job_id="j", device="d", target="t", sync="full",
                speed=1)  # fmt: skip
    disk = machine.vm.qom.at("/machine/peripheral/disk")
    machine.vm.block.unrealize(disk)
    names = [name for name, _data in machine.events]
    assert ("BLOCK_JOB_CANCELLED" in names) is cancelled


def test_a_device_can_be_given_another_medium(controllers: Any) -> None:
    plug(controllers, "d", "one", "c")
    path = "/machine/peripheral/d"
    controllers.ask("qom-set", path=path, property="drive", value="two")
    assert controllers.ask("qom-get", path=path, property="drive") == "two"
    nodes = controllers.vm.block.graph.nodes
    assert [len(nodes[name].parents) for name in ("one", "two")] == [0, 1]
    refused = controllers.desc("qom-set", path=path, property="drive", value="none")
    assert refused == "Cannot find device='' nor node-name='none'"
    plug(controllers, "e", "one", "a")
    refused = controllers.desc("qom-set", path=path, property="drive", value="one")
    assert refused == "Different aio context is not supported for new node"


@pytest.mark.parametrize(
    ("driver", "text"),
    [
        ({"driver": "virtio-blk-pci"}, REFUSED),
        ({"driver": "scsi-hd", "bus": "lsi.0"}, "HBA does not support iothreads"),
    ],
)
def test_devices_that_know_no_iothreads_need_the_main_loop(
    start: Any, driver: dict[str, str], text: str
) -> None:
    machine = start(
        "-object", "iothread,id=t", "-device", "virtio-scsi-pci,id=a,iothread=t",
        "-device", "lsi53c895a,id=lsi", "-device", "pcie-root-port,id=p",
    )  # fmt: skip
    machine.add("null-co", "one", size=MB)
    plug(machine, "d", "one", "a")
    more = {"bus": "p", **driver, "drive": "one", "share_rw": True}
    assert machine.desc("device_add", **more) == text
    assert thread(machine, "one") == "t"


# -- a human monitor's prompt, which shows when the start first waits for the host -----------------


@pytest.mark.parametrize(("file", "shown"), [(True, True), (False, False)])
def test_the_start_waits_for_the_first_sector_of_a_disk(
    start: Any, files: Any, file: bool, shown: bool
) -> None:
    files.put("/s", size=MB)
    drive = "file=/s,format=raw" if file else "driver=null-co"
    machine = start("-drive", f"if=none,id=d,{drive}")
    polls: list[bool] = []
    machine.vm.process.on_poll.append(lambda: polls.append(True))
    disk = machine.vm.block.backends.named["d"].node
    machine.vm.block.backends._guess_geometry(disk)
    assert bool(polls) is shown
