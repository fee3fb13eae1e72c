"""Human monitor commands for the guest's I/O ports.

See monitor/hmp-cmds.c: hmp_ioport_read() and hmp_ioport_write().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.commands.hmp.registry import hmp

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: size of the format -> how it is shown: letter and hexadecimal digits
_SHOWN = {2: ("w", 4), 4: ("l", 8)}
_PORTS = 0xFFFF


@hmp("i")
def read_port(
    vm: Machine, *, addr: int, size: int, index: int | None = None, **_format: object
) -> str:
    """What is at a port, after choosing a register there (`i /b 0x70.4`)."""
    addr &= _PORTS
    if index is not None:
        vm.io.write(addr, 1, index & 0xFF)
        addr += 1
    letter, digits = _SHOWN.get(size, ("b", 2 * max(size, 1)))
    value = vm.io.read(addr & _PORTS, size if size in _SHOWN else 1)
    return f"port{letter}[{addr:#06x}] = {value:#0{digits + 2}x}\n"


@hmp("o")
def write_port(vm: Machine, *, addr: int, val: int, size: int, **_format: object) -> None:
    """Put a value to a port."""
    vm.io.write(addr & _PORTS, size if size in _SHOWN else 1, val)
