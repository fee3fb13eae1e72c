"""What the options of a machine type make of its board.

Part `variants`: machine type -> "option=value" -> what such a machine is beside one without the
option: {} where nothing shows but the option itself; {"refused": lines} where it does not start;
else {"nodefaults": ROOT, "defaults": ROOT}, trees as in part `trees`. Tried are the options that
not every machine type has, with the values that their help names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fakeqemu.profile import MachineType, Profile
from fakeqemu.recorder.board.machines import machine_facts, walk
from fakeqemu.recorder.board.visits import KINDS, Visits
from fakeqemu.recorder.qemu import Gone, Qemu, refusal

_OPTION = re.compile(r"\s*([\w-]+)=<(\w+)>\s+- (.*)")
_VALUES = {"bool": ("on", "off"), "OnOffAuto": ("on", "off", "auto")}
#: what a help text ends with that names the values
_NAMED = re.compile(r"(?:Valid values are |\()((?:[\w-]+,? ?(?:and )?)+)\)?\.?$")
#: every machine type has it, and it makes devices
_USB = "usb"


def record_variants(visits: Visits, profile: Profile) -> dict[str, Any]:
    """The part's value, for the machine types that have an alias and the one to look at."""
    usual = visits.emulator.board.name
    chosen = [each for each in profile.machines if each.alias or each.name == usual]
    common = set(profile.machine("none").option_names()) - {_USB}
    jobs = [
        (machine, text)
        for machine in chosen
        for text in _texts(machine)
        if text.partition("=")[0] not in common
    ]
    found: dict[str, dict[str, Any]] = {machine.name: {} for machine in chosen}
    with ThreadPoolExecutor(2) as pool:
        seen = pool.map(lambda job: _look(visits, job[0].name, job[1]), jobs)
        for (machine, text), variant in zip(jobs, seen, strict=True):
            found[machine.name][text] = variant
    return {"variants": found}


def _texts(machine: MachineType) -> Iterator[str]:
    for line in machine.options:
        match = _OPTION.match(line)
        if match is None:
            continue
        name, kind, about = match.groups()
        values = _VALUES.get(kind, ())
        if kind == "string" and (named := _NAMED.search(about)):
            values = tuple(re.split(r", (?:and )?|,| and ", named[1]))
        yield from (f"{name}={value}" for value in values)


def _look(visits: Visits, machine: str, text: str) -> dict[str, Any]:
    option = text.partition("=")[0]
    trees, same = {}, True
    for kind in KINDS:
        options = ["-nodefaults"] if kind == "nodefaults" else []
        argv = visits.emulator.machine(f"{machine},{text}", *options)
        try:
            with Qemu(visits.emulator, *argv) as qemu:
                trees[kind] = walk(qemu)
        except Gone:
            return {"refused": refusal(visits.emulator, *argv, "-display", "none").splitlines()}
        usual = visits.machine(machine, kind, machine_facts)
        same = same and usual is not None and _without(usual.own[1], option) == _without(
            trees[kind], option
        )
    return {} if same else trees


def _without(tree: dict[str, Any], option: str) -> dict[str, Any]:
    """A tree without the value of one of the machine's properties."""
    machine = tree["children"]["machine"]
    values = {name: value for name, value in machine["values"].items() if name != option}
    return {**tree, "children": {**tree["children"], "machine": {**machine, "values": values}}}
