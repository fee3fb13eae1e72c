"""gdb's server as gdb meets it: over sockets, with gdb itself."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakeqemu.gdbstub.packets import frame
from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

BARE = ("-nodefaults", "-display", "none", "-m", "64")
GDB = shutil.which("gdb")
needs_gdb = pytest.mark.skipif(GDB is None, reason="no gdb in PATH")
#: what a person types first: everything that does not depend on code being executed
SCRIPT = (
    "info threads", "info registers", "info registers cr0 cr4 efer st0 xmm0 mxcsr",
    "maintenance print remote-registers", "x/4xb 0", "set {int}0x1000 = 0x12345678", "x/2xw 0x1000",
    "x/xb 0x4000000", "set $rax = 0x1122", "print/x $rax", "set $eflags = 0x202", "print $eflags",
    "print $cs", "break *0x1000", "watch *(int*)0x2000", "info breakpoints", "delete",
    "thread 2", "info registers rip", "maintenance packet qqemu.sstepbits",
    "maintenance packet Qqemu.PhyMemMode:1", "monitor info status", "monitor nosuch",
    "monitor gdbserver chardev:nope", "thread 1", "stepi 0", "detach",
)  # fmt: skip


def run_gdb(target: str, script: Sequence[str]) -> str:
    """What gdb prints; files it would read at the start are left alone."""
    assert GDB is not None
    commands = [f"-ex={line}" for line in script]
    found = subprocess.run(
        [GDB, "-nx", "-batch", "-ex=set confirm off", "-ex=set architecture i386:x86-64",
         f"-ex=target remote {target}", *commands],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=60, check=False, text=True,
    )  # fmt: skip
    return found.stdout


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.wait_for(asyncio.open_unix_connection(path), 20)


async def ask(ends: tuple[asyncio.StreamReader, asyncio.StreamWriter], packet: bytes) -> bytes:
    """The next answer's data."""
    ends[1].write(b"+" + frame(packet))
    return await answer_from(ends[0])


async def answer_from(reader: asyncio.StreamReader) -> bytes:
    answer = await asyncio.wait_for(reader.readuntil(b"#"), 20)
    await asyncio.wait_for(reader.readexactly(2), 20)
    return answer.split(b"$", 1)[1][:-1]


async def labels(vm: FakeQemu) -> dict[str, str]:
    return {each["label"]: each["filename"] for each in await vm.qmp("query-chardev")}


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
async def test_a_debugger_comes_and_goes(tmp_path: Path, profile: str) -> None:
    path = tmp_path / "gdb"
    async with FakeQemu(
        *BARE, "-gdb", f"unix:{path},server=on,wait=off", profile=profile
    ) as vm:
        assert (await vm.qmp("query-status"))["status"] == "running"
        assert (await labels(vm))["#chr000"] == "gdb"
        ends = await connect(path)
        await vm.wait_event("STOP")
        assert (await vm.qmp("query-status"))["status"] == "paused"
        if profile == "7.2":
            # which reports a stop that nobody has asked for
            assert await answer_from(ends[0]) == b"T02thread:01;"
        assert (await ask(ends, b"qC")) == b"QC01"
        assert (await ask(ends, b"D")) == b"OK"
        await vm.wait_for("runstate", "running", old="paused")
        ends[1].close()
        await ends[1].wait_closed()


async def test_the_monitor_opens_and_closes_the_server(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    device = f"unix:{path},server=on,wait=off"
    async with FakeQemu(*BARE, "-S", profile="7.2") as vm:
        assert await vm.hmp(f"gdbserver {device}") == (
            f"Waiting for gdb connection on device '{device}'\n"
        )
        reader, writer = ends = await connect(path)
        assert await ask(ends, b"qC") == b"QC01"
        assert await vm.hmp(f"gdbserver {device}") == (
            f"duplicate yank instance\nCould not open gdbserver on device '{device}'\n"
        )
        assert await vm.hmp("gdbserver none") == "Disabled gdbserver\n"
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        await writer.wait_closed()
        assert sorted(await labels(vm)) == ["#chr000", "compat_monitor0"]
        await vm.qmp("chardev-add", id="c", backend={"type": "null", "data": {}})
        assert "Waiting" in await vm.hmp("gdbserver chardev:c")
        with pytest.raises(Exception, match="Chardev 'c' is busy"):
            await vm.qmp("chardev-remove", id="c")
        await vm.hmp("gdbserver none")
        assert "c" not in await labels(vm)


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("7.2", "REASON\nCould not open gdbserver on device 'bla'\n"),
        ("10.0", "REASON\nwarning: gdbstub: couldn't create chardev\n"
                 "Could not open gdbserver on device 'bla'\n"),
        ("11.1", "REASON\ngdbstub: couldn't create chardev\n"),
    ],
)  # fmt: skip
async def test_the_monitor_says_why_there_is_no_server(profile: str, text: str) -> None:
    async with FakeQemu(*BARE, "-S", profile=profile) as vm:
        wanted = text.replace("REASON", "'bla' is not a valid char driver")
        assert await vm.hmp("gdbserver bla") == wanted
    async with FakeQemu("-machine", "none", profile=profile) as vm:
        printed = await vm.hmp("gdbserver")
        assert "gdbstub: meaningless to attach gdb to a machine without any CPU." in printed


#: options -> what is said from 10.0 on; 7.2 leaves out the last line of those with two
REFUSED: dict[tuple[str, ...], list[str]] = {
    ("-gdb", "bla"): [
        "-gdb bla: 'bla' is not a valid char driver",
        "-gdb bla: gdbstub: couldn't create chardev",
    ],
    ("-gdb", "chardev:nope"): ["-gdb chardev:nope: gdbstub: couldn't create chardev"],
    ("-gdb", "tcp:1"): ["-gdb tcp:1: gdbstub: couldn't create chardev"],
    ("-M", "none", "-s"): [
        "-s: gdbstub: meaningless to attach gdb to a machine without any CPU."
    ],
    ("-chardev", "null,id=gdb", "-gdb", "null"): [
        "-gdb null: Duplicate ID 'gdb' for chardev",
        "-gdb null: gdbstub: couldn't create chardev",
    ],
    ("-gdb", "null", "-gdb", "null"): [
        "-gdb null: attempt to add duplicate property 'gdb' to object (type 'container')",
        "-gdb null: gdbstub: couldn't create chardev",
    ],
    ("-gdb", "unix:/nonexistent/x,server=on,wait=off"): [
        "-gdb unix:/nonexistent/x,server=on,wait=off: Failed to bind socket to"
        " /nonexistent/x: No such file or directory",
        "-gdb unix:/nonexistent/x,server=on,wait=off: gdbstub: couldn't create chardev",
    ],
}


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
async def test_options_that_are_refused(profile: str, options: tuple[str, ...]) -> None:
    wanted = REFUSED[options]
    if profile == "7.2":
        wanted = [line for line in wanted if "couldn't create" not in line]
    with pytest.raises(StartupError) as caught:
        await FakeQemu("-nodefaults", "-display", "none", *options, profile=profile)
    assert list(caught.value.lines) == wanted


async def test_the_server_comes_after_the_devices_and_before_incoming(tmp_path: Path) -> None:
    async with FakeQemu(*BARE, "-S", "-gdb", "null", profile="7.2") as vm:
        steps = [entry.name for entry in vm.journal.of("boot")]
        at = steps.index("gdb server")
        assert steps[at - 1 : at + 2] == ["first reset", "gdb server", "unused vga"]


@needs_gdb
async def test_gdb_attaches(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    argv = ("-S", "-machine", "q35", "-smp", "2", "-gdb", f"unix:{path},server=on,wait=off")
    async with FakeQemu(*BARE, *argv, profile="10.0") as vm:
        printed = await asyncio.to_thread(run_gdb, str(path), SCRIPT)
        assert re.search(r"\* 1 .*Thread 1\.1 \(CPU#0 \[running\]\) 0x0*fff0 in", printed)
        assert "0x12345678\t0x00000000" in printed
        assert "Cannot access memory at address 0x4000000" in printed
        assert "VM status: paused (prelaunch)" in printed
        await vm.wait_event("RESUME")
        running = await asyncio.to_thread(
            run_gdb, str(path), ("break *0xfffffff0", "continue", "info breakpoints", "kill")
        )
        # the machine is where a reset left it, so its first instruction is still to come
        assert "received signal SIGTRAP" in running
        await vm.wait_event("SHUTDOWN")
