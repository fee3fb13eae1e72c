"""Commands of QAPI's ui module: displays, which the model has none of, and input.

Without a display what asks for one is refused as QEMU refuses it; a machine started with one
is not modelled here yet.
"""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.commands.absent import recorded
from fakeqemu.commands.registry import command
from fakeqemu.model import input as guest_input
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import (
    DeviceNotActiveError,
    DeviceNotFoundError,
    NotModelledError,
    QapiError,
)

Json = dict[str, Any]


def _without_vnc(vm: Machine, name: str) -> None:
    if vm.configuration.vnc:
        raise NotModelledError(name)


def _needs_spice(vm: Machine, name: str) -> None:
    """SPICE is never in use, unless it was asked for. Raises QapiError."""
    if vm.configuration.spice:
        raise NotModelledError(name)
    raise DeviceNotActiveError("SPICE is not in use")


@command("query-vnc")
def query_vnc(vm: Machine) -> Json:
    """VncInfo."""
    _without_vnc(vm, "query-vnc")
    info: Json = recorded(vm, "query-vnc")
    return info


@command("query-vnc-servers")
def query_vnc_servers(vm: Machine) -> list[Json]:
    """VncInfo2 list."""
    _without_vnc(vm, "query-vnc-servers")
    servers: list[Json] = recorded(vm, "query-vnc-servers")
    return servers


@command("set_password")
def set_password(
    vm: Machine, protocol: str, password: str, connected: str = "keep", **_: Any  # noqa: ARG001
) -> None:
    """Change a display's password."""
    if protocol == "spice":
        _needs_spice(vm, "set_password")
    if connected != "keep":
        raise QapiError(vm.profile.traits.vnc_connected_text)
    _without_vnc(vm, "set_password")
    raise QapiError(vm.profile.traits.no_vnc_for_password)


@command("expire_password")
def expire_password(vm: Machine, protocol: str, time: str, **_: Any) -> None:
    """Say how long a display's password is good."""
    number = time.removeprefix("+")
    if vm.profile.traits.expire_time_checked and time not in ("now", "never") and not (
        re.fullmatch(r"\s*[+-]?\d+", number) and abs(int(number)) < 1 << 64
    ):
        raise QapiError(f"Parameter 'time' doesn't take value '{time}'")
    if protocol == "spice":
        _needs_spice(vm, "expire_password")
    _without_vnc(vm, "expire_password")
    raise QapiError("Could not set password expire time")


@command("change-vnc-password")
def change_vnc_password(vm: Machine, password: str) -> None:  # noqa: ARG001
    """Change the first VNC display's password."""
    _without_vnc(vm, "change-vnc-password")
    raise QapiError(vm.profile.traits.no_vnc_for_password)


@command("client_migrate_info")
def client_migrate_info(vm: Machine, protocol: str, **_: Any) -> None:
    """Tell SPICE clients where to go."""
    if protocol != "spice":
        raise QapiError(texts.parameter_expects("protocol", "'spice'"))
    _needs_spice(vm, "client_migrate_info")


@command("add_client", monitor=True)
def add_client(
    vm: Machine, protocol: str, fdname: str, monitor: Any = None, **_: Any
) -> None:
    """Give a socket to a display or a character device."""
    fd = vm.named_fds(monitor).take(fdname)
    try:
        if protocol == "spice":
            _needs_spice(vm, "add_client")
        if protocol == "vnc":
            _without_vnc(vm, "add_client")
            raise QapiError("No VNC display is present")
        if protocol == "@dbus-display":
            raise NotModelledError("add_client @dbus-display")
        chardev = vm.chardevs.get(protocol)
        if chardev is None:
            raise QapiError(f"protocol '{protocol}' is invalid")
        if chardev.transport is None or not chardev.transport.add_client(fd):
            raise QapiError(f"protocol '{protocol}' failed to add client")
    except QapiError:
        vm.host.close_fd(fd)
        raise


@command("query-display-options")
def query_display_options(vm: Machine) -> Json:
    """DisplayOptions."""
    return dict(vm.configuration.display) or {"type": "none"}


@command("display-reload")
def display_reload(vm: Machine, type: str, tls_certs: bool = False) -> None:  # noqa: ARG001
    """Read certificates anew."""
    if type != "vnc":
        raise NotModelledError("display-reload")
    if tls_certs:
        raise QapiError("can not find vnc display")


@command("query-mice")
def query_mice(vm: Machine) -> list[Json]:
    """MouseInfo list."""
    return guest_input.mice(vm)


@command("send-key")
def send_key(vm: Machine, keys: list[Json], hold_time: int | None = None) -> None:
    """Press keys and let them go; QEMU drops them while the guest does not run."""
    vm.journal.note("input", "send-key", keys=keys, hold_time=hold_time)


@command("input-send-event")
def input_send_event(
    vm: Machine, events: list[Json], device: str | None = None, head: int | None = None  # noqa: ARG001
) -> None:
    """Send input events to the guest."""
    if device is not None:
        if vm.qom.at(f"/machine/peripheral/{device}") is None:
            raise DeviceNotFoundError(texts.device_not_found(device))
        raise NotModelledError("input-send-event to a console")
    if not vm.runstate.running and not vm.runstate.check("suspended"):
        raise QapiError("VM not running")
    guest_input.check_events(vm, events)
    vm.journal.note("input", "input-send-event", events=events)


@command("screendump")
def screendump(
    vm: Machine,
    filename: str,  # noqa: ARG001
    device: str | None = None,
    head: int | None = None,
    format: str | None = None,  # noqa: ARG001
) -> None:
    """Write what the screen shows into a file."""
    if device is not None:
        if vm.qom.at(f"/machine/peripheral/{device}") is None:
            raise DeviceNotFoundError(texts.device_not_found(device))
        raise NotModelledError("screendump of a device")
    if head is not None:
        raise QapiError("'head' must be specified together with 'device'")
    if guest_input.has_console(vm):
        raise NotModelledError("screendump")
    raise QapiError("There is no console to take a screendump from")
