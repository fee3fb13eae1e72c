"""What `info qtree` prints of a device type that no other question tells: order and wiring.

Part `qtree`: type -> [LINES, PROPERTIES, {BOARD: [MMIO, ...]}]: the lines about interrupt lines
and clocks as they are printed; the names of the properties in their order; for devices on the
system bus, what is printed of the memory of each in a machine, in the order in which they are
printed. BOARD is "" for all machine types that are not named. Types that only an option of a
machine type makes (part `variants`) are looked at where it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fakeqemu.profile import Profile
from fakeqemu.profile.store import MissingPartError
from fakeqemu.recorder.board.devices import look_at
from fakeqemu.recorder.board.machines import machine_facts
from fakeqemu.recorder.board.visits import Seen, Visits

_WIRING = re.compile(r"(gpio|clock)-(in|out)\b")
_MEMORY = re.compile(r"mmio [0-9a-f]{16}/")
_PROPERTY = re.compile(r"([^\s=]+) = ")


def record_qtree(visits: Visits, profile: Profile) -> dict[str, Any]:
    """The part's value, from boards and from every device type that a profile can plug."""
    found: dict[str, list[Any]] = {}
    # what a board has of newer versions it has of older ones
    boards = [
        each.alias or each.name
        for each in profile.machines
        if each.alias or not each.name[-1].isdigit()
    ]
    recorded = profile.part("devices")
    devices = [name for name in recorded if recorded.get(name).get("tree") is not None]
    with ThreadPoolExecutor(2) as pool:
        seen = [
            *((name, visits.machine(profile.machine(name).name, "defaults", machine_facts))
              for name in boards),
            *zip([""] * len(devices),
                 pool.map(lambda n: look_at(visits, n, recorded.get(n)), devices), strict=True),
        ]  # fmt: skip
    #: board -> types that it has without options
    plain: dict[str, set[str]] = {}
    for board, each in (*seen, *_variants(visits, profile)):
        here: dict[str, list[list[str]]] = {}
        for type, wiring, names, mmio in _devices("" if each is None else each.qtree):
            found.setdefault(type, [wiring, names, {}])
            if mmio:
                here.setdefault(type, []).append(mmio)
        usual_types = plain.get(board, set())
        plain.setdefault(board, {*here})
        for type, printed in here.items():
            if board and type in usual_types:
                continue
            regions = found[type][2]
            usual = regions.setdefault("", printed)
            if printed != usual and board:
                regions[board] = printed
    return {"qtree": dict(sorted(found.items()))}


def _variants(visits: Visits, profile: Profile) -> Iterator[tuple[str, Seen | None]]:
    """The boards that options make others, with their default devices."""
    try:
        variants = profile.part("variants")
    except MissingPartError:
        return
    for machine in variants:
        for text, variant in variants.get(machine).items():
            if "defaults" in variant:
                board = profile.machine(machine).alias or machine
                yield board, visits.machine(f"{machine},{text}", "defaults", machine_facts)


def _devices(text: str) -> Iterator[tuple[str, list[str], list[str], list[str]]]:
    """Each device of the printed tree: type, wiring, names of properties, memory."""
    parts = re.split(r"^ *dev: ", text, flags=re.M)
    for part in parts[1:]:
        head, *lines = part.replace("\r", "").splitlines()
        type = head.split(",", 1)[0]
        wiring, names, mmio = [], [], []
        for line in (each.strip() for each in lines):
            if line.startswith("bus: "):
                break
            if _WIRING.match(line):
                wiring.append(line)
            elif _MEMORY.match(line):
                mmio.append(line)
            elif match := _PROPERTY.match(line):
                names.append(match[1])
        yield type, wiring, names, mmio
