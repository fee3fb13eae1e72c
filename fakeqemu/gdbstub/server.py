"""gdb's server (`-gdb`, `-s`, `gdbserver`): a debugger stops, looks at and resumes the machine.

A frontend of a character device. What packets ask is in `gdbcommands`; here are the connection,
the CPUs that are current, breakpoints, and how the debugger's stops and the machine's go
together. See gdbstub/gdbstub.c: gdb_handle_packet(); gdbstub/system.c: gdbserver_start().

No instruction is executed here: a single step ends at the instruction where it began, and a
breakpoint is hit if it is where a CPU is when it is resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fakeqemu.gdbstub.commands import answer
from fakeqemu.gdbstub.packets import ChecksumError, PacketReader, frame
from fakeqemu.gdbstub.registers import GdbRegisters
from fakeqemu.model.boards.cpus import Cpu

if TYPE_CHECKING:
    from fakeqemu.commands.hmp.registry import HmpMonitor
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine

_PAGE = 4096
_INTERRUPT = 0x03
#: gdb's own numbers of signals
_INT, _QUIT, _TRAP, _ABRT, _ALRM, _XCPU, _UNKNOWN = 2, 3, 5, 6, 14, 24, 143
#: flags of single-stepping: without interrupts and timers
STEP_ENABLE, STEP_NOIRQ, STEP_NOTIMER = 1, 2, 4


class GdbServer:
    """One server; it outlives the character devices it sits on, one after the other."""

    #: chardev-change refuses its device
    can_hotswap = False

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        self.traits = vm.profile.traits
        #: whether the client knows processes: threads are `pPID.TID` then
        self.multiprocess = False
        #: whether the client has read the features (7.2)
        self.features_read = False
        #: the one process is the client's; it is not after a detach
        self.attached = False
        #: index of the CPU that stops and goes, and of the one that is looked at
        self.run_cpu = 0
        self.look_cpu = 0
        #: index of the CPU that qsThreadInfo tells next; None: there are no more
        self.next_thread: int | None = None
        #: addresses are physical, whatever the CPU's paging
        self.physical = False
        self.step_flags = STEP_ENABLE | STEP_NOIRQ | STEP_NOTIMER
        #: where execution is to stop, once for each time that it was asked for
        self.breakpoints: list[int] = []
        #: (kind, address, bytes): kinds 2 to 4 are write, read and access
        self.watchpoints: list[tuple[int, int, int]] = []
        #: whether the client waits for a stop
        self.stop_awaited = False
        #: CPUs that are to execute one instruction, and those that are resumed at all
        self._stepping: set[int] = set()
        self._resumed: set[int] | None = None
        #: remembers what its lines set, as any monitor
        self.monitor: HmpMonitor | None = None
        self._chardev: Chardev | None = None
        self._reader = PacketReader(self.traits.gdb_packet_size)
        #: the packet that the client has not acknowledged yet
        self._unacknowledged = b""
        vm.lifecycle.on_state_change.append(self._state_changed)
        vm.lifecycle.on_started.append(self._started)
        vm.process.on_exit.append(self.finish)

    # -- the character device ----------------------------------------------------------------

    def sit_on(self, chardev: Chardev | None) -> None:
        """Leave the device there is, which is closed, and take another, or none."""
        self.leave()
        self.attached = False
        self.stop_awaited = False
        if chardev is not None:
            self._chardev = chardev
            chardev.attach(self)
            if not self.vm.process.main_loop_running:
                chardev.pause(True)
                self.vm.process.on_main_loop.append(lambda: chardev.pause(False))

    def leave(self) -> None:
        """Close the character device, if there is one."""
        chardev, self._chardev = self._chardev, None
        if chardev is not None:
            chardev.detach()
            self.vm.chardevs.drop(chardev)

    def chr_opened(self) -> None:
        """A debugger is there: the machine stops, the first CPU is current."""
        self.attached = True
        self.features_read = False
        self.run_cpu = self.look_cpu = self._first()
        self.vm.lifecycle.vm_stop("paused")

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Packets, or parts of them."""
        for fd in fds:
            self.vm.host.close_fd(fd)
        for byte in data:
            self._byte(byte)

    def chr_closed(self) -> None:
        """The debugger has gone; the machine stays as it is, stopped or not."""

    def _byte(self, byte: int) -> None:
        self.stop_awaited = False
        if self._unacknowledged:
            if byte == 0x2D:
                self._write(self._unacknowledged)
            if byte in b"+$":
                self._unacknowledged = b""
            if byte != 0x24:
                return
        if self.vm.runstate.running:
            # whatever comes stops the machine; only an interrupt waits for the report
            self.stop_awaited = byte == _INTERRUPT
            self.vm.lifecycle.vm_stop("paused")
            return
        try:
            packet = self._reader.feed(byte)
        except ChecksumError:
            self._write(b"-")
            return
        if packet is not None:
            self._write(b"+")
            self.vm.journal.note("gdb", packet.decode("latin-1"))
            answer(self, packet)

    def send(self, data: bytes) -> None:
        """Send a packet and keep it until it is acknowledged."""
        self._unacknowledged = frame(data)
        self._write(self._unacknowledged)

    def _write(self, data: bytes) -> None:
        if self._chardev is not None:
            self._chardev.write(data)

    # -- CPUs --------------------------------------------------------------------------------

    def cpu(self, pid: int, tid: int) -> Cpu | None:
        """The CPU that a thread is; 0 is any. None if it is not there or not attached."""
        if not self.attached or pid not in (0, 1):
            return None
        present = self.vm.cpus.present()
        return self.vm.cpus.get(tid - 1) if tid else next(iter(present), None)

    def name_of(self, index: int) -> bytes:
        """A CPU as a thread: they count from 1."""
        return b"p01.%02x" % (index + 1) if self.multiprocess else b"%02x" % (index + 1)

    def registers(self, index: int) -> GdbRegisters:
        """The registers of a CPU as gdb numbers them."""
        cpu = self.vm.cpus.get(index)
        if cpu is None:
            cpu = self.vm.cpus.present()[0]
        return GdbRegisters(
            self.vm.cpus.registers(cpu),
            self.read_memory,
            fpu_from_top=self.traits.gdb_fpu_from_top,
        )

    def _first(self) -> int:
        present = self.vm.cpus.present()
        return present[0].index if present else 0

    # -- memory ------------------------------------------------------------------------------

    def read_memory(self, address: int, size: int) -> bytes | None:
        """Bytes as the current CPU sees them; None where there is no memory."""
        memory = self.vm.guest_memory
        parts = self._pieces(address, size)
        if parts is None:
            return None
        out = b""
        for physical, length in parts:
            refused = not self.physical or self.traits.gdb_physical_refused
            if refused and not memory.is_readable(physical, length):
                return None
            out += memory.read(physical, length)
        return out

    def write_memory(self, address: int, data: bytes) -> bool:
        """Write as the current CPU would, and into ROMs; False where there is no memory."""
        memory = self.vm.guest_memory
        parts = self._pieces(address, len(data))
        if parts is None:
            return False
        for physical, length in parts:
            checked = "gdb_physical_refused" if self.physical else "gdb_write_refused"
            if getattr(self.traits, checked) and not memory.is_readable(physical, length):
                return False
            memory.write(physical, data[:length], into_rom=not self.physical)
            data = data[length:]
        return True

    def _pieces(self, address: int, size: int) -> list[tuple[int, int]] | None:
        """(physical address, bytes) of each page of a stretch; None where no page is."""
        cpu = self.vm.cpus.get(self.look_cpu)
        found: list[tuple[int, int]] = []
        while size > 0:
            length = min(size, _PAGE - address % _PAGE)
            physical: int | None = address
            if not self.physical and cpu is not None:
                held = self.vm.cpus.registers(cpu)
                physical = held.translate(address, self.vm.guest_memory.read)
            if physical is None:
                return None
            found.append((physical, length))
            address, size = (address + length) & (1 << 64) - 1, size - length
        return found

    # -- stopping and going ------------------------------------------------------------------

    def resume(self, resumed: set[int] | None = None, stepping: set[int] | None = None) -> None:
        """Let CPUs run, all of them by default; those in `stepping` for one instruction."""
        runstate = self.vm.runstate
        if runstate.needs_reset or not runstate.can("running"):
            return
        self._resumed, self._stepping = resumed, stepping or set()
        self.vm.lifecycle.vm_start()
        self._resumed, self._stepping = None, set()

    def detach(self) -> None:
        """The debugger lets go: no breakpoints are left, and the machine runs."""
        self.clear_breakpoints()
        self.attached = False
        self.resume()

    def clear_breakpoints(self) -> None:
        """Forget breakpoints and watchpoints."""
        self.breakpoints.clear()
        self.watchpoints.clear()

    def _started(self) -> None:
        """The machine runs; in a stopped state the main loop stops at once."""
        if not self.vm.runstate.running:
            return
        for cpu in self.vm.cpus.present():
            held = self.vm.cpus.registers(cpu)
            if held.halted or (self._resumed is not None and cpu.index not in self._resumed):
                continue
            if cpu.index in self._stepping or held.pc in self.breakpoints:
                if self.attached:
                    self.run_cpu = self.look_cpu = cpu.index
                self.vm.lifecycle.vm_stop("debug")
                return

    def _state_changed(self, running: bool, state: str) -> None:
        """Report a stop (see gdb_vm_state_change())."""
        quiet = state in ("save-vm", "restore-vm", "suspended")
        if running or quiet or self._chardev is None or not self.attached:
            return
        if self.traits.gdb_stop_reply_awaited and not self.stop_awaited:
            return
        signals = {
            "debug": _TRAP,
            "paused": _INT,
            "shutdown": _QUIT,
            "io-error": self.traits.gdb_io_error_signal,
            "watchdog": _ALRM,
            "internal-error": _ABRT,
            "finish-migrate": _XCPU,
        }
        self.look_cpu = self.run_cpu
        signal = signals.get(state, _UNKNOWN)
        self.send(b"T%02xthread:%b;" % (signal, self.name_of(self.run_cpu)))
        self.stop_awaited = False

    # -- the end -----------------------------------------------------------------------------

    def kill(self) -> None:
        """The debugger ends the machine (see gdb_exit(), gdb_qemu_exit())."""
        self.vm.host.warn("QEMU: Terminated via GDBstub")
        if self.traits.gdb_kill_is_shutdown:
            self.finish(0)
            self.leave()
            self.vm.lifecycle.shutdown("guest-shutdown")
        else:
            self.vm.process.exit(0)

    def finish(self, code: int) -> None:
        """The process ends with `code`: tell a debugger that waits."""
        if self._chardev is not None and (
            self.stop_awaited or not self.traits.gdb_stop_reply_awaited
        ):
            self.send(b"W%02x" % (code & 0xFF))
            self.stop_awaited = False
