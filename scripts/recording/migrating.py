"""What concerns migration and hot-plug of device types, over parts that are recorded already."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from fakeqemu.profile import Profile
from recording.migration import record_migratability
from recording.qemu import Qemu

_PROPERTY = "no-such-property"
_UNUSED = re.compile(rf"global (\S+)\.{_PROPERTY}=1 not used")


def record_blockers(binary: str, profile: Profile) -> dict[str, Any]:
    """Which devices and memory stand against migrating."""
    known = profile.part("devices")
    devices = {name: known.get(name) for name in known}
    machines = {machine.name: machine.default_ram_id for machine in profile.machines}
    return {"migratability": record_migratability(binary, devices, machines)}


def record_fixed_types(binary: str, profile: Profile) -> dict[str, Any]:
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
    with Qemu(binary, "-machine", "none", "-nodefaults", "-accel", "tcg", *argv) as qemu:
        lines = qemu.warnings()
    fixed = sorted(match[1] for line in lines if (match := _UNUSED.search(line)))
    return {"fixed-types": fixed}


def record_vmstates(binary: str, profile: Profile) -> dict[str, Any]:  # noqa: ARG001
    """What device types call their migration sections: device type -> name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vmstates.json"
        command = [binary, "-machine", "q35", "-display", "none", "-dump-vmstate", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        dumped = json.loads(path.read_text())
    return {
        "vmstates": {
            name: about["Description"]["name"]
            for name, about in sorted(dumped.items())
            if isinstance(about, dict) and "Description" in about
        }
    }
