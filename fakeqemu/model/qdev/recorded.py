"""What is recorded of device types (profile part `devices`).

See system/qdev-monitor.c: qdev_get_device_class() and qdev_class_get_alias().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from fakeqemu.profile import Profile


def about(profile: Profile, driver: str) -> dict[str, Any]:
    """The recorded facts of a device type. NotModelledError if there are none."""
    try:
        facts: dict[str, Any] = profile.part("devices").get(driver)
    except KeyError:
        raise NotModelledError(f"device {driver}") from None
    return facts


def alias_of(profile: Profile, driver: str) -> str | None:
    """The short name of a device type."""
    try:
        alias: str | None = profile.part("devices").get(driver, "class", "alias")
    except KeyError:
        return None
    return alias
