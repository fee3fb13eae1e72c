"""Backends on the command line, judged at the steps that make them: display, net.

Companion of `checks`; only what can be told from the command line alone is judged here. What
needs other objects (a chardev, a netdev, an image) is judged by whoever makes the backend.

See system/vl.c: parse_display(); net/net.c: net_param_nic() and
net_init_clients(); replay/replay.c: replay_configure().
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fakeqemu.boot.cmdline.schema_values import HELP
from fakeqemu.boot.error_report import EarlyExit, Messages
from fakeqemu.configuration import Configuration, OptionString
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import MachineType
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.qapi.readers.opts_visitor import visit_options

if TYPE_CHECKING:
    from fakeqemu.model.host import Host

#: the largest number that stands for an Ethernet address
_MAC_NUMBERS = 0xFFFFFF
_MAC = r"[0-9a-fA-F]{1,2}([:-][0-9a-fA-F]{1,2}){5}\Z"
_LARGEST_SHIFT = 10

#: display type -> the package that QEMU points to where it is not installed
_DISPLAY_PACKAGES = {
    "gtk": "qemu-system-gui", "sdl": "qemu-system-gui", "spice-app": "qemu-system-gui",
    "egl-headless": "qemu-system-modules-opengl", "dbus": "qemu-system-modules-opengl",
}  # fmt: skip

#: longest name of a fw_cfg item
_FW_CFG_NAME = 55


def _blame(entry: OptionString, text: str, hint: str = "") -> StartupError:
    return StartupError(text, location=entry.location, hint=hint)


# -- display -------------------------------------------------------------------------------------


def check_display(configuration: Configuration, profile: Profile, host: Host) -> None:
    """Whether the display asked for is there, before any device. Raises StartupError."""
    display = configuration.display
    kind = display.get("type")
    if kind not in _DISPLAY_PACKAGES:
        return
    installed = profile.help("-display help").split("\n\n")[0].splitlines()[1:]
    if kind not in installed:
        package, advice, heading = f"install {_DISPLAY_PACKAGES[kind]} package?", "", ""
        if profile.traits.missing_module_advice:
            advice = f" Perhaps you want to {package}"
        else:
            heading = f"qemu: module ui-ui-{kind} not found, do you want to {package}"
        raise StartupError(f"Display '{kind}' is not available.{advice}", heading=heading)
    if kind == "spice-app" or (kind == "dbus" and not display.get("p2p")):
        # a bus that others share; where there is none a real one ends too
        raise NotModelledError(f"-display {kind}")
    if kind == "egl-headless" and profile.traits.egl_before_devices:
        from fakeqemu.boot.checks.host_devices import open_render_node

        open_render_node(display, profile, host)


def check_display_options(
    configuration: Configuration, profile: Profile, messages: Messages
) -> None:
    """Suboptions that do not fit the display, before early backends. Raises StartupError."""
    display = configuration.display
    if "window-close" in display and display.get("type") not in ("gtk", "sdl"):
        messages.report("window-close is only valid for GTK and SDL, ignoring option")
    if display.get("gl", "off") != "off" and display.get("type") != "egl-headless":
        words = (
            f"by display backend '{display.get('type', 'none')}'"
            if profile.traits.missing_module_advice else "by the display"
        )
        raise messages.error(f"OpenGL is not supported {words}")


# -- network -------------------------------------------------------------------------------------


def netdev_arguments(entry: OptionString, profile: Profile) -> dict[str, Any]:
    """A -netdev of the older syntax as netdev_add's arguments. Raises StartupError.

    Raises EarlyExit for `-netdev help`.
    """
    if entry.values.get("type") in HELP:
        raise EarlyExit(profile.help("-netdev help"))
    return _net_arguments(entry, profile)


def parse_mac(text: str) -> str | None:
    """An Ethernet address in its usual form, also from a number for its last three bytes.

    None for others. See net/util.c: net_parse_macaddr().
    """
    from fakeqemu.model.net.sockets.addresses import c_integer

    number = c_integer(text)
    if number is not None and 0 <= number <= _MAC_NUMBERS:
        text = f"0:0:0:{number >> 16:x}:{number >> 8 & 255:x}:{number & 255:x}"
    if not re.match(_MAC, text):
        return None
    return ":".join(f"{int(part, 16):02x}" for part in re.split("[:-]", text))


def nic_arguments(entry: OptionString, profile: Profile) -> dict[str, Any] | None:
    """The backend half of a -nic as netdev_add's arguments, its id generated; None for none.

    Raises StartupError. `mac` and `model` are for the device half, and left out.
    """
    kind = entry.values.get("type")
    if kind == "none":
        return None
    if kind in HELP and profile.traits.nic_help:
        raise EarlyExit(profile.help("-nic help"))
    mac = entry.values.get("mac")
    if mac is not None and parse_mac(mac) is None:
        raise _blame(entry, "invalid syntax for ethernet address")
    pairs = tuple(pair for pair in entry.pairs if pair[0] not in ("mac", "model"))
    if kind is None:
        pairs = (*pairs, ("type", "user"))
    return _net_arguments(_with_id(entry, pairs), profile)


def net_arguments(entry: OptionString, profile: Profile) -> dict[str, Any]:
    """A -net as netdev_add's arguments (type `nic` for the device half). Raises StartupError."""
    arguments = _net_arguments(_with_id(entry, entry.pairs), profile)
    mac = arguments.get("macaddr")
    if mac is not None and parse_mac(mac) is None:
        raise _blame(entry, "invalid syntax for ethernet address")
    return arguments


def _with_id(entry: OptionString, pairs: tuple[tuple[str, str], ...]) -> OptionString:
    values = {"id": entry.id or "#net", **dict(pairs)}
    return OptionString(entry.option, entry.text, entry.location, values, pairs)


def _net_arguments(entry: OptionString, profile: Profile) -> dict[str, Any]:
    from fakeqemu.model.net.slirp.options import expand_ipv6_net

    try:
        type = profile.schema.commands["netdev_add"].arg_type
        pairs = expand_ipv6_net(entry.pairs, profile.traits)
        scope = "netdev_add" if entry.option == "netdev" else f"-{entry.option}"
        return visit_options(pairs, entry.id, type, profile.traits, scope)
    except QapiError as exc:
        raise _blame(entry, exc.desc, exc.hint) from exc


# -- firmware items, icount -------------------------------------------------


def check_fw_cfg(
    entry: OptionString, machine: MachineType, messages: Messages
) -> None:
    """-fw_cfg. Raises StartupError."""
    if machine.default_cpu_type is None:
        raise _blame(entry, "fw_cfg device not available")
    name = entry.values.get("name", "")
    sources = [key for key in ("file", "string", "gen_id") if entry.values.get(key)]
    if not name or len(sources) != 1:
        raise _blame(entry,
                     "name, plus exactly one of file, string and gen_id, are needed")
    if len(name) > _FW_CFG_NAME:
        raise _blame(entry, f"name too long (max. {_FW_CFG_NAME} char)")
    if sources != ["gen_id"] and not name.startswith("opt/"):
        messages.warn('externally provided fw_cfg item names should be prefixed with "opt/"',
                      entry.location)


def check_icount(configuration: Configuration) -> None:
    """-icount, before the accelerator is chosen. Raises StartupError."""
    entry = configuration.icount
    if entry is None:
        return
    shift = entry.values.get("shift")
    align = entry.values.get("align", "off") in ("on", "yes", "true", "y")
    sleep = entry.values.get("sleep", "on") in ("on", "yes", "true", "y")
    if shift is None:
        if "align" in entry.values:
            raise _blame(entry, "Please specify shift option when using align")
        return
    if align and not sleep:
        raise _blame(entry, "align=on and sleep=off are incompatible")
    good = re.match(r"\s*\+?(0[xX][0-9a-fA-F]+|[0-9]+)\Z", shift)
    if shift != "auto" and not (good and int(shift, 0) <= _LARGEST_SHIFT):
        raise _blame(entry, "icount: Invalid shift value")
