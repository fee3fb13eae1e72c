"""One QEMU version as data: what it has, read from recordings, each part when first asked for.

    profile = Profile.load("10.0")

Nothing here is typed in: the recordings in `schemas/` come from a running QEMU by
`fakeqemu record-profile`; hand-written additions are overlays on top of them.
"""

from fakeqemu.profile.facts import (
    MachineType,
    MigrationDefaults,
    Option,
    QomType,
    TreeObject,
    Version,
)
from fakeqemu.profile.profile import Profile

__all__ = [
    "MachineType",
    "MigrationDefaults",
    "Option",
    "Profile",
    "QomType",
    "TreeObject",
    "Version",
]
