"""gdb, qtest and terminals that send whatever they like: no bug, no memory, and service goes on."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fakeqemu.gdbstub.packets import frame
from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions
from fakeqemu.qmp.hmp.terminal import HmpTerminal
from fakeqemu.qmp.qtest import QtestServer

from .test_gdb_server import Debugger

SETTINGS = settings(
    max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck)
)
WORDS = st.sampled_from(
    [str(number) for number in (0, 1, 64, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64)]
    + ["-1", "0x", "", "é", "9" * 5000, "0x00500000", "ioapic", "unnamed-gpio-in", "YWJj"]
)


class Client:
    """Somebody at a character device of a machine."""

    def __init__(self, frontend: Any, profile: str, *argv: str) -> None:
        self.sent = bytearray()
        self.vm = Debugger("-machine", "pc", *argv, profile=profile).vm
        chardev = Chardev(ChardevOptions("c", "null"), self.vm.profile.traits)
        chardev.transport = self
        self.vm.chardevs.insert(chardev)
        self.frontend = frontend(self.vm, chardev)
        chardev.opened()

    def write(self, data: bytes) -> None:
        self.sent += data

    def set_reading(self, reading: bool) -> None: ...
    def disconnect(self) -> None: ...
    def close(self) -> None: ...
    def add_client(self, fd: int) -> bool:
        return False

    def say(self, data: bytes) -> bytes:
        self.sent.clear()
        self.frontend.chr_received(data, [])
        return bytes(self.sent)


def bugs(vm: Any) -> list[Any]:
    return [entry.data for entry in vm.journal if entry.kind == "bug"]


def qtest(vm: Any, chardev: Chardev) -> QtestServer:
    return QtestServer(vm, chardev, None)


REQUESTS = [
    "clock_step", "clock_set", "memset", "read", "write", "b64read", "b64write", "readb", "readq",
    "writel", "inb", "inw", "outb", "outl", "irq_intercept_in", "irq_intercept_out", "set_irq_in",
    "endianness", "module_load",
]  # fmt: skip


@pytest.fixture(scope="module")
def tester() -> Client:
    return Client(qtest, "11.1", "-accel", "qtest")


@SETTINGS
@given(
    st.lists(
        st.one_of(
            st.builds(
                lambda name, words: " ".join([name, *words]).encode(),
                st.sampled_from(REQUESTS),
                st.lists(WORDS, max_size=4),
            ),
            st.binary(max_size=20),
        ),
        min_size=1,
        max_size=4,
    ).map(b"\n".join)
)
def test_whatever_a_test_program_says(tester: Client, said: bytes) -> None:
    tester.say(said + b"\n")
    assert bugs(tester.vm) == []
    if tester.vm.process.exit_code is None:
        assert tester.say(b"endianness\n") == b"OK little\n"


@pytest.mark.parametrize(
    "line", ["read 0 0x{:x}", "memset 0 0x{:x} 1", "write 0 0x{:x} 0x11", "b64read 0 0x{:x}",
             "b64write 0 0x{:x} AAAA"]
)  # fmt: skip
@pytest.mark.parametrize("size", [1 << 27, 1 << 40, 1 << 63])
def test_a_length_costs_nothing(tester: Client, line: str, size: int) -> None:
    tracemalloc.start()
    answer = tester.say(line.format(size).encode() + b"\n")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.startswith(b"FAIL fakeqemu does not model 'qtest requests")
    assert most < 16 << 20


def test_the_longest_transfer_of_fw_cfg_costs_nothing(tester: Client) -> None:
    # select item 0, read 4 GiB less one byte of it to 0x6000
    tester.say(b"write 0x7000 4 0xaabbccdd\n")
    tester.say(b"write 0x5000 16 0x0000000affffffff0000000000006000\n")
    tracemalloc.start()
    assert tester.say(b"outl 0x514 0\noutl 0x518 0x00500000\n") == b"OK\nOK\n"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 << 20
    # its content, and zeros behind that
    assert tester.say(b"read 0x6000 4\nread 0x7000 4\n") == b"OK 0x51454d55\nOK 0x00000000\n"


@pytest.fixture(scope="module", params=["7.2", "11.1"])
def debugger(request: Any) -> Debugger:
    return Debugger("-machine", "q35", "-smp", "2", profile=request.param)


PACKETS = st.builds(
    lambda start, numbers, end: start + b",".join(b"%x" % n for n in numbers) + end,
    st.sampled_from(
        b"? c C D s b F g G m M p P Z0, Z2, z0, Hg Hcp T Tp q Q vCont;c: vCont;s:p1. vAttach; qC"
        b" qRcmd, qThreadExtraInfo, qXfer:features:read::0, Qqemu.sstep: ! bs bc".split()
    ),
    st.lists(st.sampled_from([0, 1, 2, 8, 0x800, 0x1000, (1 << 64) - 1, 1 << 64]), max_size=3),
    st.one_of(st.just(b""), st.just(b":deadbeef"), st.just(b"=11"), st.binary(max_size=6)),
)


@SETTINGS
@given(st.lists(st.one_of(PACKETS.map(frame), st.binary(max_size=8)), max_size=5), st.booleans())
def test_whatever_a_debugger_says(debugger: Debugger, said: list[bytes], taken: bool) -> None:
    debugger.server.chr_opened()
    for piece in said:
        debugger.server.chr_received(piece + (b"+" if taken else b""), [])
    assert bugs(debugger.vm) == []
    assert debugger.vm.process.exit_code is None
    debugger.sent = b""
    debugger.server.chr_received(b"#00+++" + frame(b"qAttached"), [])
    assert frame(b"1") in debugger.sent


@pytest.fixture(scope="module")
def terminal() -> Client:
    return Client(HmpTerminal, "10.0")


KEYS = st.one_of(
    st.sampled_from(
        [b"\x1b[A", b"\x1b[B", b"\x1b[3~", b"\x1b[1~", b"\x1b[99999999999999999999~", b"\x1bO",
         b"\x01", b"\x04", b"\x05", b"\x08", b"\x7f", b"\t\t", b"\x0c", b"\x17", b"\x1b", b"\xff",
         b"\xc3\xa9", b"\r", b"info ", b"x", b"print ", b"(", b"1", b"/", b"0", b"\"", b"sendkey ",
         b"-"]
    ),
    st.binary(max_size=3),
)  # fmt: skip


@SETTINGS
@given(st.lists(KEYS, max_size=25).map(b"".join))
def test_whatever_is_typed(terminal: Client, keys: bytes) -> None:
    for byte in keys:
        terminal.say(bytes([byte]))
    assert bugs(terminal.vm) == []
    # an escape sequence may be under way, and a line
    terminal.say(b"A\r")
    assert b"VM status: paused" in terminal.say(b"info status\r")
