"""What machines in a loop and in a thread do on any host; test_elsewhere runs it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import tempfile
from pathlib import Path
from typing import Any

from fakeqemu.testing import FakeQemu, Fleet, QmpError, SyncFakeQemu, Template

Q35 = ("-machine", "q35", "-nodefaults", "-display", "none", "-m", "256")


async def speaks(path: str) -> None:
    """A client's first words at a socket."""
    reader, writer = await asyncio.open_unix_connection(path)
    assert "QMP" in json.loads(await reader.readline())
    writer.write(b'{"execute": "qmp_capabilities"}\n{"execute": "query-status"}\n')
    await reader.readline()
    assert json.loads(await reader.readline())["return"]["running"]
    writer.close()
    await writer.wait_closed()


async def one_machine(runner: Any, folder: Path) -> None:
    """Clients, devices, disks, character devices, a dump."""
    options = (
        *Q35, "-device", "pcie-root-port,id=rp,chassis=1",
        "-qmp", "tcp:127.0.0.1:0,server=on,wait=off",
        "-chardev", f"file,id=log,path={folder / 'log'}", "-serial", "chardev:log",
        "-object", "memory-backend-ram,id=m,size=1M",
    )  # fmt: skip
    async with FakeQemu(*options, profile="10.0", runner=runner, clock="virtual") as vm:
        for _ in range(3):
            await speaks(vm.socket_path)
        await vm.client.execute("query-status")
        file = {"driver": "file", "filename": str(folder / f"{runner}.qcow2")}
        for job, options_of in (
            ("a", {**file, "size": 0}), ("b", {"driver": "qcow2", "file": "f", "size": 1 << 20})
        ):  # fmt: skip
            if job == "b":
                await vm.qmp("blockdev-add", {**file, "node-name": "f"})
            await vm.qmp("blockdev-create", {"job-id": job, "options": options_of})
            await vm.run_until("job", job, state="concluded")
            assert not (await vm.qmp("query-jobs"))[0].get("error")
            await vm.qmp("job-dismiss", id=job)
        await vm.qmp("blockdev-add", {"driver": "qcow2", "file": "f", "node-name": "q"})
        for line in ("write -P 1 0 64k", "read -P 1 0 64k", "write -z 0 64k", "discard 0 64k"):
            await vm.hmp(f'qemu-io q "{line}"')
        await vm.qmp("device_add", driver="virtio-blk-pci", id="d", drive="q", bus="rp")
        vm.guest.print("hello")
        vm.guest.unplug("d")
        await vm.wait_event("DEVICE_DELETED", device="d")
        dump = {"paging": False, "protocol": f"file:{folder / runner}.dump"}
        await vm.qmp("dump-guest-memory", dump)
        vm.faults.add("error", command="stop", desc="No")
        try:
            await vm.client.execute("stop")
        except Exception as error:
            assert "No" in str(error)
        assert "hello" in (folder / "log").read_text()
        abstract = {"type": "unix", "data": {"path": "x", "abstract": True}}
        backend = {"type": "socket", "data": {"addr": abstract, "server": True, "wait": False}}
        try:
            await vm.qmp("chardev-add", {"id": "abstract", "backend": backend})
        except QmpError as error:
            assert "Failed to bind" in str(error), error
        else:
            raise AssertionError("the host has no abstract sockets")


async def pairs(runner: Any) -> None:
    """Migrations: precopy with multifd over TCP, postcopy, to a command."""
    for capabilities in (("multifd",), ("postcopy-ram",)):
        src, dst = await FakeQemu.pair(
            *Q35, listen=False, profile="10.0", runner=runner, client=False,
            guest={"memory": "256M", "dirty-rate": "1M/s"},
        )  # fmt: skip
        wanted = [{"capability": name, "state": True} for name in capabilities]
        for vm in (src, dst):
            await vm.qmp("migrate-set-capabilities", capabilities=wanted)
        await dst.qmp("migrate-incoming", uri=dst.migration_uri)
        await src.qmp("migrate", uri=dst.migration_uri)
        if "postcopy-ram" in capabilities:
            await src.run_until("migration", "active")
            await src.qmp("migrate-start-postcopy")
        await src.run_until("migration", "completed")
        await src.stop()
        await dst.stop()
    async with FakeQemu("-machine", "none", profile="10.0", runner=runner, client=False) as vm:
        await vm.qmp("migrate", uri="exec:cat > /dev/null")
        await vm.wait_for("migration", "completed")


def without_await() -> None:
    """The synchronous API, and copies."""
    with SyncFakeQemu(*Q35, profile="7.2") as vm:
        vm.qmp("stop")
        assert vm.wait_event("STOP")
    template = Template(*Q35, profile="10.0", prepare=lambda vm: vm.qmp("stop"))
    for _ in range(2):
        with template.sync() as vm:
            assert not vm.qmp("query-status")["running"]


async def main() -> None:
    """All of it."""
    assert not hasattr(select, "epoll") and not hasattr(os, "memfd_create")
    assert not Path("/proc/self").exists()
    with tempfile.TemporaryDirectory() as name:
        for runner in ("loop", "thread"):
            await one_machine(runner, Path(name))
            await pairs(runner)
    async with Fleet.of(3, "-machine", "none", profile="10.0", clock="virtual") as fleet:
        await fleet.advance(10)
        await speaks(str(fleet.socket("vm-1")))


if __name__ == "__main__":
    asyncio.run(main())
    without_await()
    print("all of it")
