"""The serial and parallel ports that a board has for -serial and -parallel.

The recorded board has the ports that were asked for then: QEMU's default ones, or none. Here
it gets those that are asked for now, in the place where QEMU makes them, so that the numbers of
what is made after them shift.

See hw/char/serial-isa.c: serial_hds_isa_init(); hw/char/parallel-isa.c: parallel_hds_isa_init().
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.profile import TreeObject


class Port(NamedTuple):
    """One -serial, -parallel or -debugcon that leads somewhere."""

    #: the option
    kind: str
    #: id of the character device
    chardev: str
    #: how many ports of this kind come before it, with and without a character device
    number: int


#: where a port of that number is: first I/O port, interrupt line
_PLACES: dict[str, tuple[tuple[int, int], ...]] = {
    "serial": ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3)),
    "parallel": ((0x378, 7), (0x278, 7), (0x3BC, 7)),
}
_TYPES = {"isa-serial": "serial", "isa-parallel": "parallel"}
#: the first chips that a board makes after its ports
_FOLLOWING = ("isa-fdc", "i8042")


@dataclass(frozen=True, slots=True)
class OnboardPlace:
    """What is to be put where among the unattached devices of the recorded board."""

    #: number of the first recorded port, or of what comes where ports would be
    start: int
    #: how many ports were recorded
    recorded: int
    #: the recorded bus that they sit on
    bus: str
    #: recorded objects to be like, with the properties in which each differs
    wanted: tuple[tuple[TreeObject, dict[str, int | str]], ...]


def place(
    state: MachineState, ports: Iterable[Port], recorded: TreeObject
) -> OnboardPlace | None:
    """What becomes of the ports; None for a board that has no place for them.

    `ports` are those that are asked for, `recorded` is the container of unattached devices.
    """
    numbers = numbered(recorded)
    old = [number for number, obj in numbers.items() if obj.type in _TYPES]
    following = [number for number, obj in numbers.items() if obj.type in _FOLLOWING]
    usual = _usual(state)
    models = {_TYPES[obj.type]: obj for obj in usual.values() if obj.type in _TYPES}
    if not models:
        return None
    start = min(old or following or [_usual_place(usual, numbers)])
    one_only = state.profile.is_a(state.qom.container("/machine").type, "microvm-machine")
    wanted = [
        (models[kind], _properties(kind, port))
        for kind in _PLACES
        if kind in models
        for port in sorted(ports, key=lambda port: port.number)
        if port.kind == kind and port.number < (1 if one_only else len(_PLACES[kind]))
    ]
    neighbour = numbers[following[0]] if following else next(iter(models.values()))
    bus = str(neighbour.values.get("parent_bus"))
    return OnboardPlace(start, len(old), bus, tuple(wanted))


def numbered(recorded: TreeObject) -> dict[int, TreeObject]:
    """The devices of a recorded container of unattached ones, by number."""
    return {
        int(name.removeprefix("device[").removesuffix("]")): child
        for name, child in recorded.children.items()
        if name.startswith("device[")
    }


def _usual(state: MachineState) -> dict[int, TreeObject]:
    """The unattached devices of such a machine with its default ones."""
    assert state.type is not None
    try:
        tree = state.profile.object_tree(state.type.name, defaults=True)
    except KeyError:
        return {}
    return numbered(tree.at("machine/unattached"))


def _usual_place(usual: dict[int, TreeObject], numbers: dict[int, TreeObject]) -> int:
    """Where ports usually are on a board that makes nothing, or nothing known, after them."""
    at = min(number for number, obj in usual.items() if obj.type in _TYPES)
    return min(at, max(numbers, default=-1) + 1)


def _properties(kind: str, port: Port) -> dict[str, int | str]:
    base, line = _PLACES[kind][port.number]
    return {"chardev": port.chardev, "index": port.number, "iobase": base, "irq": line}
