"""The human monitor's side of displays and mice: pictures, passwords, what is served where.

See ui/ui-hmp-cmds.c: hmp_screendump(), hmp_set_password(), hmp_expire_password(),
hmp_mouse_set() and hmp_info_vnc().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands import ui
from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.formats.rfb import NONE
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError

Json = dict[str, Any]

_ADVICE = "If you want use passwords please enable password auth using '-vnc ${dpy},password'.\n"


@hmp("screendump")
def screendump(vm: Machine, filename: str, **given: Any) -> None:
    """Write what the screen shows into a file."""
    format = given.get("format")
    if format is not None and format not in vm.profile.schema.enum_values("ImageFormat"):
        raise QapiError(texts.invalid_value(format))
    ui.screendump(vm, filename, given.get("device"), given.get("head"), format)


@hmp("set_password")
def set_password(
    vm: Machine,
    protocol: str,
    password: str,
    display: str | None = None,
    connected: str | None = None,
) -> str:
    """Change a display's password."""
    for value, kind in ((connected, "SetPasswordAction"), (protocol, "DisplayProtocol")):
        if value is not None and value not in vm.profile.schema.enum_values(kind):
            raise QapiError(texts.invalid_value(value))
    if protocol == "vnc" and connected in (None, "keep"):
        return _set(vm, display, password)
    ui.set_password(vm, protocol, password, connected or "keep", display)
    return ""


@hmp("expire_password")
def expire_password(
    vm: Machine, protocol: str, time: str, display: str | None = None
) -> None:
    """Say how long a display's password is good."""
    if protocol not in vm.profile.schema.enum_values("DisplayProtocol"):
        raise QapiError(texts.invalid_value(protocol))
    ui.expire_password(vm, protocol, time, display)


def change_vnc(vm: Machine, target: str, password: str | None) -> str:
    """`change vnc`: another password for the first display."""
    if target not in ("password", "passwd"):
        marked = "Error: " if vm.profile.traits.change_vnc_error_marked else ""
        return f"{marked}Expected 'password' after 'vnc'\n"
    if password is None:
        return "terminal does not support password prompting\n"
    return _set(vm, None, password)


def _set(vm: Machine, id: str | None, password: str) -> str:
    """Set a password; what is printed of it. Older versions give advice first, newer ones after."""
    advises_after = vm.profile.traits.vnc_password_hints
    found = vm.vnc.find(id)
    try:
        ui.set_vnc_password(vm, id, password)
    except QapiError as error:
        if advises_after:
            return f"Error: {error.desc}\n{error.hint}"
        advice = _ADVICE if found is not None and found.auth == NONE else ""
        return f"{advice}Error: {error.desc}\n"
    return ""


@hmp("mouse_set")
def mouse_set(vm: Machine, index: int) -> None:
    """Have another mouse get the events."""
    vm.input.choose(index)


@hmp("info vnc")
def info_vnc(vm: Machine) -> str:
    """Each display, where it listens, who looks at it."""
    return "".join(map(_shown, ui.query_vnc_servers(vm))) or "None\n"


def _shown(info: Json) -> str:
    text = f"{info['id']}:\n"
    for server in info["server"]:
        text += f"  Server: {_address(server)}\n    Auth: {server['auth']} (Sub: none)\n"
    for client in info["clients"]:
        text += f"  Client: {_address(client)}\n"
        text += "    x509_dname: none\n    sasl_username: none\n"
    if not info["server"]:
        text += f"  Auth: {info['auth']} (Sub: none)\n"
    if "display" in info:
        text += f"  Display: {info['display']}\n"
    return text


def _address(info: Json) -> str:
    return f"{info['host']}:{info['service']} ({info['family']})"
