"""Cores of pseries machines: the slot that one goes into, the threads that come with it.

See hw/ppc/spapr.c: spapr_core_pre_plug() and spapr_core_plug(); hw/ppc/spapr_cpu_core.c:
spapr_cpu_core_realize(); hw/core/numa.c: numa_cpu_pre_plug(); hw/cpu/core.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.board import cpu_object, maker, recorded_tree
from fakeqemu.model.boards.cpus import Cpu, name_cpu
from fakeqemu.model.boards.targets import spapr_drc
from fakeqemu.model.boards.targets.spapr_irq import without_presenters
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.tree import from_recorded
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import c_int

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpu_hotplug import Where
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.profile import TreeObject

_MACHINE = "spapr-machine"
_CORE, _THREADS, _NODE = "core-id", "nr-threads", "node-id"
#: CPU_UNSET_NUMA_NODE_ID
_NO_NODE = -1
#: the parts of a thread that are devices, as they go
_PRESENTERS = ("icp", "xive-tctx")


def plug(
    where: Where, driver: str, given: dict[str, Any], *, id: str | None, typed: bool
) -> DeviceObject:
    """Make the core that device_add or -device asks for. Raises QapiError."""
    state, cpus = where.state, where.cpus
    core = DeviceObject(driver)
    recorded = None
    if state.is_a(_MACHINE) and state.type is not None:
        recorded = _recorded(state)
        made = from_recorded(recorded, make=maker(state.profile))
        assert isinstance(made, DeviceObject), "a core is a device"
        core = made
        core.forget_child("thread[0]")
        core.type = driver
    threads = cpus.topology.levels["threads"]
    values = {_CORE: 0, _THREADS: threads, _NODE: _NO_NODE, "type": driver}
    core.values.update(values, hotplugged=state.phases.ready)
    core.id = id
    core.slot_powered = not state.phases.ready
    where.enter(core, id)
    try:
        where.properties.apply_defaults(core)
        for name, value in qdict.items(given):
            where.properties.set(core, name, value, typed=typed)
            if name == _CORE and core.values[_CORE] < 0:
                raise QapiError(f"Invalid core id {core.values[_CORE]}")
        if recorded is None:
            raise QapiError("spapr-cpu-core needs a pseries machine")
        _check(state, cpus, core)
    except BaseException:
        core.remove()
        raise
    _add_threads(state, cpus, core, recorded)
    spapr_drc.attach(state, core)
    return core


def _recorded(state: MachineState) -> TreeObject:
    assert state.type is not None
    first = state.profile.per_machine(state.type.name)["cpus"][0]["qom-path"]
    return recorded_tree(state, state.type).at(first.rpartition("/")[0].removeprefix("/"))


def _check(state: MachineState, cpus: Cpus, core: DeviceObject) -> None:
    rules, threads = cpus.slots_recorded, cpus.topology.levels["threads"]
    number, wide = c_int(core.values[_CORE]), c_int(core.values[_THREADS])
    assert state.type is not None and rules is not None
    hotpluggable = state.type.hotpluggable_cpus
    if state.phases.ready and not hotpluggable:
        raise QapiError("CPU hotplug not supported for this machine")
    wanted = rules.slot_type(cpus.type)
    if core.type != wanted:
        raise QapiError(f"CPU core type should be {wanted}")
    if number % threads:
        raise QapiError(f"invalid core id {number}")
    if hotpluggable and wide != threads:
        raise QapiError(f"invalid nr-threads {wide}, must be {threads}")
    if number >= cpus.topology.maxcpus:
        raise QapiError(f"core id {number} out of range")
    if number in cpus:
        raise QapiError(f"core {number} already populated")
    node = cpus.props(number)[_NODE]
    if core.values[_NODE] not in (_NO_NODE, node):
        raise QapiError(f"invalid node-id, must be {node}")
    core.values.update({_CORE: number, _THREADS: wide, _NODE: node})


def _add_threads(
    state: MachineState, cpus: Cpus, core: DeviceObject, recorded: TreeObject
) -> None:
    model, first = recorded.at("thread[0]"), core.values[_CORE]
    mode = state.qom.container("/machine").values["ic-mode"]
    for number in range(core.values[_THREADS]):
        thread = cpu_object(cpus, state.profile, model, first + number)
        without_presenters(thread, mode)
        thread.values["hotplugged"] = core.values["hotplugged"]
        core.add_child(f"thread[{number}]", thread)
        name_cpu(thread)
        cpus.add(Cpu(first + number, thread, boot=False))


def leave(cpu: Cpu) -> list[str]:
    """A thread goes with its core; the paths of its devices, as they go."""
    thread = cpu.object
    presenters = (f"{thread.path}/{name}" for name in _PRESENTERS if name in thread.children)
    return [*presenters, thread.path]
