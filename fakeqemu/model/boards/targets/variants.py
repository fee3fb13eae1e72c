"""Boards of machine types whose options decide what is on them, as they were recorded.

An option of which nothing was recorded is taken if every machine type has it; else the board would
be another than the one that was asked for.

See hw/arm/virt.c: machvirt_init(); hw/riscv/virt.c: virt_machine_init().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.profile import TreeObject
from fakeqemu.profile.machine_types import tree_renamed
from fakeqemu.profile.store import MissingPartError
from fakeqemu.qapi.errors import NotModelledError, StartupError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.profile import MachineType

_ON, _OFF = ("on", "yes", "true", "y"), ("off", "no", "false", "n")
#: every machine type has it, and it makes devices
_USB = "usb"
#: its board makes what the option asks for
_SPAPR = "spapr-machine"
#: see include/hw/intc/arm_gic_common.h: GIC_NCPU
_GICV2_CPUS = 8
#: options that are no property of the board
_ELSEWHERE = frozenset({"type", "accel", "usb", "kernel-irqchip", "kvm-shadow-mem"})
#: properties that only say what a guest is told; see hw/arm/virt.c and hw/s390x/ipl.c
_TOLD = ("x-oem-id", "x-oem-table-id", "loadparm", "cap-", "aes-key-wrap", "dea-key-wrap",
         "highmem-mmio-size", "kvm-type", "phandle-start")  # fmt: skip


def with_options(state: MachineState, machine: MachineType, tree: TreeObject) -> TreeObject:
    """The recorded tree with the options of -machine; `tree` is the one without.

    Raises StartupError for what the real one refuses, NotModelledError for what was not recorded.
    """
    like = _like(state, machine)
    common = set(state.profile.machine("none").option_names()) - {_USB}
    chosen: list[str] = []
    for given, value in state.configuration.machine_options.items():
        name = given.replace("_", "-")
        if name in common or (name in _ELSEWHERE and name != _USB) or not isinstance(value, str):
            continue
        text = f"{name}={_spelled(value)}"
        variant = _recorded(state, like, text)
        if variant is None or ("refused" in variant and state.configuration.cpu is not None):
            # another CPU may be one with which it is not refused
            if name.startswith(_TOLD) or name not in machine.option_names():
                continue
            if name == _USB and (
                _spelled(value) == "off" or state.profile.is_a(machine.typename, _SPAPR)
            ):
                continue
            raise NotModelledError(f"-machine {machine.name},{text}")
        if "refused" in variant:
            raise StartupError("\n".join(variant["refused"]).partition(": ")[2])
        if variant:
            chosen.append(text)
    if not chosen:
        return tree
    if len(chosen) > 1:
        raise NotModelledError(f"-machine {machine.name},{','.join(chosen)}")
    variant = _recorded(state, like, chosen[0])
    assert variant is not None, "it was found"
    kind = "defaults" if state.configuration.has_defaults else "nodefaults"
    if like == state.profile.recorded_machine(machine.name):
        return TreeObject.of(tree_renamed(variant[kind], machine.name, like))
    trees = state.profile.part("trees")
    newest, older = (trees.get(kind, name) for name in (like, machine.name))
    try:
        return TreeObject.of(_carried_over(variant[kind], newest, older, chosen[0]))
    except _OtherBoardError:
        raise NotModelledError(f"-machine {machine.name},{chosen[0]}") from None


def choose_gic(state: MachineState, cpus: int) -> None:
    """What a board for up to that many CPUs has if nobody asked for a GIC.

    See hw/arm/virt.c: finalize_gic_version() and finalize_gic_version_do().
    """
    if cpus > _GICV2_CPUS and not {"gic-version", "gic_version"} & set(
        state.configuration.machine_options
    ):
        state.configuration.machine_options["gic-version"] = "3"


class _OtherBoardError(Exception):
    """An older machine type has other devices than the newest one."""


def _carried_over(
    variant: dict[str, Any], newest: dict[str, Any], older: dict[str, Any], text: str
) -> dict[str, Any]:
    """What an option makes of an older machine type, from what it makes of the newest one."""
    option = text.partition("=")[0]
    one, two, three = (tree["children"]["machine"] for tree in (variant, newest, older))
    values = {**three["values"], option: one["values"].get(option)}
    machine = {**three, "values": values, "children": _children(one, two, three)}
    return {**older, "children": {**older["children"], "machine": machine}}


def _children(
    variant: dict[str, Any], newest: dict[str, Any], older: dict[str, Any]
) -> dict[str, Any]:
    found = {}
    for name, child in variant["children"].items():
        before, after = newest["children"].get(name), older["children"].get(name)
        if before is None or child["type"] != before["type"]:
            # the option has made it
            found[name] = child
            continue
        if after is None or after["properties"] != before["properties"]:
            raise _OtherBoardError
        values = {
            key: after["values"].get(key) if before["values"].get(key) == value else value
            for key, value in child["values"].items()
        }
        found[name] = {**child, "values": values, "children": _children(child, before, after)}
    return found


def _recorded(state: MachineState, machine: str, text: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = state.profile.part("variants").get(machine, text)
    except (MissingPartError, KeyError):
        return None
    return found


def _like(state: MachineState, machine: MachineType) -> str:
    """The machine type of which it was recorded what options make of it.

    That is the newest type of the same family.
    """
    try:
        known = list(state.profile.part("variants"))
    except MissingPartError:
        return machine.name
    if machine.name in known:
        return machine.name
    types = state.profile.qom_types
    for like in known:
        if types[f"{like}-machine"].parent == types[machine.typename].parent:
            return str(like)
    return machine.name


def _spelled(value: str) -> str:
    return "on" if value in _ON else "off" if value in _OFF else value
