"""PCI configuration space of boards and devices, as it is before any firmware has run.

Part `pci-config`: {"machines": {type: {"bare": SPACE, "full": SPACE}}, "devices": {type: FUNCTION}}
with SPACE = {"1f.0": FUNCTION} and FUNCTION = [contents, writable bits], both 256 bytes in
hexadecimal. What is writable is found by writing ones and zeros; registers whose writing has
effects are left as they are found.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fakeqemu.profile import Profile
from fakeqemu.recorder.board.devices import look_at
from fakeqemu.recorder.board.machines import machine_facts
from fakeqemu.recorder.board.visits import KINDS, Visits


def record_pci_config(visits: Visits, profile: Profile) -> dict[str, Any]:
    """Boards and devices."""
    machines: dict[str, Any] = {}
    devices: dict[str, Any] = {}
    for name in (machine.name for machine in profile.machines):
        bare, full = (
            {} if seen is None else seen.space
            for seen in (visits.machine(name, kind, machine_facts) for kind in KINDS)
        )
        if bare:
            machines[name] = {"bare": bare, "full": full}
    known = profile.part("devices")
    with ThreadPoolExecutor(2) as pool:
        names = [name for name in known if known.get(name).get("pci")]
        for name, seen in zip(
            names, pool.map(lambda n: look_at(visits, n, known.get(n)), names), strict=True
        ):
            if seen is not None:
                devices.update((name, function) for function in seen.space.values())
    return {"pci-config": {"machines": machines, "devices": devices}}
