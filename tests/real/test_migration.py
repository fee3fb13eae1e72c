"""A real QEMU at the other end: it migrates to the model, and the model to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.testing import FakeQemu
from tests.support.processes import QemuProcess

NONE = ("-machine", "none")
SMALL = ("-machine", "none", "-m", "64")
Q35 = ("-machine", "q35", "-m", "64", "-nodefaults", "-accel", "tcg")


async def status(machine, *wanted: str) -> str:
    """Wait for one of the states of query-migrate."""
    async with asyncio.timeout(20):
        while True:
            found = (await machine.qmp("query-migrate")).get("status")
            if found in wanted:
                return found


async def run_state(machine, wanted: str) -> None:
    """Wait for a run state: a real source is `completed` before its main loop has changed it."""
    async with asyncio.timeout(20):
        while (await machine.qmp("query-status"))["status"] != wanted:
            pass


async def switch(machine, *names: str) -> None:
    wanted = [{"capability": name, "state": True} for name in names]
    await machine.qmp("migrate-set-capabilities", {"capabilities": wanted})


async def listening(machine, kind: str, folder: Path) -> dict[str, str]:
    """Have it listen for a migration; the arguments of `migrate` that reach it."""
    if kind == "unix":
        uri = f"unix:{folder}/m"
        await machine.qmp("migrate-incoming", {"uri": uri})
        return {"uri": uri}
    await machine.qmp("migrate-incoming", {"uri": "tcp:127.0.0.1:0"})
    (address,) = (await machine.qmp("query-migrate"))["socket-address"]
    return {"uri": f"tcp:127.0.0.1:{address['port']}"}


def fake(version: str, argv: tuple[str, ...], *more: str) -> FakeQemu:
    return FakeQemu(*argv, *more, "-display", "none", profile=version)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("argv", [NONE, SMALL, Q35], ids=["none", "small", "q35"])
@pytest.mark.parametrize("names", [(), ("return-path",), ("multifd",)])
@pytest.mark.parametrize("to_fake", [True, False])
async def test_over_sockets(real_qemu, tmp_path, kind, argv, names, to_fake):
    incoming = ("-incoming", "defer")
    theirs = QemuProcess([real_qemu.binary], argv if to_fake else (*argv, *incoming), tmp_path)
    async with fake(real_qemu.version, argv, *(incoming if to_fake else ())) as mine, theirs:
        src, dst = (theirs, mine) if to_fake else (mine, theirs)
        if names:
            await switch(src, *names)
            await switch(dst, *names)
        await src.qmp("migrate", await listening(dst, kind, tmp_path))
        assert await status(src, "completed", "failed") == "completed"
        assert await status(dst, "completed", "failed") == "completed"
        await run_state(dst, "running")
        await run_state(src, "postmigrate")


@pytest.mark.parametrize("argv", [NONE, SMALL, Q35], ids=["none", "small", "q35"])
@pytest.mark.parametrize("to_fake", [True, False])
async def test_through_a_file(real_qemu, tmp_path, argv, to_fake):
    store = {"uri": f"exec:cat > {tmp_path}/f && echo > {tmp_path}/done"}
    load = {"uri": f"exec:cat {tmp_path}/f"}
    os.mkfifo(tmp_path / "done")
    done, written = os.open(tmp_path / "done", os.O_RDWR | os.O_NONBLOCK), asyncio.Event()
    asyncio.get_running_loop().add_reader(done, written.set)
    incoming = ("-incoming", "defer")
    theirs = QemuProcess([real_qemu.binary], argv if to_fake else (*argv, *incoming), tmp_path)
    async with fake(real_qemu.version, argv, *(incoming if to_fake else ())) as mine, theirs:
        src, dst = (theirs, mine) if to_fake else (mine, theirs)
        await src.qmp("migrate", store)
        assert await status(src, "completed", "failed") == "completed"
        # the command may still be writing
        async with asyncio.timeout(10):
            await written.wait()
        asyncio.get_running_loop().remove_reader(done)
        os.close(done)
        await dst.qmp("migrate-incoming", load)
        assert await status(dst, "completed", "failed") == "completed"


@pytest.mark.parametrize("to_fake", [True, False])
async def test_dirty_bitmaps(real_qemu, tmp_path, to_fake):
    disk = ("-blockdev", "driver=null-co,node-name=n0,read-zeroes=on,size=1073741824")
    argv = ("-machine", "none", *disk)
    incoming = ("-incoming", "defer")
    theirs = QemuProcess([real_qemu.binary], argv if to_fake else (*argv, *incoming), tmp_path)

    async def bitmaps(machine) -> list[tuple]:
        (node,) = await machine.qmp("query-named-block-nodes")
        return sorted(tuple(sorted(each.items())) for each in node["dirty-bitmaps"])

    async with fake(real_qemu.version, argv, *(incoming if to_fake else ())) as mine, theirs:
        src, dst = (theirs, mine) if to_fake else (mine, theirs)
        for name, options in (("a", {}), ("b", {"granularity": 1 << 20, "disabled": True})):
            await src.qmp("block-dirty-bitmap-add", {"node": "n0", "name": name, **options})
        before = await bitmaps(src)
        for machine in (src, dst):
            await switch(machine, "dirty-bitmaps")
        for machine, name in ((src, "a"), (dst, "c")):
            names = [{"name": name, "alias": "x"}, {"name": "b", "alias": "y"}]
            mapping = [{"node-name": "n0", "alias": "disk", "bitmaps": names}]
            await machine.qmp("migrate-set-parameters", {"block-bitmap-mapping": mapping})
        await dst.qmp("migrate-incoming", {"uri": f"unix:{tmp_path}/m"})
        await src.qmp("migrate", {"uri": f"unix:{tmp_path}/m"})
        assert await status(src, "completed", "failed") == "completed"
        assert await status(dst, "completed", "failed") == "completed"
        renamed = [tuple((k, "c" if v == "a" else v) for k, v in each) for each in before]
        assert await bitmaps(dst) == sorted(renamed)


@pytest.mark.parametrize("to_fake", [True, False])
async def test_postcopy_with_a_break(real_qemu, tmp_path, to_fake):
    argv = (*Q35, "-S")
    incoming = ("-incoming", "defer")
    theirs = QemuProcess([real_qemu.binary], argv if to_fake else (*argv, *incoming), tmp_path)
    async with fake(real_qemu.version, argv, *(incoming if to_fake else ())) as mine, theirs:
        src, dst = (theirs, mine) if to_fake else (mine, theirs)
        try:
            await switch(theirs, "postcopy-ram")
        except Exception as error:
            pytest.skip(f"the host cannot do postcopy: {error}")
        await switch(mine, "postcopy-ram")
        slow = {"max-bandwidth": 50_000, "max-postcopy-bandwidth": 50_000}
        await src.qmp("migrate-set-parameters", slow)
        await dst.qmp("migrate-incoming", {"uri": f"unix:{tmp_path}/m"})
        await src.qmp("migrate", {"uri": f"unix:{tmp_path}/m"})
        await status(src, "active")
        await src.qmp("migrate-start-postcopy")
        await status(src, "postcopy-active")
        await status(dst, "postcopy-active")
        await src.qmp("migrate-pause")
        await status(src, "postcopy-paused")
        await status(dst, "postcopy-paused")
        await dst.qmp("migrate-recover", {"uri": f"unix:{tmp_path}/r"})
        await src.qmp("migrate", {"uri": f"unix:{tmp_path}/r", "resume": True})
        await src.qmp("migrate-set-parameters", {"max-postcopy-bandwidth": 0})
        assert await status(src, "completed", "failed") == "completed"
        assert await status(dst, "completed", "failed") == "completed"


@pytest.fixture
def analyze() -> str:
    """QEMU's own reader of streams in files, of 10.0 or newer."""
    command = os.environ.get("FAKEQEMU_ANALYZE_MIGRATION") or shutil.which("analyze-migration.py")
    if not command:
        pytest.skip("no analyze-migration.py: neither FAKEQEMU_ANALYZE_MIGRATION nor in PATH")
    return command


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize("machine", ["none", "q35"])
def test_a_file_is_understood_by_qemus_own_tool(analyze, make, clock, tmp_path, version, machine):
    vm = make(version, machine_type=machine, ram=64 << 20)
    vm.command("migrate", uri="exec:cat")
    clock.run_until_idle()
    assert vm.status == "completed"
    file = tmp_path / "stream"
    file.write_bytes(vm.host.streams[0].written)
    argv = [sys.executable, analyze, "-f", str(file)]
    text = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout
    found = json.loads(text)
    assert {"ram (2)", "timer (0)"} <= set(found) or {"timer (0)", "globalstate (4)"} <= set(found)
