"""gdb's server on a machine: packets and answers, run states, breakpoints, its end."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.gdbstub.packets import frame
from fakeqemu.gdbstub.server import GdbServer
from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qmp.dispatch import dispatcher_of

VERSIONS = ("7.2", "10.0", "11.1", "next")


class Debugger:
    """A client of a server on a machine without a world."""

    def __init__(self, *argv: str, profile: str = "11.1", stopped: bool = True) -> None:
        self.sent = b""
        self.warnings: list[str] = []
        loaded = Profile.load(profile)
        options = ["-nodefaults", "-display", "none", "-accel", "tcg", "-m", "64", *argv]
        host = NullHost()
        host.warn = self.warnings.append  # type: ignore[method-assign]
        boot = Boot.of(
            parse_command_line([*options, *(["-S"] if stopped else [])], loaded),
            loaded, VirtualClock(), host,
        )  # fmt: skip
        for _request in boot.run():
            pass
        boot.finish()
        self.vm = boot.vm
        self.events: list[str] = []
        self.vm.events.listen(lambda event: self.events.append(event.name))
        self.server = GdbServer(self.vm)
        self.chardev = Chardev(ChardevOptions("gdb", "null"), loaded.traits)
        self.chardev.transport = self
        self.vm.chardevs.insert(self.chardev)
        self.server.sit_on(self.chardev)
        self.chardev.opened()

    # -- as the transport --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.sent += data

    def set_reading(self, reading: bool) -> None: ...
    def disconnect(self) -> None: ...
    def close(self) -> None: ...
    def add_client(self, fd: int) -> bool:
        return False

    # -- as the client -----------------------------------------------------------------------

    def raw(self, data: bytes) -> bytes:
        """What comes back."""
        self.sent = b""
        self.chardev.received(data)
        return self.sent

    def ask(self, packet: str, *, ack: bool = True) -> Any:
        """The answer's data, one of several as a list; acknowledged."""
        back = self.raw(frame(packet.encode()))
        assert back.startswith(b"+"), back
        parts = [part.split(b"#")[0].decode("latin-1") for part in back[1:].split(b"$")[1:]]
        if ack and parts:
            self.raw(b"+")
        return parts[0] if len(parts) == 1 else parts

    @property
    def state(self) -> str:
        return self.vm.runstate.current

    def qmp(self, command: str, **arguments: Any) -> Any:
        return dispatcher_of(self.vm).execute(command, arguments)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_conversation_begins(version: str) -> None:
    gdb = Debugger("-machine", "q35", "-smp", "2", profile=version)
    old = version in ("7.2", "10.0")
    size = "1000" if old else "20020"
    assert gdb.ask("qSupported:multiprocess+;swbreak+") == (
        f"PacketSize={size};qXfer:features:read+;vContSupported+;multiprocess+"
    )
    assert gdb.ask("?") == ("T05thread:p01.01;" if old else "T05core:01;")
    assert [gdb.ask("qfThreadInfo"), gdb.ask("qsThreadInfo"), gdb.ask("qsThreadInfo")] == [
        "mp01.01", "mp01.02", "l"
    ]  # fmt: skip
    assert bytes.fromhex(gdb.ask("qThreadExtraInfo,p1.1")) == b"CPU#0 [running]"
    assert bytes.fromhex(gdb.ask("qThreadExtraInfo,p1.2")) == b"CPU#1 [halted ]"
    assert gdb.ask("qThreadExtraInfo,p1.9") == []
    assert [gdb.ask(f"Hg{each}") for each in ("0", "p1.2", "p1.-1", "9", "p2.1")] == [
        "OK", "OK", "OK", "E22", "E22"
    ]  # fmt: skip
    assert [gdb.ask(each) for each in ("Hz1", "H", "T1", "Tp1.2", "Tp1.3", "T")] == [
        "E22", "E22", "OK", "OK", "E22", "E22"
    ]  # fmt: skip
    assert gdb.ask("qC") == "QCp01.01"
    assert [gdb.ask("qAttached"), gdb.ask("qAttached:1"), gdb.ask("!")] == ["1", "1", "OK"]
    assert [gdb.ask("vMustReplyEmpty"), gdb.ask("X0,0:"), gdb.ask("qNope")] == ["", "", ""]
    assert [gdb.ask("vAttach;1")[:3], gdb.ask("vAttach;9")] == ["T05", "E22"]
    assert gdb.ask("b") == (["E22", ""] if old else "E22")
    assert gdb.ask("vCont?") == "vCont;c;C;s;S"


def test_threads_without_processes() -> None:
    gdb = Debugger(profile="10.0")
    assert gdb.ask("?") == "T05thread:01;"
    assert gdb.ask("qC") == "QC01"


def test_the_features_come_in_pieces(version: str) -> None:
    gdb = Debugger(profile=version)
    # a client of 7.2 that has not asked for them gets no single registers
    assert gdb.ask("p10") == ("" if version == "7.2" else "f0ff000000000000")
    assert gdb.ask("P0=00") == ("" if version == "7.2" else "OK")
    text, at = "", 0
    while True:
        piece = gdb.ask(f"qXfer:features:read:target.xml:{at:x},20")
        text, at = text + piece[1:], at + len(piece) - 1
        if piece[0] == "l":
            break
    assert "<architecture>i386:x86-64</architecture>" in text
    whole = gdb.ask("qXfer:features:read:i386-64bit.xml:0,ffff")
    longest = (gdb.vm.profile.traits.gdb_packet_size - 5) // 2
    assert whole[0] == ("m" if version in ("7.2", "10.0") else "l")
    assert whole[0] == "l" or len(whole) == longest + 1
    assert gdb.ask("qXfer:features:read:nope.xml:0,10") == "E00"
    assert gdb.ask("qXfer:features:read:target.xml:ffff,10") == "E00"
    assert gdb.ask("qXfer:features:read:target.xml") == "E22"
    assert gdb.ask("p10") == "f0ff000000000000"


def features(gdb: Debugger) -> None:
    gdb.ask("qXfer:features:read:target.xml:0,10")


def put(gdb: Debugger, number: int, value: str) -> str:
    """Write a register; what it holds then."""
    assert gdb.ask(f"P{number:x}={value}") == "OK"
    return str(gdb.ask(f"p{number:x}"))


def test_registers_are_those_of_a_reset(version: str) -> None:
    gdb = Debugger("-smp", "2", profile=version)
    features(gdb)
    held = bytes.fromhex(gdb.ask("g"))
    assert len(held) == 608
    assert held[24:32] == (0x60FB1).to_bytes(8, "little")
    assert held[128:136] == (0xFFF0).to_bytes(8, "little")
    named = {0x11: "02000000", 0x12: "00f00000", 0x13: "00000000", 0x1B: "1000006000000000",
             0x29: "7f030000", 0x41: "801f0000"}  # fmt: skip
    assert {number: gdb.ask(f"p{number:x}") for number in named} == named
    assert [gdb.ask("p42"), gdb.ask("pff"), gdb.ask("p")] == ["E14"] * 3
    assert gdb.ask("Hgp1.2") == "OK"
    assert gdb.ask("g") == held.hex()


def test_what_is_written_into_registers_stays(version: str) -> None:
    gdb = Debugger("-cpu", "qemu64", profile=version)
    features(gdb)
    # 32-bit code: upper halves and r8 to r15 are out of reach
    assert put(gdb, 0, "1122334455667788") == "1122334400000000"
    assert put(gdb, 8, "1122334455667788") == "0000000000000000"
    assert put(gdb, 16, "1122334455667788") == "1122334400000000"
    assert put(gdb, 0x13, "ffff1111") == "ffff0000"
    assert put(gdb, 0x18, "1122334455667788") == "1122334400000000"
    assert put(gdb, 0x1D, "ffffffffffffffff") == "ffffffffffffffff"
    assert put(gdb, 0x1B, "0100000000000000") == "1100000000000000"
    assert put(gdb, 0x1B, "1000000000000000") == "1000000000000000"
    cr4 = {"7.2": "fff79ffe00000000", "10.0": "fff79fee00000000"}
    assert put(gdb, 0x1E, "ffffffff") == cr4.get(version, "fff71fee00000000")
    assert put(gdb, 0x1F, "ffffffff") == "0f00000000000000"
    assert put(gdb, 0x20, "ffffffff") == "ffffffffffffffff"
    assert put(gdb, 0x31, "000102030405060708090a0b0c0d0e0f") == "000102030405060708090a0b0c0d0e0f"
    assert put(gdb, 0x2B, "ffffffff") == "00000000"
    assert put(gdb, 0x41, "ffffffff") == "ffffffff"
    assert put(gdb, 0x29, "ffffffff") == "ffff0000"
    assert put(gdb, 0x21, "0102030405060708090a") == "0102030405060708090a"
    assert put(gdb, 0x2A, "ffffffff") == "ffff0000"
    # the top of the stack is 7 now
    first, second = gdb.ask("p21"), gdb.ask("p22")
    written = "0102030405060708090a"
    assert (first if version == "7.2" else second) == written
    assert gdb.ask("P50=11") == "OK"
    assert [gdb.ask("P0"), gdb.ask("P0="), gdb.ask("Pzz=00")] == ["E22", "E22", ""]
    assert gdb.ask("Gffeeddcc") == "OK"
    assert gdb.ask("p0") == "ffeeddcc00000000"
    gdb.qmp("system_reset")
    assert gdb.ask("p0") == "0000000000000000"


def test_long_mode_has_all_of_the_registers() -> None:
    gdb = Debugger(profile="11.1")
    # a 64-bit code segment at 0x1008 of the descriptor table that lies at 0
    assert gdb.ask("M1008,8:ffff0000009baf00") == "OK"
    put(gdb, 0x1E, "20000000")
    put(gdb, 0x20, "00010000")
    assert put(gdb, 0x20, "00010000") == "0001000000000000"
    # tables: 0x2000 -> 0x3000 -> 0x4000, a page of 2 MiB at 0
    for at, entry in ((0x2000, 0x3003), (0x3000, 0x4003), (0x4000, 0x83)):
        assert gdb.ask(f"M{at:x},8:{entry.to_bytes(8, 'little').hex()}") == "OK"
    put(gdb, 0x1D, "00200000")
    put(gdb, 0x1B, "11000080")
    assert gdb.ask("p20") == "0005000000000000"
    assert gdb.ask("P12=08100000") == "OK"
    assert gdb.ask("p12") == "08100000"
    assert put(gdb, 8, "1122334455667788") == "1122334455667788"
    assert gdb.ask("m1008,8") == "ffff0000009baf00"
    # behind the only page there is nothing, in front of the hole in the addresses neither
    assert [gdb.ask("m200000,1"), gdb.ask("m800000000000,1")] == ["E14", "E14"]
    assert gdb.ask("Qqemu.PhyMemMode:1") == "OK"
    assert gdb.ask("m200000,1") == "00"


@pytest.mark.parametrize("wide", [False, True])
def test_paging_of_32_bit_code(wide: bool) -> None:
    gdb = Debugger(profile="10.0")
    assert gdb.ask("M5123,2:beef") == "OK"
    entries = (
        ((0x2000, 0x3001, 8), (0x3000, 0x4003, 8), (0x4000 + 8 * 7, 0x5003, 8))
        if wide
        else ((0x2000, 0x3003, 4), (0x3000 + 4 * 7, 0x5003, 4))
    )
    for at, entry, size in entries:
        gdb.ask(f"M{at:x},{size:x}:{entry.to_bytes(size, 'little').hex()}")
    put(gdb, 0x1E, "20000000" if wide else "00000000")
    put(gdb, 0x1D, "00200000")
    put(gdb, 0x1B, "11000080")
    assert gdb.ask("m7123,2") == "beef"
    assert gdb.ask("m5123,2") == "E14"
    assert gdb.ask("M7fff,2:0102") == "E14"


def test_memory(version: str) -> None:
    gdb = Debugger("-machine", "q35", profile=version)
    old = version == "7.2"
    assert gdb.ask("M0,4:deadbeef") == "OK"
    assert gdb.ask("m0,6") == "deadbeef0000"
    assert gdb.vm.guest_memory.read(0, 4) == b"\xde\xad\xbe\xef"
    # ROMs take what a debugger writes
    assert [gdb.ask("Mffff0,1:12"), gdb.ask("mffff0,2")] == ["OK", "1200"]
    assert gdb.ask("mfffffff0,1") == "12"
    assert [gdb.ask("m4000000,1"), gdb.ask("m3fffffe,4")] == ["E14", "E14"]
    assert gdb.ask("M4000000,1:12") == ("OK" if old else "E14")
    assert gdb.ask("M0,4:dead") == "E22"
    assert [gdb.ask("m0"), gdb.ask("M0,1")] == ["E22", "E22"]
    assert gdb.ask("m0,900")[:2] == ("E2" if version in ("7.2", "10.0") else "de")
    assert [gdb.ask("qqemu.PhyMemMode"), gdb.ask("Qqemu.PhyMemMode:1")] == ["0", "OK"]
    assert gdb.ask("qqemu.PhyMemMode") == "1"
    assert gdb.ask("m4000000,1") == ("00" if version in ("7.2", "10.0") else "E14")
    assert gdb.ask("Qqemu.PhyMemMode") == ""


def test_step_flags() -> None:
    gdb = Debugger()
    assert gdb.ask("qqemu.sstepbits") == "ENABLE=1,NOIRQ=2,NOTIMER=4"
    assert gdb.ask("qqemu.sstep") == "0x7"
    assert [gdb.ask("Qqemu.sstep=3"), gdb.ask("qqemu.sstep")] == ["OK", "0x3"]
    assert [gdb.ask("Qqemu.sstep:8"), gdb.ask("qqemu.sstep")] == ["E22", "0x3"]
    assert gdb.ask("qqemu.Supported") == "sstepbits;sstep;PhyMemMode"


def test_attaching_stops_the_machine_and_detaching_lets_it_run(version: str) -> None:
    gdb = Debugger(profile=version, stopped=False)
    assert gdb.state == "paused"
    gdb.ask("?")
    assert gdb.ask("Z0,1234,1") == "OK"
    assert gdb.ask("D") == "OK"
    assert (gdb.state, gdb.server.breakpoints) == ("running", [])
    # nobody is attached: what needs a CPU is refused
    gdb.qmp("stop")
    assert [gdb.ask("g"), gdb.ask("?"), gdb.ask("c")] == ["E22", "E22", "E22"]
    assert gdb.ask("vAttach;1")[:3] == "T05"
    assert len(gdb.ask("g")) == 1216
    assert gdb.events == ["STOP", "RESUME", "STOP"]


def test_with_processes_a_detach_names_one() -> None:
    gdb = Debugger()
    gdb.ask("qSupported:multiprocess+")
    assert [gdb.ask("D"), gdb.ask("D;2"), gdb.ask("D;1")] == ["E22", "E22", "OK"]


def test_continue_and_interrupt(version: str) -> None:
    gdb = Debugger(profile=version)
    assert gdb.ask("c") == []
    assert gdb.state == "running"
    assert gdb.raw(b"\x03") == frame(b"T02thread:01;")
    assert gdb.state == "paused"
    gdb.raw(b"+")
    assert gdb.ask("vCont;c") == []
    # any other byte stops the machine, too; 7.2 reports that
    told = frame(b"T02thread:01;") if version == "7.2" else b""
    assert (gdb.raw(b"$"), gdb.state) == (told, "paused")
    assert gdb.events == ["RESUME", "STOP"] * 2
    gdb.raw(b"+")
    assert gdb.ask("C05") == []
    gdb.sent = b""
    gdb.qmp("stop")
    assert gdb.sent == frame(b"T02thread:01;")


def test_a_stop_that_nobody_waits_for(version: str) -> None:
    gdb = Debugger(profile=version)
    gdb.ask("?")
    gdb.vm.lifecycle.cont()
    gdb.sent = b""
    gdb.vm.lifecycle.vm_stop("paused")
    assert gdb.sent == (frame(b"T02thread:01;") if version == "7.2" else b"")


@pytest.mark.parametrize(
    ("state", "signal"),
    [("io-error", {"7.2": 23}), ("watchdog", 14), ("internal-error", 6), ("shutdown", 3),
     ("guest-panicked", 143), ("finish-migrate", 24), ("debug", 5)],
)  # fmt: skip
def test_the_reason_of_a_stop(version: str, state: str, signal: Any) -> None:
    gdb = Debugger(profile=version)
    gdb.ask("c")
    gdb.sent = b""
    gdb.vm.lifecycle.vm_stop(state)
    wanted = signal.get(version, 17) if isinstance(signal, dict) else signal
    assert gdb.sent == frame(b"T%02xthread:01;" % wanted)


def test_a_snapshot_is_no_stop() -> None:
    gdb = Debugger()
    gdb.ask("c")
    gdb.sent = b""
    gdb.vm.lifecycle.vm_stop("save-vm")
    assert gdb.sent == b""


def test_a_step_ends_in_the_state_debug(version: str) -> None:
    gdb = Debugger(profile=version)
    assert gdb.ask("s") == "T05thread:01;"
    assert gdb.ask("vCont;s:1;c") == "T05thread:01;"
    assert (gdb.state, gdb.events) == ("debug", ["RESUME", "STOP"] * 2)
    assert gdb.ask("s100") == "T05thread:01;"
    features(gdb)
    assert gdb.ask("p10") == "0001000000000000"
    # without SSTEP_ENABLE a step is a continue
    gdb.ask("Qqemu.sstep=0")
    assert (gdb.ask("s"), gdb.state) == ([], "running")


def test_a_halted_cpu_takes_no_step() -> None:
    gdb = Debugger("-smp", "2")
    assert (gdb.ask("vCont;s:2"), gdb.state) == ([], "running")
    assert gdb.raw(b"\x03") == frame(b"T02thread:02;")


def test_vcont_that_makes_no_sense() -> None:
    gdb = Debugger()
    for text, wanted in (("vCont;x", ""), ("vCont;c:9", "E22"), ("vCont;Czz", "E22"),
                         ("vContc", ""), ("vCont;c,", ""), ("vCont;c:zz", "E22")):  # fmt: skip
        assert gdb.ask(text) == wanted
    assert gdb.state == "prelaunch"
    assert gdb.ask("vCont") == []


def test_breakpoints_are_kept(version: str) -> None:
    gdb = Debugger(profile=version)
    assert [gdb.ask(f"Z{kind},1000,4") for kind in range(6)] == ["OK"] * 5 + [""]
    assert gdb.ask("Z0,1000,1") == "OK"
    # kinds 0 and 1 are one: three of them
    assert [gdb.ask("z1,1000,1") for _ in range(4)] == ["OK"] * 3 + ["E22"]
    assert [gdb.ask("z2,1000,3"), gdb.ask("z2,1000,4"), gdb.ask("z5,0,0")] == ["E22", "OK", ""]
    assert [gdb.ask("Z2,1000,0"), gdb.ask("Z2,ffffffffffffffff,2"), gdb.ask("Z0,1")] == ["E22"] * 3
    assert gdb.warnings == [
        "tried to set invalid watchpoint at 1000, len=0",
        "tried to set invalid watchpoint at ffffffffffffffff, len=2",
    ]
    gdb.ask("?")
    assert (gdb.server.breakpoints, gdb.server.watchpoints) == ([], [])


def test_a_breakpoint_where_the_cpu_is_is_hit(version: str) -> None:
    gdb = Debugger(profile=version)
    assert gdb.ask("Z0,fffffff0,1") == "OK"
    assert gdb.ask("c") == "T05thread:01;"
    assert (gdb.state, gdb.events) == ("debug", ["RESUME", "STOP"])
    # also when it is not the debugger that resumes
    gdb.sent = b""
    gdb.vm.lifecycle.cont()
    assert gdb.state == "debug"
    assert gdb.sent == (frame(b"T05thread:01;") if version == "7.2" else b"")
    gdb.raw(b"+")
    assert gdb.ask("s") == "T05thread:01;"
    assert gdb.ask("z0,fffffff0,1") == "OK"
    assert (gdb.ask("c"), gdb.state) == ([], "running")


def test_a_machine_that_needs_a_reset_is_not_resumed() -> None:
    gdb = Debugger("-no-shutdown")
    gdb.ask("c")
    gdb.vm.lifecycle.shutdown("guest-shutdown")
    gdb.raw(b"+")
    assert (gdb.ask("c"), gdb.state) == ([], "shutdown")


def test_acknowledgements() -> None:
    gdb = Debugger()
    assert gdb.raw(b"$qC#00") == b"-"
    assert gdb.raw(b"$qC#b4") == b"+$QC01#f5"
    assert gdb.raw(b"-") == b"$QC01#f5"
    assert gdb.raw(b"x") == b""
    # a new packet makes the old answer void
    assert gdb.raw(b"$qC#b4") == b"+$QC01#f5"


def test_monitor_commands(version: str) -> None:
    gdb = Debugger(profile=version)

    def ask(line: str) -> list[str]:
        *printed, last = gdb.ask("qRcmd," + line.encode().hex())
        assert last == "OK"
        return [bytes.fromhex(each[1:]).decode() for each in printed]

    assert ask("info status") == ["VM status: paused (prelaunch)\r\n"]
    assert ask("nosuch") == ["unknown command: 'nosuch'\r\n"]
    assert gdb.ask("qRcmd,") == "E22"
    assert gdb.ask("qRcmd,1") == "E01"
    assert gdb.ask("qRcmd," + b"cont".hex()) == "OK"
    assert gdb.state == "running"


@pytest.mark.parametrize("packet", ["k", "vKill;1"])
def test_kill(version: str, packet: str) -> None:
    gdb = Debugger(profile=version)
    gdb.ask("?")
    back = gdb.raw(frame(packet.encode()))
    assert gdb.vm.process.exit_code == 0
    assert gdb.warnings == ["QEMU: Terminated via GDBstub"]
    answer = b"+$OK#9a" if packet != "k" else b"+"
    assert back.startswith(answer)
    assert (back.count(b"$W00#b7"), gdb.events) == (
        (1, []) if version == "7.2" else (0, ["SHUTDOWN"])
    )


def test_a_debugger_that_waits_hears_of_the_end(version: str) -> None:
    gdb = Debugger(profile=version)
    gdb.ask("c")
    gdb.sent = b""
    gdb.vm.lifecycle.quit(code=3)
    assert gdb.sent == frame(b"W03")
    waiting = Debugger(profile=version)
    waiting.ask("?")
    waiting.sent = b""
    waiting.vm.lifecycle.quit()
    assert waiting.sent == (frame(b"W00") if version == "7.2" else b"")


def test_the_next_debugger_finds_what_the_last_one_left() -> None:
    gdb = Debugger("-smp", "2")
    gdb.ask("qSupported:multiprocess+")
    gdb.ask("Hgp1.2")
    gdb.ask("P0=01000000")
    gdb.chardev.closed()
    gdb.chardev.opened()
    assert gdb.ask("qC") == "QCp01.01"
    assert gdb.server.look_cpu == 0
    gdb.ask("Hgp1.2")
    assert gdb.ask("p0") == "0100000000000000"
