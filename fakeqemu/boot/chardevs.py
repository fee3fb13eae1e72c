"""Character devices and monitors on the command line.

Reading and making are apart, as in QEMU: `-chardev` and the legacy addresses of `-qmp` are read
into the chardev group while options are parsed; what a backend needs is judged when the device
is made, `chardev_options` and `monitor_options` being asked one by one. `-serial` addresses are
not read before their own step: see `serials`.

See system/vl.c: monitor_parse(); chardev/char.c: qemu_chr_new_from_opts() and
qemu_chr_parse_compat(); monitor/monitor.c: monitor_init_opts().
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from fakeqemu.boot.cmdline.option_groups import Group, Groups
from fakeqemu.boot.cmdline.schema_values import HELP
from fakeqemu.boot.error_report import EarlyExit, Messages
from fakeqemu.configuration import Configuration, MonitorOptions, OptionString
from fakeqemu.model.chardev.chardev import ChardevOptions
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.qapi.readers.qemu_opts import parse_bool, parse_number, parse_size

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: addresses that are a backend's name and nothing else
_BARE = ("null", "pty", "msmouse", "wctablet", "braille", "testdev", "stdio")
#: how an address starts -> backend; the rest is its path
_PATHS = {"file:": "file", "pipe:": "pipe"}
#: how a TCP address starts -> the switch that goes with it
_TCP = {"tcp:": None, "telnet:": "telnet", "tn3270:": "tn3270", "websocket:": "websocket"}
#: how a device's path starts -> backend, the more special first
_DEVICES = {"COM": "serial", "/dev/parport": "parallel", "/dev/ppi": "parallel",
            "/dev/": "serial"}
#: options for a size in pixels or characters
_SIZES = ("width", "height", "cols", "rows")

_HOST_PORT = r"([^:]{1,64}):([^,]{1,32})"
_PORT = r":([^,]{1,32})"
_UDP_HOST_PORT = r"([^:]{1,64}):([^@,]{1,32})"
_UDP_PORT = r":([^@,]{1,32})"
_PIXELS = r"([0-9]{1,7})x([0-9]{1,7})"
_CHARS = r"([0-9]{1,7})Cx([0-9]{1,7})C?"

#: an address that does not parse, about which QEMU has no more to say
_UNREADABLE = QapiError("")


# -- reading -------------------------------------------------------------------------------------


def legacy_chardev(
    groups: Groups, label: str, text: str, option: str, location: str
) -> OptionString:
    """Read a legacy address (`tcp::4444,server=on`) into the chardev group as `label`.

    Raises QapiError; its text is empty where QEMU only says that it could not parse.
    """
    group = groups.group("chardev")
    entry = groups.create(group, label, option, location)
    try:
        _read_address(groups, group, entry, text)
    except QapiError:
        group.given.remove(entry)
        raise
    return entry


def _read_address(groups: Groups, group: Group, entry: OptionString, text: str) -> None:
    def put(**values: str) -> None:
        for key, value in values.items():
            groups.set(group, entry, key, value)

    entry.text = text
    if text.startswith("mon:"):
        text = text.removeprefix("mon:")
        put(mux="on")
        if text == "stdio":
            put(signal="off")
    start = next((s for s in (*_PATHS, *_TCP, "udp:", "unix:") if text.startswith(s)), "")
    rest = text.removeprefix(start)
    if text in _BARE:
        put(backend=text)
    elif text.startswith("vc"):
        put(backend="vc", **_vc_size(text.removeprefix("vc")))
    elif text == "con:":
        put(backend="console")
    elif start in _PATHS:
        put(backend=_PATHS[start], path=rest)
    elif text.startswith("pty:") and groups.traits.pty_takes_path:
        put(backend="pty", path=text.removeprefix("pty:"))
    elif start in _TCP:
        host, port, end = _host_port(rest, _HOST_PORT, _PORT)
        put(backend="socket", host=host, port=port)
        if rest[end : end + 1] == ",":
            groups.parse_into(group, entry, rest[end + 1 :], None, None)
        switch = _TCP[start]
        if switch is not None:
            put(**{switch: "on"})
    elif start == "udp:":
        _read_udp(rest, put)
    elif start == "unix:":
        put(backend="socket")
        groups.parse_into(group, entry, rest, "path", None)
    else:
        prefix = next((p for p in _DEVICES if text.startswith(p)), None)
        if prefix is None:
            raise QapiError(f"'{text}' is not a valid char driver")
        put(backend=_DEVICES[prefix], path=text)


def _host_port(text: str, both: str, alone: str) -> tuple[str, str, int]:
    """Host, port and where they end."""
    match = re.match(both, text)
    if match:
        return match[1], match[2], match.end()
    match = re.match(alone, text)
    if not match:
        raise _UNREADABLE
    return "", match[1], match.end()


def _read_udp(text: str, put: Callable[..., None]) -> None:
    host, port, end = _host_port(text, _UDP_HOST_PORT, _UDP_PORT)
    put(backend="udp", host=host, port=port)
    if text[end : end + 1] == "@":
        host, port, _ = _host_port(text[end + 1 :], _HOST_PORT, _PORT)
        put(localaddr=host, localport=port)


def _vc_size(text: str) -> dict[str, str]:
    if not text.startswith(":"):
        return {}
    pixels, chars = re.match(_PIXELS, text[1:]), re.match(_CHARS, text[1:])
    if pixels:
        return {"width": pixels[1], "height": pixels[2]}
    if chars:
        return {"cols": chars[1], "rows": chars[2]}
    raise _UNREADABLE


# -- making --------------------------------------------------------------------------------------


def chardev_options(
    entry: OptionString, profile: Profile, messages: Messages | None = None
) -> list[ChardevOptions]:
    """What to make for one entry of the chardev group: one device, or two with `mux=on`.

    Raises StartupError, or Exit for `-chardev help`; warnings go to `messages`.
    """
    alias = entry.values.get("backend", "")
    if messages is not None and alias in profile.traits.chardev_aliases:
        messages.warn(f"The alias '{alias}' is deprecated, use "
                      f"'{profile.traits.chardev_aliases[alias]}' instead", entry.location)
    try:
        return devices_of(entry, profile)
    except QapiError as exc:
        raise StartupError(exc.desc, location=entry.location, hint=exc.hint) from exc


def open_legacy_chardev(vm: Machine, label: str, text: str) -> None:
    """Make a device from an address as -serial takes it. Raises QapiError as legacy_chardev()."""
    if text.startswith("mon:"):
        raise NotModelledError("mon: on devices that are no ports")
    entry = legacy_chardev(Groups(vm.profile, Messages()), label, text, "chardev", "")
    for options in devices_of(entry, vm.profile):
        vm.chardevs.add(options)


def devices_of(entry: OptionString, profile: Profile) -> list[ChardevOptions]:
    """As `chardev_options`, but raises QapiError without a place."""
    name = entry.values.get("backend")
    if name in HELP:
        raise EarlyExit(profile.help("-chardev help"))
    if entry.id is None:
        raise QapiError("chardev: no id specified")
    if name is None:
        raise QapiError(f'chardev: "{entry.id}" missing backend')
    name = profile.traits.chardev_aliases.get(name, name)
    known = (b["name"] for b in profile.query("query-chardev-backends")["return"])
    if name not in (*known, *profile.traits.chardev_modules):
        raise QapiError(f"'{name}' is not a valid char driver name")
    if (
        profile.traits.chardev_sizes_checked
        and name != "vc"
        and not entry.values.keys().isdisjoint(_SIZES)
    ):
        raise QapiError(f"chardev '{entry.id}' does not support size options")
    parse = _BACKENDS.get(name)
    data = {**_common(entry), **(parse(entry, profile) if parse is not None else {})}
    if not _flag(entry, "mux"):
        return [ChardevOptions(entry.id, name, data, entry.location)]
    base = f"{entry.id}-base"
    return [
        ChardevOptions(base, name, data, entry.location),
        ChardevOptions(entry.id, "mux", {"chardev": base}, entry.location),
    ]


def _flag(entry: OptionString, key: str, default: bool = False) -> bool:
    return parse_bool(key, entry.values[key]) if key in entry.values else default


def _flags(entry: OptionString, keys: Iterable[str]) -> dict[str, bool]:
    return {key: _flag(entry, key) for key in keys if key in entry.values}


def _numbers(entry: OptionString, keys: Iterable[str]) -> dict[str, int]:
    return {key: parse_number(key, entry.values[key]) for key in keys if key in entry.values}


def _common(entry: OptionString) -> dict[str, Any]:
    common: dict[str, Any] = {}
    if "logfile" in entry.values:
        common["logfile"] = entry.values["logfile"]
    common["logappend"] = _flag(entry, "logappend")
    if "logtimestamp" in entry.values:
        common["logtimestamp"] = _flag(entry, "logtimestamp")
    return common


def _socket(entry: OptionString, _profile: Profile) -> dict[str, Any]:
    values = entry.values
    if len(values.keys() & {"path", "fd", "host"}) > 1:
        raise QapiError("None or one of 'path', 'fd' or 'host' option required.")
    if "host" in values and "port" not in values:
        raise QapiError("chardev: socket: no port given")
    if "delay" in values and "nodelay" in values:
        raise QapiError("'delay' and 'nodelay' are mutually exclusive")
    data: dict[str, Any] = {"addr": _socket_address(entry)}
    if "delay" in values or "nodelay" in values:
        data["nodelay"] = not _flag(entry, "delay", True) or _flag(entry, "nodelay")
    data["server"] = _flag(entry, "server")
    data.update(_flags(entry, ("telnet", "tn3270", "websocket")))
    if "wait" in values or data["server"]:
        data["wait"] = _flag(entry, "wait", True)
    data.update(_numbers(entry, ("reconnect", "reconnect-ms")))
    data.update({key: values[key] for key in ("tls-creds", "tls-authz") if key in values})
    return data


def _socket_address(entry: OptionString) -> dict[str, Any]:
    values = entry.values
    if "path" in values:
        switches = {"tight": _flag(entry, "tight", True), "abstract": _flag(entry, "abstract")}
        return {"type": "unix", "data": {"path": values["path"], **switches}}
    if "host" in values:
        return {"type": "inet", "data": {"host": values["host"], "port": values["port"],
                                         **_numbers(entry, ("to",)),
                                         **_flags(entry, ("ipv4", "ipv6"))}}
    return {"type": "fd", "data": {"str": values.get("fd", "")}}


def _udp(entry: OptionString, _profile: Profile) -> dict[str, Any]:
    values = entry.values
    if not values.get("port"):
        raise QapiError("chardev: udp: remote port not specified")
    remote = {"host": values.get("host") or "localhost", "port": values["port"],
              **_flags(entry, ("ipv4", "ipv6"))}
    data: dict[str, Any] = {"remote": {"type": "inet", "data": remote}}
    if values.get("localaddr") or values.get("localport"):
        local = {"host": values.get("localaddr") or "", "port": values.get("localport") or "0"}
        data["local"] = {"type": "inet", "data": local}
    return data


def _needs(key: str, missing: str, member: str) -> Callable[[OptionString, Profile], Any]:
    """A backend with one mandatory text: its option, QEMU's complaint, its QAPI member."""

    def parse(entry: OptionString, _profile: Profile) -> dict[str, Any]:
        if key not in entry.values:
            raise QapiError(f"chardev: {missing}")
        return {member: entry.values[key]}

    return parse


def _file(entry: OptionString, profile: Profile) -> dict[str, Any]:
    data: dict[str, Any] = _needs("path", "file: no filename given", "out")(entry, profile)
    if "input-path" in entry.values:
        data["in"] = entry.values["input-path"]
    return {**data, "append": _flag(entry, "append")}


def _ringbuf(entry: OptionString, profile: Profile) -> dict[str, Any]:
    size = parse_size("size", entry.values.get("size", "0"), profile.traits)
    return {"size": size} if size else {}


def _vc(entry: OptionString, _profile: Profile) -> dict[str, Any]:
    sizes = _numbers(entry, _SIZES)
    return {key: value for key, value in sizes.items() if value}


def _pty(entry: OptionString, _profile: Profile) -> dict[str, Any]:
    return {"path": entry.values["path"]} if "path" in entry.values else {}


def _hub(entry: OptionString, _profile: Profile) -> dict[str, Any]:
    keys = sorted(key for key in entry.values if key.startswith("chardevs."))
    if not keys:
        raise QapiError("hub: 'chardevs' list is not defined")
    return {"chardevs": [entry.values[key] for key in keys]}


def _stdio(entry: OptionString, _profile: Profile) -> dict[str, Any]:
    return {"signal": _flag(entry, "signal", True)}


def _vdagent(entry: OptionString, _profile: Profile) -> dict[str, Any]:
    return _flags(entry, ("mouse", "clipboard"))


#: backend -> its options as the data of chardev-add; the others have none of their own
_BACKENDS: dict[str, Callable[[OptionString, Profile], dict[str, Any]]] = {
    "socket": _socket,
    "udp": _udp,
    "file": _file,
    "pipe": _needs("path", "pipe: no device path given", "device"),
    "serial": _needs("path", "serial/tty: no device path given", "device"),
    "parallel": _needs("path", "parallel: no device path given", "device"),
    "ringbuf": _ringbuf,
    "memory": _ringbuf,
    "mux": _needs("chardev", "mux: no chardev given", "chardev"),
    "hub": _hub,
    "stdio": _stdio,
    "vc": _vc,
    "pty": _pty,
    "dbus": _needs("name", "dbus: no name given", "name"),
    "spicevmc": _needs("name", "spice channel: no name given", "type"),
    "spiceport": _needs("name", "spice port: no name given", "fqdn"),
    "qemu-vdagent": _vdagent,
}


def check_stdio(options: ChardevOptions, configuration: Configuration) -> None:
    """Raise StartupError for standard input and output of a process without them."""
    if options.backend == "stdio" and configuration.daemonize:
        raise StartupError("cannot use stdio with -daemonize", location=options.location)


def monitor_options(entry: OptionString, known: Iterable[str]) -> MonitorOptions:
    """What to attach for one entry of the mon group; `known`: the ids of character devices.

    Raises StartupError.
    """

    def fail(text: str) -> StartupError:
        return StartupError(text, location=entry.location)

    given = entry.values.get("mode", "readline")
    if given not in ("readline", "control"):
        raise fail(f"Parameter 'mode' does not accept value '{given}'")
    mode: Literal["control", "readline"] = "control" if given == "control" else "readline"
    pretty = _flag(entry, "pretty")
    if "chardev" not in entry.values:
        raise fail("Parameter 'chardev' is missing")
    chardev = entry.values["chardev"]
    if chardev not in known:
        raise fail(f'chardev "{chardev}" not found')
    if pretty and mode == "readline":
        raise fail("'pretty' is not compatible with HMP monitors")
    return MonitorOptions(chardev, mode, entry.location, pretty, entry.id)
