"""vCPUs and iothreads have threads of their own in a process of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from fakeqemu.io.process.threads import ParkedThreads
from fakeqemu.testing import FakeQemu
from tests.support.waiting import until_elsewhere


def tasks() -> list[str]:
    """The threads of this process."""
    return [path.name for path in Path("/proc/self/task").iterdir()]


def iothreads(folder: Path) -> set[str]:
    """The names of a process's threads that belong to iothreads."""
    names = set()
    for task in folder.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            names.add((task / "comm").read_text().strip())
    return {name for name in names if name.startswith("IO")}


Q35 = ("-machine", "q35", "-nodefaults", "-display", "none", "-smp", "2,maxcpus=3")


def test_a_thread_is_made_once_and_ends() -> None:
    parked = ParkedThreads()
    id = parked.id_of("CPU 0/TCG")
    assert parked.id_of("CPU 0/TCG") == id
    task = Path(f"/proc/self/task/{id}")
    assert (task / "comm").read_text() == "CPU 0/TCG\n"
    (mine,) = [thread for thread in tasks() if int(thread) == id]
    assert int(mine) != threading.get_native_id()
    parked.end("CPU 0/TCG")
    parked.end("never there")
    assert parked.id_of("CPU 0/TCG")
    parked.end("CPU 0/TCG")


async def test_ids_are_threads_of_the_process() -> None:
    options = (*Q35, "-object", "iothread,id=io1")
    async with FakeQemu(*options, profile="10.0", runner="process") as vm:
        await vm.qmp("object-add", {"qom-type": "iothread", "id": "io2"})
        ids = [cpu["thread-id"] for cpu in await vm.qmp("query-cpus-fast")]
        ids += [each["thread-id"] for each in await vm.qmp("query-iothreads")]
        assert len(set(ids)) == 4
        processes = {
            line.split()[1]
            for id in ids
            for line in Path(f"/proc/{id}/status").read_text().splitlines()
            if line.startswith("Tgid:")
        }
        assert len(processes) == 1
        assert processes.isdisjoint({str(os.getpid())})
        assert ids == [cpu["thread-id"] for cpu in await vm.qmp("query-cpus-fast")] + ids[2:]


async def test_an_iothread_has_its_thread_before_anybody_asks(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    options = ("-machine", "none", "-object", "iothread,id=io1", "-pidfile", str(pid_file))
    async with FakeQemu(*options, profile="10.0", runner="process", client=False) as vm:
        await vm.qmp("object-add", {"qom-type": "iothread", "id": "io2"})
        await vm.qmp("object-add", {"qom-type": "iothread", "id": "io3"})
        await vm.qmp("object-del", {"id": "io3"})
        folder = Path(f"/proc/{pid_file.read_text().strip()}/task")
        # the one that was let go ends when the kernel comes to it
        await until_elsewhere(
            lambda: iothreads(folder) == {"IO io1", "IO io2"}, "the threads of two iothreads"
        )


async def test_machines_that_share_a_process_have_none() -> None:
    before = len(tasks())
    async with FakeQemu(*Q35, profile="10.0") as vm:
        cpus = await vm.qmp("query-cpus-fast")
        assert len({cpu["thread-id"] for cpu in cpus}) == 2
        assert len(tasks()) == before


async def test_migration_has_threads_while_it_lasts(tmp_path: Path) -> None:
    async with FakeQemu(*Q35, profile="10.0", runner="process") as vm:
        wanted = [{"capability": "pause-before-switchover", "state": True}]
        await vm.qmp("migrate-set-capabilities", {"capabilities": wanted})
        await vm.qmp("migrate", {"uri": f"file:{tmp_path / 'state'}"})
        await vm.wait_event("STOP")
        (thread,) = await vm.qmp("query-migrationthreads")
        path = Path(f"/proc/{thread['thread-id']}/comm")
        assert path.read_text() == "mig/src/main\n"
        cpus = await vm.qmp("query-cpus-fast")
        assert thread["thread-id"] not in [cpu["thread-id"] for cpu in cpus]
        await vm.qmp("migrate_cancel")
        while await vm.qmp("query-migrationthreads"):
            pass
