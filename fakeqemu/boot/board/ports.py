"""The serial and parallel ports that a board has for -serial and -parallel.

The recorded board has the ports that were asked for then: QEMU's default ones, or none. Here
it gets those that are asked for now, in the place where QEMU makes them, so that the numbers of
what is made after them shift.

See hw/char/serial-isa.c: serial_hds_isa_init(); hw/char/parallel-isa.c: parallel_hds_isa_init().
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fakeqemu.boot.board.numbering import Numbering
    from fakeqemu.model.boards.machine_state import MachineState, Port
    from fakeqemu.profile import TreeObject


#: where a port of that number is: first I/O port, interrupt line
_PLACES: dict[str, tuple[tuple[int, int], ...]] = {
    "serial": ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3)),
    "parallel": ((0x378, 7), (0x278, 7), (0x3BC, 7)),
}
_DEFAULT_PORT = re.compile(r"(serial|parallel)(\d+)")
_TYPES = {"isa-serial": "serial", "isa-parallel": "parallel"}


def add_ports(
    state: MachineState,
    ports: Iterable[Port],
    numbering: Numbering,
    create: Callable[[TreeObject, dict[str, int | str], int], None],
) -> None:
    """Have the ports made that are asked for, in place of the recorded ones.

    `create` makes one: like a recorded port, with properties in which it differs, and a number.
    """
    place = numbering.place_of(_is_port)
    if place is None:
        return
    models = {_TYPES[obj.type]: obj for obj in numbering.usual.values() if _is_port(obj)}
    for number in numbering.find(_is_port):
        numbering.leave_out(number)
    one_only = state.profile.is_a(state.qom.container("/machine").type, "microvm-machine")
    for kind, places in _PLACES.items():
        for port in sorted(ports, key=lambda port: port.number):
            if kind == port.kind and kind in models and port.number < (
                1 if one_only else len(places)
            ):
                numbering.add(place, partial(create, models[kind], _properties(kind, port)))


def _is_port(obj: TreeObject) -> bool:
    return obj.type in _TYPES


def _properties(kind: str, port: Port) -> dict[str, int | str]:
    base, line = _PLACES[kind][port.number]
    return {"chardev": port.chardev, "index": port.number, "iobase": base, "irq": line}


def wire_ports(
    state: MachineState, ports: Iterable[Port], usual: TreeObject
) -> list[Port]:
    """Give serial ports that are no devices of an ISA bus their character devices.

    `usual`: the recorded machine with its default devices, among which the first such port has the
    first -serial. Returns the ports that nobody has. See hw/arm/virt.c: create_uart().
    """
    left = {(port.kind, port.number): port for port in ports}
    seen: dict[str, int] = {}
    wanted: dict[tuple[str, int], str] = {}
    for obj in _below(usual):
        name = obj.values.get("chardev") if "chardev" in obj.shapes else None
        if name is not None and obj.type not in _TYPES:
            number = seen[obj.type] = seen.get(obj.type, -1) + 1
            wanted[obj.type, number] = name
    seen.clear()
    for each in state.qom.container("/machine").walk():
        if each.type not in {type for type, _ in wanted} or "chardev" not in each.shapes:
            continue
        number = seen[each.type] = seen.get(each.type, -1) + 1
        found = _DEFAULT_PORT.fullmatch(wanted.get((each.type, number), ""))
        if found is not None:
            port = left.pop((found[1], int(found[2])), None)
            each.values["chardev"] = "" if port is None else port.chardev
    if any(kind == "serial" for kind, _ in left) and _has_second(state):
        raise NotModelledError("a second -serial of this machine type")
    return list(left.values())


def _has_second(state: MachineState) -> bool:
    """Whether boards of that type make another port for a second -serial."""
    return state.is_a("virt-machine") and "pl011" in state.profile.qom_types


def _below(obj: TreeObject) -> Iterator[TreeObject]:
    yield obj
    for child in obj.children.values():
        yield from _below(child)
