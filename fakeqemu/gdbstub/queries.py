"""What gdb asks and sets by name: `q` and `Q` packets. See gdbstub/gdbstub.c: handle_gen_query().

A name that is not known is answered with an empty packet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fakeqemu.gdbstub.packets import Parameter, ThreadId, escape, from_hex, lines_of
from fakeqemu.gdbstub.table import INVALID, GdbCmdParseEntry, integers, run, text_of, to_hex

if TYPE_CHECKING:
    from fakeqemu.gdbstub.server import GdbServer

_STEP_FLAGS = 7
_TARGET = "target.xml"


# -- threads -------------------------------------------------------------------------------------


def _current_thread(server: GdbServer, _parameters: list[Parameter]) -> None:
    """`qC`: the first CPU, whichever is current."""
    server.send(b"QC" + server.name_of(server.vm.cpus.present()[0].index))


def _first_thread(server: GdbServer, parameters: list[Parameter]) -> None:
    """`qfThreadInfo`: begin the list of CPUs."""
    server.next_thread = server.vm.cpus.present()[0].index
    _following_thread(server, parameters)


def _following_thread(server: GdbServer, _parameters: list[Parameter]) -> None:
    """`qsThreadInfo`: one more CPU, or the end."""
    index = server.next_thread
    if index is None:
        return server.send(b"l")
    indexes = [cpu.index for cpu in server.vm.cpus.present()]
    later = indexes[indexes.index(index) + 1 :] if index in indexes else ()
    server.next_thread = next(iter(later), None)
    return server.send(b"m" + server.name_of(index))


def _thread_info(server: GdbServer, parameters: list[Parameter]) -> None:
    """`qThreadExtraInfo`: what `info threads` shows of a CPU; nothing at all for no CPU."""
    thread = parameters[0] if parameters else None
    if not isinstance(thread, ThreadId) or not thread.valid:
        return server.send(INVALID)
    cpu = server.cpu(thread.pid or 0, thread.tid or 0)
    if cpu is None:
        return None
    state = "halted " if server.vm.cpus.registers(cpu).halted else "running"
    return server.send(to_hex(f"CPU#{cpu.index} [{state}]".encode()))


# -- queries and settings ------------------------------------------------------------------------


def _supported(server: GdbServer, parameters: list[Parameter]) -> None:
    """`qSupported`: what each side can do."""
    if parameters and b"multiprocess+" in text_of(parameters[0]):
        server.multiprocess = True
    size = server.traits.gdb_packet_size
    server.send(
        b"PacketSize=%x;qXfer:features:read+;vContSupported+;multiprocess+" % size
    )


def _features(server: GdbServer, parameters: list[Parameter]) -> None:
    """`qXfer:features:read`: a piece of a description of the registers."""
    if len(parameters) < 3:
        return server.send(INVALID)
    server.features_read = True
    name = text_of(parameters[0]).split(b":", 1)[0].decode("latin-1")
    start, size = integers(parameters)
    files: dict[str, str] = server.vm.profile.part("gdb-features")
    text = files[_TARGET] if _TARGET.startswith(name) else files.get(name)
    data = text.encode("latin-1") if text is not None else b""
    if text is None or start > len(data):
        return server.send(b"E00")
    size = min(size, (server.traits.gdb_packet_size - 5) // 2)
    more = size < len(data) - start
    return server.send((b"m" if more else b"l") + escape(data[start : start + size]))


def _was_attached(server: GdbServer, _parameters: list[Parameter]) -> None:
    """`qAttached`: the machine was there before the debugger."""
    server.send(b"1")


def _monitor_command(server: GdbServer, parameters: list[Parameter]) -> None:
    """`qRcmd`: a line for the human monitor."""
    from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp

    text = text_of(parameters[0]) if parameters else b""
    if not text:
        return server.send(INVALID)
    if len(text) % 2:
        return server.send(b"E01")
    line = from_hex(text, len(text) // 2).split(b"\0", 1)[0]
    if server.monitor is None:
        server.monitor = HmpMonitor()
    printed = run_hmp(server.vm, server.monitor, line.decode("utf-8", "surrogateescape"))
    for piece in lines_of(printed):
        server.send(b"O" + to_hex(piece.encode("utf-8", "surrogateescape")))
    return server.send(b"OK")


def _qemu_supported(server: GdbServer, _parameters: list[Parameter]) -> None:
    server.send(b"sstepbits;sstep;PhyMemMode")


def _step_bits(server: GdbServer, _parameters: list[Parameter]) -> None:
    server.send(b"ENABLE=1,NOIRQ=2,NOTIMER=4")


def _get_step(server: GdbServer, _parameters: list[Parameter]) -> None:
    server.send(b"0x%x" % server.step_flags)


def _set_step(server: GdbServer, parameters: list[Parameter]) -> None:
    if not parameters:
        return None
    flags = integers(parameters)[0] & 0xFFFFFFFF
    if flags & ~_STEP_FLAGS:
        return server.send(INVALID)
    server.step_flags = flags
    return server.send(b"OK")


def _get_physical(server: GdbServer, _parameters: list[Parameter]) -> None:
    server.send(b"%d" % server.physical)


def _set_physical(server: GdbServer, parameters: list[Parameter]) -> None:
    if not parameters:
        return server.send(INVALID)
    server.physical = bool(integers(parameters)[0])
    return server.send(b"OK")


def query(server: GdbServer, parameters: list[Parameter]) -> None:
    """`q`."""
    _run_or_empty(server, parameters, _QUERIES)


def setting(server: GdbServer, parameters: list[Parameter]) -> None:
    """`Q`."""
    _run_or_empty(server, parameters, _SETTINGS)


def _run_or_empty(
    server: GdbServer, parameters: list[Parameter], table: Sequence[GdbCmdParseEntry]
) -> None:
    if parameters and not any(
        run(server, text_of(parameters[0]), each) for each in (_STEPPING, table)
    ):
        server.send(b"")


_STEPPING = (
    GdbCmdParseEntry(b"qemu.sstepbits", _step_bits, whole=True),
    GdbCmdParseEntry(b"qemu.sstep", _get_step, whole=True),
    GdbCmdParseEntry(b"qemu.sstep=", _set_step, "l0"),
)
_QUERIES = (
    GdbCmdParseEntry(b"C", _current_thread, whole=True, needs_cpu=True),
    GdbCmdParseEntry(b"sThreadInfo", _following_thread, whole=True),
    GdbCmdParseEntry(b"fThreadInfo", _first_thread, whole=True, needs_cpu=True),
    GdbCmdParseEntry(b"ThreadExtraInfo,", _thread_info, "t0"),
    GdbCmdParseEntry(b"Rcmd,", _monitor_command, "s0"),
    GdbCmdParseEntry(b"Supported:", _supported, "s0"),
    GdbCmdParseEntry(b"Supported", _supported, whole=True),
    GdbCmdParseEntry(b"Xfer:features:read:", _features, "s:l,l0"),
    GdbCmdParseEntry(b"Attached:", _was_attached),
    GdbCmdParseEntry(b"Attached", _was_attached, whole=True),
    GdbCmdParseEntry(b"qemu.Supported", _qemu_supported, whole=True),
    GdbCmdParseEntry(b"qemu.PhyMemMode", _get_physical, whole=True),
)
_SETTINGS = (
    GdbCmdParseEntry(b"qemu.sstep:", _set_step, "l0"),
    GdbCmdParseEntry(b"qemu.PhyMemMode:", _set_physical, "l0"),
)
