"""Guest memory into files: memsave and pmemsave.

See system/cpus.c: qmp_memsave() and qmp_pmemsave().
"""

from __future__ import annotations

from fakeqemu.commands.registry import command
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import c_int

#: what is read at a time
_STEP = 1024
_MASK = (1 << 64) - 1


def _save(vm: Machine, address: int, size: int, filename: str, *, checked: bool) -> None:
    """Write a stretch of memory; with `checked` it ends where nothing is mapped."""
    if size < 0:
        raise QapiError(f"Invalid addr {address & _MASK:#018x}/size {size} specified")
    memory = vm.guest_memory
    readable = memory.readable(address, size) if checked else size
    if readable < size:
        readable -= readable % _STEP
    try:
        output = vm.host.create_output(filename, fdsets=False)
    except OSError as error:
        raise QapiError(f"Could not open '{filename}': {error.strerror}") from None
    try:
        output.write(memory.content(address, readable))
    except OSError:
        raise QapiError(vm.profile.traits.memsave_write_text.format(filename)) from None
    finally:
        output.close()
    if readable < size:
        raise QapiError(f"Invalid addr {address & _MASK:#018x}/size {size} specified")


@command("memsave")
def memsave(
    vm: Machine, val: int, size: int, filename: str, cpu_index: int | None = None
) -> None:
    """Save virtual memory: no CPU here ever pages, so it is the physical one."""
    if vm.cpus.get(c_int(cpu_index or 0)) is None:
        raise QapiError(texts.parameter_expects("cpu-index", "a CPU number"))
    _save(vm, val & _MASK, size, filename, checked=True)


@command("pmemsave")
def pmemsave(vm: Machine, val: int, size: int, filename: str) -> None:
    """Save physical memory; what is not there is zeros."""
    _save(vm, val & _MASK, size, filename, checked=False)
