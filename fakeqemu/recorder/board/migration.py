"""What blocks migration: of each device type, and of each machine type as it starts.

Part `migratability`: {"devices": {type: ...}, "machines": {name: {"bare": ..., "full": ...}}}.
Each value has only the members that are not empty:

- `unmigratable`: names of sections that cannot be sent, each after the path of its device;
- `blockers`: reasons of explicit blockers;
- `cpr-blockers`: those that hold in mode cpr-transfer only, memory apart;
- `ram`: [block's name, the path of its device that stands before it, bytes used, bytes
  reserved]; of a device, whose path depends on where it is plugged, only whether there is one;
- `only-migratable`: text of the refusal under -only-migratable;
- `refusal`: lines that refuse a device that was not tried for the part `devices`, because it
  reaches for the host's hardware; without options it gets nowhere.

`bare` is a machine with -nodefaults, `full` one without it.
"""

from __future__ import annotations

import json
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fakeqemu.profile import Profile
from fakeqemu.recorder.board.devices import (
    device_option,
    helpers_for,
    look_at,
    sent_without,
    surroundings,
)
from fakeqemu.recorder.board.machines import machine_facts
from fakeqemu.recorder.board.visits import Visits
from fakeqemu.recorder.qemu import Emulator, Qemu, output, refusal

_PROPERTY = "no-such-property"
_UNUSED = re.compile(rf"global (\S+)\.{_PROPERTY}=1 not used")
_NOT_MIGRATABLE = re.compile(r"Device \S+ is not migratable, but --only-migratable was specified")
#: seconds for a start to be refused
_PATIENCE = 5


def record_migratability(
    visits: Visits, devices: dict[str, Any], machines: dict[str, str | None]
) -> dict[str, Any]:
    """The part's value; `devices` is the part of that name, `machines` name -> id of its RAM."""
    users = [name for name, about in devices.items() if about["class"]["user"]]
    # the tree of a CPU does not tell what it is like to plug it
    users = [name for name in users if not name.endswith(f"-{visits.emulator.target}-cpu")]

    def device(name: str) -> dict[str, Any]:
        return _device(visits, name, devices[name])

    def machine(name: str) -> dict[str, Any]:
        return {
            "bare": _machine(visits, name, machines[name], "nodefaults"),
            "full": _machine(visits, name, machines[name], "defaults"),
        }

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(users, pool.map(device, users), strict=True))
        started = dict(zip(machines, pool.map(machine, machines), strict=True))
    return {
        "devices": {name: seen for name, seen in sorted(found.items()) if seen},
        "machines": dict(sorted(started.items())),
    }


def _device(visits: Visits, name: str, about: dict[str, Any]) -> dict[str, Any]:
    emulator = visits.emulator
    options = about.get("options") or {}
    text = device_option(name, options)

    def base() -> list[str]:
        return [*surroundings(emulator, name, about["class"]), *helpers_for(options)]

    if about.get("tree") is None:
        return _refused(emulator, [*base(), "-display", "none"], name, text, tried="error" in about)
    seen = look_at(visits, name, about)
    if seen is None:
        return {}
    before = sent_without(visits, name, about)
    found: dict[str, Any] = {
        key: rest for key, after in seen.sent.items() if (rest := _less(after, before.get(key, [])))
    }
    for block in found.get("ram", ()):
        block[1] = bool(block[1])
    if "unmigratable" in found:
        found.update(_refused(emulator, [*base(), "-display", "none"], name, text, tried=True))
    return found


def _refused(
    emulator: Emulator, base: list[str], name: str, text: str, *, tried: bool
) -> dict[str, Any]:
    """What it says under -only-migratable; and without, unless that is known."""
    seen: dict[str, Any] = {}
    said = refusal(
        emulator, *base, "-only-migratable", "-device", text, timeout=_PATIENCE
    )
    if not_migratable := _NOT_MIGRATABLE.search(said):
        seen["only-migratable"] = not_migratable[0]
    said = "" if tried else refusal(emulator, *base, "-device", name, timeout=_PATIENCE)
    lines = said.splitlines()
    blame = f"-device {name}: "
    if lines and blame in lines[0]:
        seen["refusal"] = [lines[0].split(blame, 1)[1], *lines[1:]]
    return seen


def _less(after: list[Any], before: list[Any]) -> list[Any]:
    rest = list(after)
    for each in before:
        if each in rest:
            rest.remove(each)
    return rest


def _machine(visits: Visits, name: str, memory: str | None, kind: str) -> dict[str, Any]:
    seen = visits.machine(name, kind, machine_facts)
    if seen is None:
        return {}
    ram = [block for block in seen.sent["ram"] if block[0] != memory]
    return {key: value for key, value in {**seen.sent, "ram": ram}.items() if value}


def record_blockers(visits: Visits, profile: Profile) -> dict[str, Any]:
    """Which devices block migration, and what memory they and machines have."""
    known = profile.part("devices")
    devices = {name: known.get(name) for name in known}
    machines = {machine.name: machine.default_ram_id for machine in profile.machines}
    return {"migratability": record_migratability(visits, devices, machines)}


def record_fixed_types(emulator: Emulator, profile: Profile) -> dict[str, Any]:
    """Device types that can never be hot-plugged.

    A -global for one of them that no device takes is warned of at the start, which tells all
    at once.
    """
    types = [
        name
        for name, about in profile.qom_types.items()
        if not about.abstract and profile.is_a(name, "device") and name != "migration"
    ]
    settings = [f"driver={name},property={_PROPERTY},value=1" for name in types]
    argv = [argument for text in settings for argument in ("-global", text)]
    with Qemu(emulator, *emulator.none, *argv) as qemu:
        lines = qemu.warnings()
    fixed = sorted(match[1] for line in lines if (match := _UNUSED.search(line)))
    return {"fixed-types": fixed}


def record_vmstates(emulator: Emulator) -> dict[str, Any]:
    """What device types call their migration sections: device type -> name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vmstates.json"
        argv = emulator.machine(emulator.board.name, "-display", "none", "-dump-vmstate", str(path))
        code, _, errors = output(emulator, *argv)
        if code:
            raise RuntimeError(errors.strip().rpartition("\n")[2])
        dumped = json.loads(path.read_text())
    return {
        "vmstates": {
            name: about["Description"]["name"]
            for name, about in sorted(dumped.items())
            if isinstance(about, dict) and "Description" in about
        }
    }
