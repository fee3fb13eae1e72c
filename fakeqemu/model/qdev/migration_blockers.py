"""Migration blockers of devices, and what --only-migratable says to them.

Which types have state that cannot be sent, or a reason of their own, is recorded. A reason
that depends on how a device was made has a rule here.

See migration/savevm.c: vmstate_check_only_migratable(); migration/migration.c:
migrate_add_blocker_modes().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fakeqemu.model.boards.ramblocks import recorded_of_device
from fakeqemu.model.qdev.devpath import section_name
from fakeqemu.profile.store import MissingPartError
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.migration import Migration
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.profile import Profile

#: type -> whether its own reasons hold for a device
_CONDITIONS: dict[str, Callable[[DeviceObject], bool]] = {
    "ivshmem-plain": lambda device: device.values.get("master") != "on",
}


def check_device(state: MachineState, type: str) -> None:
    """Refuse a device that cannot migrate where only such may be. Raises QapiError."""
    if not state.configuration.only_migratable:
        return
    text = recorded_of_device(state.profile, type).get("only-migratable")
    if text is not None:
        raise QapiError(text)


def device_added(profile: Profile, migration: Migration | None, device: DeviceObject) -> None:
    """A device is about to be there. Raises QapiError if migration must not be blocked."""
    if migration is None:
        return
    try:
        facts = recorded_of_device(profile, device.type)
    except MissingPartError:
        # the device can be there; `migrate` itself needs the part, and refuses
        return
    blockers = migration.blockers
    condition = _CONDITIONS.get(device.type)
    if condition is None or condition(device):
        for reason in facts.get("blockers", ()):
            blockers.add(reason, owner=device)
        for reason in facts.get("cpr-blockers", ()):
            blockers.add(reason, {"cpr-transfer"}, owner=device)
    for name in facts.get("unmigratable", ()):
        blockers.add_device(section_name(profile, device, name), owner=device)


def device_removed(migration: Migration | None, device: DeviceObject) -> None:
    """A device has gone."""
    if migration is not None:
        migration.blockers.remove_of(device)


def refusal(profile: Profile, type: str, given: object) -> QapiError | None:
    """What refuses a device that reaches for the host's hardware and was given nothing."""
    lines = None if given else recorded_of_device(profile, type).get("refusal")
    if not lines:
        return None
    return QapiError(lines[0], "\n".join(lines[1:]))
