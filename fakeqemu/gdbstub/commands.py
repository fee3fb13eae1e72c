"""What gdb's packets ask: a table of them in QEMU's order, each a short function.

An unknown packet, and one whose parameters cannot be read, is answered with an empty one. Error
numbers are QEMU's: 22 for what makes no sense, 14 for what cannot be reached. See
gdbstub/gdbstub.c: gdb_handle_packet().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.gdbstub.packets import (
    Parameter,
    ParameterError,
    ThreadId,
    from_hex,
    number,
    thread_id,
)
from fakeqemu.gdbstub.queries import query, setting
from fakeqemu.gdbstub.registers import COUNT
from fakeqemu.gdbstub.table import FAULT, INVALID, GdbCmdParseEntry, integers, run, text_of, to_hex

if TYPE_CHECKING:
    from fakeqemu.gdbstub.server import GdbServer


def answer(server: GdbServer, packet: bytes) -> None:
    """Answer one packet."""
    if packet.startswith(b"!"):
        server.send(b"OK")
    elif packet.startswith(b"k"):
        server.kill()
    elif not run(server, packet, _COMMANDS):
        server.send(b"")


# -- state, threads ------------------------------------------------------------------------------


def _halted(server: GdbServer) -> bytes:
    if server.traits.gdb_halt_names_core:
        return b"T05core:%02x;" % (server.run_cpu + 1)
    return b"T05thread:%b;" % server.name_of(server.run_cpu)


def _why_halted(server: GdbServer, _parameters: list[Parameter]) -> None:
    """`?`: a client begins; what an earlier one left is cleared away."""
    server.send(_halted(server))
    server.stop_awaited = False
    server.clear_breakpoints()


def _set_thread(server: GdbServer, parameters: list[Parameter]) -> None:
    """`H`: the CPU that `c` and `s`, or all others, are about."""
    if len(parameters) != 2 or not isinstance(thread := parameters[1], ThreadId):
        return server.send(INVALID)
    if not thread.valid:
        return server.send(INVALID)
    if thread.pid is None or thread.tid is None:
        return server.send(b"OK")
    cpu = server.cpu(thread.pid, thread.tid)
    if cpu is not None and parameters[0] == ord("c"):
        server.run_cpu = cpu.index
    elif cpu is not None and parameters[0] == ord("g"):
        server.look_cpu = cpu.index
    else:
        return server.send(INVALID)
    return server.send(b"OK")


def _thread_alive(server: GdbServer, parameters: list[Parameter]) -> None:
    """`T`: whether there is such a CPU."""
    thread = parameters[0] if parameters else None
    if not isinstance(thread, ThreadId) or not thread.valid:
        return server.send(INVALID)
    found = server.cpu(thread.pid or 0, thread.tid or 0)
    return server.send(b"OK" if found is not None else INVALID)


# -- registers, memory ---------------------------------------------------------------------------


def _read_registers(server: GdbServer, _parameters: list[Parameter]) -> None:
    """`g`: all registers in order."""
    registers = server.registers(server.look_cpu)
    server.send(to_hex(b"".join(registers.read(each) for each in range(COUNT))))


def _write_registers(server: GdbServer, parameters: list[Parameter]) -> None:
    """`G`: the first registers; each takes as many bytes as it is wide when written."""
    if not parameters:
        return
    text = text_of(parameters[0])
    data = from_hex(text, len(text) // 2)
    registers = server.registers(server.look_cpu)
    for each in range(COUNT):
        if not data:
            break
        data = data[registers.write(each, data) :]
    server.send(b"OK")


def _read_register(server: GdbServer, parameters: list[Parameter]) -> None:
    """`p`: one register."""
    if server.traits.gdb_registers_need_features and not server.features_read:
        return server.send(b"")
    data = b""
    if parameters:
        data = server.registers(server.look_cpu).read(integers(parameters)[0])
    return server.send(to_hex(data) if data else FAULT)


def _write_register(server: GdbServer, parameters: list[Parameter]) -> None:
    """`P`: one register; one that is not there is written to no effect."""
    if server.traits.gdb_registers_need_features and not server.features_read:
        return server.send(b"")
    if len(parameters) != 2:
        return server.send(INVALID)
    text = text_of(parameters[1])
    data = from_hex(text, len(text) // 2)
    server.registers(server.look_cpu).write(integers(parameters)[0], data)
    return server.send(b"OK")


def _read_memory(server: GdbServer, parameters: list[Parameter]) -> None:
    """`m`."""
    if len(parameters) != 2:
        return server.send(INVALID)
    address, size = integers(parameters)
    if size > server.traits.gdb_packet_size // 2:
        return server.send(INVALID)
    data = server.read_memory(address, size)
    return server.send(FAULT if data is None else to_hex(data))


def _write_memory(server: GdbServer, parameters: list[Parameter]) -> None:
    """`M`."""
    if len(parameters) != 3:
        return server.send(INVALID)
    address, size = integers(parameters)
    text = text_of(parameters[2])
    if size > len(text) // 2:
        return server.send(INVALID)
    return server.send(b"OK" if server.write_memory(address, from_hex(text, size)) else FAULT)


def _insert_breakpoint(server: GdbServer, parameters: list[Parameter]) -> None:
    """`Z`: 0 and 1 are breakpoints, 2 to 4 watchpoints."""
    if len(parameters) != 3:
        return server.send(INVALID)
    kind, address, size = integers(parameters)
    if kind in (0, 1):
        server.breakpoints.append(address)
    elif kind in (2, 3, 4):
        if not size or address + size - 1 >> 64:
            server.vm.host.warn(
                f"tried to set invalid watchpoint at {address:x}, len={size}"
            )
            return server.send(INVALID)
        server.watchpoints.append((kind, address, size))
    else:
        return server.send(b"")
    return server.send(b"OK")


def _remove_breakpoint(server: GdbServer, parameters: list[Parameter]) -> None:
    """`z`: take one away again."""
    if len(parameters) != 3:
        return server.send(INVALID)
    kind, address, size = integers(parameters)
    if kind > 4:
        return server.send(b"")
    if kind in (0, 1) and address in server.breakpoints:
        server.breakpoints.remove(address)
    elif (kind, address, size) in server.watchpoints:
        server.watchpoints.remove((kind, address, size))
    else:
        return server.send(INVALID)
    return server.send(b"OK")


# -- running -------------------------------------------------------------------------------------


def _continue(server: GdbServer, parameters: list[Parameter]) -> None:
    """`c`, perhaps from another address."""
    _jump(server, parameters)
    server.resume()


def _continue_with_signal(server: GdbServer, _parameters: list[Parameter]) -> None:
    """`C`: a machine has no signals."""
    server.resume()


def _step(server: GdbServer, parameters: list[Parameter]) -> None:
    """`s`, perhaps from another address."""
    _jump(server, parameters)
    server.resume(stepping={server.run_cpu} if server.step_flags & 1 else set())


def _jump(server: GdbServer, parameters: list[Parameter]) -> None:
    cpu = server.vm.cpus.get(server.run_cpu)
    if parameters and cpu is not None:
        server.vm.cpus.registers(cpu).ip = integers(parameters)[0]


def _reverse(server: GdbServer, parameters: list[Parameter]) -> None:
    """`bs`, `bc`: only a recorded machine goes backwards. Up to 10.0 it died of these."""
    server.send(INVALID)
    if not parameters and not server.traits.gdb_reverse_refused_once:
        server.send(b"")


def _file_io(server: GdbServer, parameters: list[Parameter]) -> None:
    """`F`: the answer to a request that was never made lets the machine go on."""
    if len(parameters) >= 3 and parameters[2] == ord("C"):
        server.send(b"T02")
    else:
        server.resume()


def _can_vcont(server: GdbServer, _parameters: list[Parameter]) -> None:
    """`vCont?`."""
    server.send(b"vCont;c;C;s;S")


def _vcont(server: GdbServer, parameters: list[Parameter]) -> None:
    """`vCont`: an action for each of some CPUs; the first that names one counts."""
    if not parameters:
        return None
    try:
        chosen = _actions(server, text_of(parameters[0]))
    except ParameterError:
        return server.send(INVALID)
    if chosen is None:
        return server.send(b"")
    if chosen and server.traits.gdb_resumed_is_current:
        server.run_cpu = list(chosen)[-1]
    stepping = {index for index, action in chosen.items() if action == "s"}
    return server.resume(set(chosen), stepping if server.step_flags & 1 else set())


def _actions(server: GdbServer, text: bytes) -> dict[int, str] | None:
    """CPU -> "c" or "s", in the order they were named; None for what is not known.

    Raises ParameterError for what cannot be read, and for a CPU that is not there.
    """
    chosen: dict[int, str] = {}
    while text:
        if text[:1] != b";":
            return None
        action, text = chr(text[1]) if len(text) > 1 else "", text[2:]
        if action in ("C", "S"):
            _, text = number(text)
        elif action not in ("c", "s"):
            return None
        thread = ThreadId(None, None)
        if text[:1] == b":":
            thread, text = thread_id(text[1:])
        elif text and text[:1] != b";":
            return None
        for index in _meant(server, thread):
            chosen.setdefault(index, action.lower())
    return chosen


def _meant(server: GdbServer, thread: ThreadId) -> list[int]:
    if not thread.valid or not server.attached:
        raise ParameterError
    if thread.pid is None or (thread.tid is None and thread.pid in (0, 1)):
        return [cpu.index for cpu in server.vm.cpus.present()]
    cpu = server.cpu(thread.pid, thread.tid or 0)
    if cpu is None:
        raise ParameterError
    return [cpu.index]


def _attach(server: GdbServer, parameters: list[Parameter]) -> None:
    """`vAttach`: take the process again after a detach; there is but one."""
    if not parameters or integers(parameters)[0] not in (0, 1):
        return server.send(INVALID)
    server.attached = True
    server.run_cpu = server.look_cpu = server.vm.cpus.present()[0].index
    server.send(_halted(server))
    server.stop_awaited = False
    return None


def _detach(server: GdbServer, parameters: list[Parameter]) -> None:
    """`D`: let go and run on."""
    wanted = 1
    if server.multiprocess:
        if not parameters:
            return server.send(INVALID)
        wanted = integers(parameters)[0]
    if wanted not in (0, 1):
        return server.send(INVALID)
    server.detach()
    return server.send(b"OK")


def _kill(server: GdbServer, _parameters: list[Parameter]) -> None:
    """`vKill`."""
    server.send(b"OK")
    server.kill()


def _letters_v(server: GdbServer, parameters: list[Parameter]) -> None:
    if parameters and not run(server, text_of(parameters[0]), _V_COMMANDS):
        server.send(b"")


_V_COMMANDS = (
    GdbCmdParseEntry(b"Cont?", _can_vcont),
    GdbCmdParseEntry(b"Cont", _vcont, "s0", awaits_stop=True),
    GdbCmdParseEntry(b"Attach;", _attach, "l0", awaits_stop=True),
    GdbCmdParseEntry(b"Kill;", _kill),
)
_COMMANDS = (
    GdbCmdParseEntry(b"?", _why_halted, awaits_stop=True, needs_cpu=True),
    GdbCmdParseEntry(b"c", _continue, "l0", awaits_stop=True, needs_cpu=True),
    GdbCmdParseEntry(b"C", _continue_with_signal, "l0", awaits_stop=True, needs_cpu=True),
    GdbCmdParseEntry(b"v", _letters_v, "s0"),
    GdbCmdParseEntry(b"D", _detach, "?.l0"),
    GdbCmdParseEntry(b"s", _step, "l0", awaits_stop=True, needs_cpu=True),
    GdbCmdParseEntry(b"b", _reverse, "o0", awaits_stop=True),
    GdbCmdParseEntry(b"F", _file_io, "l,l,o0"),
    GdbCmdParseEntry(b"g", _read_registers, needs_cpu=True),
    GdbCmdParseEntry(b"G", _write_registers, "s0", needs_cpu=True),
    GdbCmdParseEntry(b"m", _read_memory, "l,l0", needs_cpu=True),
    GdbCmdParseEntry(b"M", _write_memory, "l,l:s0", needs_cpu=True),
    GdbCmdParseEntry(b"p", _read_register, "l0", needs_cpu=True),
    GdbCmdParseEntry(b"P", _write_register, "l?s0", needs_cpu=True),
    GdbCmdParseEntry(b"Z", _insert_breakpoint, "l?l?l0", needs_cpu=True),
    GdbCmdParseEntry(b"z", _remove_breakpoint, "l?l?l0", needs_cpu=True),
    GdbCmdParseEntry(b"H", _set_thread, "o.t0"),
    GdbCmdParseEntry(b"T", _thread_alive, "t0"),
    GdbCmdParseEntry(b"q", query, "s0"),
    GdbCmdParseEntry(b"Q", setting, "s0"),
)
