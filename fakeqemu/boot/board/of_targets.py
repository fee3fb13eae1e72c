"""What boards of other targets than PCs say and refuse while they are made.

See hw/ppc/spapr.c: spapr_machine_init(), spapr_set_vsmt_mode(), spapr_init_cpus() and
spapr_machine_reset(); hw/ppc/spapr_caps.c: spapr_caps_apply(); hw/ppc/pnv.c: pnv_reset().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState

_SPAPR = "spapr-machine"
#: whose resets say what is said
_AT_RESETS = (_SPAPR, "powernv-machine")
#: families of CPUs that have several threads there
_WITH_THREADS = ("power8", "power9", "power10", "power11")
_MOST_THREADS = 8
#: capability -> families of CPUs that have it
_SAID_OF = {"cap-cfpc": _WITH_THREADS, "cap-ibs": ("power7", *_WITH_THREADS)}
#: see include/hw/ppc/spapr.h: SPAPR_MEMORY_BLOCK_SIZE and SPAPR_MAX_RAM_SLOTS
_BLOCK, _MOST_SLOTS = 256 << 20, 32


def before_board(boot: BootState) -> None:
    """Refuse memory and threads that the board cannot have. Raises StartupError.

    Most machines say what they do when their devices are made.
    """
    state = boot.vm.state
    if not any(state.is_a(kind) for kind in _AT_RESETS):
        _warn(boot)
    if not state.is_a(_SPAPR):
        return
    rules, type = boot.vm.cpus.slots_recorded, boot.vm.cpus.type
    if rules is not None and rules.slot_type(type) not in boot.profile.qom_types:
        raise StartupError("Unable to find sPAPR CPU Core definition")
    _check_threads(boot)
    _check_memory(boot)
    _check_cores(boot)
    if state.memory.maxmem > state.memory.size and state.memory.slots > _MOST_SLOTS:
        raise StartupError(
            f"Specified number of memory slots {state.memory.slots} exceeds max supported"
            f" {_MOST_SLOTS}"
        )


def _check_memory(boot: BootState) -> None:
    """See spapr_validate_node_memory(), which names the size in place of the maximum."""
    memory, nodes = boot.vm.state.memory, boot.vm.numa.nodes
    sizes = [("Memory", memory.size, memory.size), ("Maximum memory", memory.maxmem, memory.size)]
    sizes += [(f"Node {id} memory", node.mem, node.mem) for id, node in nodes.items()]
    for what, size, named in sizes:
        if size % _BLOCK:
            raise StartupError(f"{what} size {named:#x} is not aligned to {_BLOCK >> 20} MiB")


def _check_threads(boot: BootState) -> None:
    topology = boot.vm.cpus.topology
    threads = topology.levels["threads"]
    if threads > 1 and boot.vm.cpus.type and not boot.vm.cpus.type.startswith(_WITH_THREADS):
        raise StartupError("TCG only supports SMT on POWER8 or newer CPUs")
    if threads > _MOST_THREADS:
        raise StartupError(
            f"TCG cannot support more than {_MOST_THREADS} threads/core on a pseries machine"
        )
    if threads & (threads - 1):
        raise StartupError(
            f"Cannot support {threads} threads/core on a pseries machine"
            " because it must be a power of 2"
        )


def _check_cores(boot: BootState) -> None:
    topology, machine = boot.vm.cpus.topology, boot.vm.state.type
    threads = topology.levels["threads"]
    if machine is None or not machine.hotpluggable_cpus:
        if topology.maxcpus != topology.cpus:
            raise StartupError("This machine version does not support CPU hotplug")
        return
    for name, number in (("smp_cpus", topology.cpus), ("max_cpus", topology.maxcpus)):
        if number % threads:
            raise StartupError(f"{name} ({number}) must be multiple of threads ({threads})")


def at_reset(boot: BootState) -> None:
    """What some machines say at the first reset, they say at each."""
    if any(boot.vm.state.is_a(kind) for kind in _AT_RESETS):
        _warn(boot)
        boot.vm.lifecycle.on_reset.append(lambda _cause: _warn(boot))


def _warn(boot: BootState) -> None:
    """What such a machine said when it was recorded, as far as its CPU makes it say so.

    See hw/ppc/spapr_caps.c: default_caps_with_cpu().
    """
    machine, type = boot.vm.state.type, boot.vm.cpus.type
    of_cpu = boot.configuration.cpu is not None
    if machine is None or (of_cpu and not boot.vm.state.is_a(_SPAPR)):
        return
    for line in boot.profile.per_machine(machine.name)["warnings"]:
        families = next((each for name, each in _SAID_OF.items() if name in line), None)
        if not (of_cpu and families and not type.startswith(families)):
            boot.vm.host.warn(line)
