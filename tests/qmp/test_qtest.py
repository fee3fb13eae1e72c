"""The qtest server: the line protocol, the clock that stands still, lines, and the log."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

BARE = ("-nodefaults", "-display", "none", "-m", "64")
#: (request, answer) with a machine that was just started, on pc
PC = [
    ("endianness", "OK little"),
    ("foo bar", "FAIL Unknown command 'foo'"),
    ("rtas x 1 2 3 4", "FAIL Unknown command 'rtas'"),
    ("module_load accel- tcg", "FAIL"),
    ("clock_step 100", "OK 100"),
    ("clock_step", "OK 27462700"),
    ("clock_set 30000000", "OK 30000000"),
    ("writeq 0x1000 0x1122334455667788", "OK"),
    ("readb 0x1000", "OK 0x0000000000000088"),
    ("readw 0x1000", "OK 0x0000000000007788"),
    ("readl 4096", "OK 0x0000000055667788"),
    ("readq 010000", "OK 0x1122334455667788"),
    ("write 0x2000 4 0xaabb", "OK"),
    ("read 0x2000 6", "OK 0xaabb00000000"),
    ("write 0x2000 4 0x", "ERR invalid argument size"),
    ("memset 0x3000 3 0x41", "OK"),
    ("memset 0x3000 0 0x41", "OK"),
    ("read 0x3000 4", "OK 0x41414100"),
    ("b64write 0x4000 4 YWJjZA==", "OK"),
    ("b64read 0x4000 6", "OK YWJjZAAA"),
    ("readb 0x100000000", "OK 0x0000000000000000"),
    ("inb 0x1234", "OK 0x00ff"),
    ("inw 0x1234", "OK 0xffff"),
    ("inl 0x1234", "OK 0xffffffff"),
    ("outl 0xcf8 0x80000000", "OK"),
    ("inl 0xcfc", "OK 0x12378086"),
    ("inw 0xcfe", "OK 0x1237"),
    ("outl 0xcf8 0x80f80000", "OK"),
    ("inl 0xcfc", "OK 0xffffffff"),
    ("outw 0x510 0", "OK"),
    ("inb 0x511", "OK 0x0051"),
    ("inb 0x511", "OK 0x0045"),
    # a transfer: select item 0 and read four bytes of it to 0x6000
    ("write 0x5000 16 0x0000000a000000040000000000006000", "OK"),
    ("outl 0x514 0", "OK"),
    ("outl 0x518 0x00500000", "OK"),
    ("read 0x6000 4", "OK 0x51454d55"),
    ("read 0x5000 4", "OK 0x00000000"),
    ("outb 0x70 0x34", "OK"),
    ("inb 0x71", "OK 0x0000"),
    ("outb 0x70 0x35", "OK"),
    ("inb 0x71", "OK 0x0003"),
    ("outl 0xcf8 0x80000b40", "OK"),
    ("outl 0xcfc 0x601", "OK"),
    ("inw 0x604", "OK 0xffff"),
    ("outl 0xcf8 0x80000b80", "OK"),
    ("outb 0xcfc 1", "OK"),
    ("inw 0x604", "OK 0x0000"),
    ("outb 0x64 0xaa", "OK"),
    ("inb 0x64", "OK 0x001d"),
    ("inb 0x60", "OK 0x0055"),
    ("irq_intercept_in /machine/nothing", "FAIL Unknown device"),
    ("irq_intercept_in ioapic name", "FAIL Interception of named in-GPIOs not yet supported"),
    ("irq_intercept_in ioapic", "OK"),
    ("irq_intercept_out ioapic", "OK"),
    ("irq_intercept_in /machine/fw_cfg", "FAIL IRQ intercept already enabled"),
    ("set_irq_in ioapic unnamed-gpio-in 5 1", "IRQ raise 5"),
    ("", "OK"),
    ("set_irq_in ioapic unnamed-gpio-in 5 1", "OK"),
    ("set_irq_in ioapic unnamed-gpio-in 5 0", "IRQ lower 5"),
    ("", "OK"),
    ("clock_step 0", "FAIL could not advance time"),
    ("clock_set 5", "FAIL 30000000"),
]


class Server:
    """A listening socket that the server connects to, as test programs have one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.came: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_unix_server(
            lambda *ends: self.came.put_nowait(ends), self.path
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        self._server.close()

    async def connected(self) -> None:
        self._reader, self._writer = await asyncio.wait_for(self.came.get(), 20)

    def send(self, line: str) -> None:
        self._writer.write(line.encode() + b"\n")

    async def answer(self) -> str:
        line: bytes = await asyncio.wait_for(self._reader.readline(), 20)
        return line.decode().rstrip("\n")

    async def play(self, lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """What each of the requests is answered with; "" asks for nothing more."""
        found = []
        for line, _ in lines:
            if line:
                self.send(line)
            found.append((line, await self.answer()))
        return found


async def test_the_protocol(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Server(tmp_path / "q") as server:
        options = ("-accel", "qtest", "-qtest", f"unix:{server.path}", "-qtest-log", str(log))
        async with FakeQemu("-machine", "pc", *BARE, *options, profile="11.1") as vm:
            await server.connected()
            assert await server.play(PC) == PC
            assert (await vm.qmp("query-status"))["status"] == "running"
            assert vm.journal.of("unclaimed-memory", "0x100000000")
            await vm.qmp("quit")
    lines = log.read_text().splitlines()
    assert re.fullmatch(r"\[I 0\.\d{6}\] OPENED", lines[0])
    assert re.fullmatch(r"\[R \+\d+\.\d{6}\] endianness", lines[1])
    assert re.fullmatch(r"\[S \+\d+\.\d{6}\] OK little", lines[2])
    # the character device closes as the process ends
    closed = [re.fullmatch(r"\[I \+\d+\.\d{6}\] CLOSED", each) is not None for each in lines[-2:]]
    assert closed == [False, True]


async def test_the_machine_lives_in_its_own_time(tmp_path: Path) -> None:
    async with Server(tmp_path / "q") as server:
        options = ("-accel", "qtest", "-qtest", f"unix:{server.path}", "-qtest-log", "none")
        async with FakeQemu(
            "-machine", "pc", *BARE, *options, profile="11.1", clock="virtual"
        ) as vm:
            await server.connected()
            await vm.advance(10)
            assert await server.play([("clock_step 5", "")]) == [("clock_step 5", "OK 5")]


async def test_the_timer_raises_its_line(tmp_path: Path) -> None:
    lines = [
        ("irq_intercept_in ioapic", "OK"),
        ("clock_step", "IRQ raise 0"), ("", "OK 27462700"),
        ("clock_step", "IRQ lower 0"), ("", "OK 27462701"),
        ("clock_step", "OK 54925401"),
        # one interrupt every 4096 ticks
        ("outb 0x43 0x34", "OK"), ("outb 0x40 0", "OK"), ("outb 0x40 0x10", "OK"),
        ("clock_step", "IRQ raise 0"), ("", "OK 58359076"),
    ]  # fmt: skip
    async with Server(tmp_path / "q") as server:
        options = ("-accel", "qtest", "-qtest", f"unix:{server.path}", "-qtest-log", "none")
        async with FakeQemu("-machine", "q35", *BARE, *options, profile="11.1"):
            await server.connected()
            assert await server.play(lines) == lines


async def test_other_accelerators_leave_the_clock_alone(tmp_path: Path) -> None:
    async with Server(tmp_path / "q") as server:
        options = ("-S", "-qtest", f"unix:{server.path}", "-qtest-log", "none")
        async with FakeQemu("-machine", "pc", *BARE, *options, profile="7.2") as vm:
            await server.connected()
            wanted = [("clock_step 5", "FAIL Unknown command 'clock_step'")]
            assert await server.play(wanted) == wanted
            labels = [each["label"] for each in await vm.qmp("query-chardev")]
            assert "qtest" in labels
            children = await vm.qmp("qom-list", path="/machine")
            assert {"name": "qtest", "type": "child<qtest>"} in children


async def test_what_ends_a_real_server_is_refused(tmp_path: Path) -> None:
    async with Server(tmp_path / "q") as server:
        options = ("-accel", "qtest", "-qtest", f"unix:{server.path}", "-qtest-log", "none")
        async with FakeQemu("-machine", "pc", *BARE, *options, profile="11.1") as vm:
            await server.connected()
            for line in ("inb", "inb x", "outb 0x10000 1", "read 0x0 0", "write 0 2 0xzz"):
                server.send(line)
                assert (await server.answer()).startswith("FAIL fakeqemu: ")
            assert len(vm.journal.of("qtest-misuse")) == 5


async def test_on_a_device_of_the_command_line(tmp_path: Path) -> None:
    """How QEMU's own Python package starts one: the server is made after the devices."""
    (tmp_path / "in").write_text("clock_step 5\n")
    device = ("-chardev", f"file,id=c,path={tmp_path}/out,input-path={tmp_path}/in")
    options = ("-machine", "pc", *BARE, "-accel", "qtest", "-qtest", "chardev:c")
    async with FakeQemu(*options, *device, "-qtest-log", "none", profile="10.0") as vm:
        assert await vm.qmp("qom-get", path="/machine/qtest", property="chardev") == "c"
        async with asyncio.timeout(10):
            while not (answer := (tmp_path / "out").read_text()):
                await asyncio.sleep(0)
        assert answer.startswith("OK ")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-qtest", "chardev:d"], 'Failed to initialize device for qtest: "chardev:d"'),
        (["-qtest", "chardev:c", "-mon", "c"], "chardev 'c' is already in use"),
        (
            ["-qtest", "chardev:c", "-object", "qtest,id=q,chardev=c"],
            "Only one instance of qtest can be created",
        ),
        # what is made before the late backends is found wrong before them
        (["-qtest", "chardev:d", "-chardev", "null,id=c"], "Duplicate ID 'c' for chardev"),
        (["-qtest", "chardev:d", "-drive", "file=/nowhere,if=none"], "Could not open '/nowhere'"),
        # and the others after it
        (["-qtest", "chardev:d", "-mon", "nope"], "Failed to initialize device for qtest"),
    ],
)
async def test_a_server_that_cannot_be_made(options: list[str], text: str) -> None:
    machine = FakeQemu(
        "-machine", "none", *BARE, "-chardev", "null,id=c", *options, profile="10.0"
    )
    with pytest.raises(StartupError, match=re.escape(text)):
        await machine.start()
    await machine.stop()


async def test_as_an_object() -> None:
    chardev = ("-chardev", "null,id=c")
    server = ("-object", "qtest,id=q,chardev=c,log=none")
    async with FakeQemu("-machine", "pc", *BARE, *chardev, *server, profile="10.0") as vm:
        with pytest.raises(Exception, match="Only one instance of qtest can be created"):
            await vm.qmp("object-add", {"qom-type": "qtest", "id": "q2", "chardev": "c"})
        await vm.qmp("object-del", id="q")
        with pytest.raises(Exception, match="Cannot find character device 'd'"):
            await vm.qmp("object-add", {"qom-type": "qtest", "id": "q2", "chardev": "d"})
