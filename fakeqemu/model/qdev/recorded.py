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


def is_hotpluggable(profile: Profile, driver: str) -> bool:
    """Whether devices of that type can come and go, given a bus that allows it."""
    return bool(about(profile, driver).get("hotplug") != cannot_hotplug(driver))


def cannot_hotplug(driver: str) -> str:
    """What is said of devices of a type that can never be hot-plugged."""
    return f"Device '{driver}' does not support hotplugging"


def alias_of(profile: Profile, driver: str) -> str | None:
    """The short name of a device type."""
    try:
        alias: str | None = profile.part("devices").get(driver, "class", "alias")
    except KeyError:
        return None
    return alias
