"""Which block drivers of the schema the binary lacks: those are in modules that are not there.

Part `block-drivers`: {"unknown": [name, ...]}.
"""

from __future__ import annotations

from typing import Any

from fakeqemu.profile import Profile
from recording.qemu import Qemu

_NONE = ("-machine", "none", "-nodefaults", "-S")


def record_block_drivers(binary: str, profile: Profile) -> dict[str, Any]:
    """The part's value."""
    unknown = []
    with Qemu(binary, *_NONE) as qemu:
        for name in profile.schema.enum_values("BlockdevDriver"):
            said = qemu.hmp(f"drive_add 0 if=none,id={name},driver={name}")
            if f"Unknown driver '{name}'" in said:
                unknown.append(name)
    return {"block-drivers": {"unknown": unknown}}
