"""What each kind of network backend refuses, and its line in `info network`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.model import hostforward
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

Check = Callable[["Machine", dict[str, Any], Any], str]

#: what a tap given as descriptors must not be given besides, where each way has its own text
_TAP_EXTRA = ("ifname", "script", "downscript", "vnet_hdr")


def built_in(vm: Machine, type: str) -> bool:
    """Whether the recorded build has backends of that type."""
    return type in vm.profile.help("-netdev help").split("\n")


def check(vm: Machine, options: dict[str, Any], monitor: Any) -> str:
    """The text for `info network` of a backend with these options. Raises QapiError."""
    checks = KINDS.get(options["type"])
    if checks is None:
        raise NotModelledError(f"netdev {options['type']}")
    return checks(vm, options, monitor)


def _hubport(vm: Machine, options: dict[str, Any], monitor: Any) -> str:  # noqa: ARG001
    netdev = options.get("netdev")
    if netdev is not None and netdev not in vm.net.backends:
        raise QapiError(f"netdev '{netdev}' not found")
    return ""


# -- user ------------------------------------------------------------------------------------


def _user(vm: Machine, options: dict[str, Any], monitor: Any) -> str:  # noqa: ARG001
    ipv4, ipv6 = options.get("ipv4", True), options.get("ipv6", True)
    if not ipv4 and any(k in options for k in ("net", "host", "dns")):
        raise QapiError("IPv4 disabled but netmask/host/dns provided")
    if not ipv6 and any(k in options for k in ("ipv6-prefix", "ipv6-host", "ipv6-dns")):
        raise QapiError("IPv6 disabled but prefix/host6/dns6 provided")
    if not ipv4 and not ipv6:
        raise QapiError("IPv4 and IPv6 disabled")
    network = _user_network(options)
    for key, what in (("host", "Host"), ("dns", "DNS"), ("dhcpstart", "DHCP")):
        if key in options:
            anywhere = key == "dns" and not options.get("restrict")
            _user_address(options[key], None if anywhere else network, key, what)
    # the host is the second address of the network unless told otherwise
    host = options.get("host", str(network.network_address + 2))
    if "dns" in options and ipaddress.IPv4Address(options["dns"]) == ipaddress.IPv4Address(host):
        raise QapiError("DNS must be different from host")
    if "domainname" in options and not options["domainname"]:
        raise QapiError("'domainname' parameter cannot be empty")
    forwards: list[hostforward.Forward] = []
    for rule in options.get("hostfwd", ()):
        hostforward.add(forwards, rule["str"], vm.profile.traits)
    restrict = "on" if options.get("restrict") else "off"
    return f"net={network.network_address},restrict={restrict}"


def _user_network(options: dict[str, Any]) -> ipaddress.IPv4Network:
    text = options.get("net")
    if text is None:
        return ipaddress.IPv4Network("10.0.2.0/24")
    address, slash, mask = text.partition("/")
    number = hostforward.loose_address(address)
    if number is None:
        raise QapiError("Failed to parse netmask")
    bits = next(bits for start, length, bits in _CLASSES if number >> 32 - length == start)
    if slash:
        if mask.isdigit():
            bits = int(mask)
            if not 4 <= bits <= 32:
                raise QapiError("Invalid netmask provided (must be in range 4-32)")
        else:
            try:
                bits = ipaddress.IPv4Network(f"0.0.0.0/{mask}").prefixlen
            except ValueError:
                raise QapiError("Failed to parse netmask") from None
    return ipaddress.IPv4Network((number & (-1 << (32 - bits)) & 0xFFFFFFFF, bits))


#: (leading bits, how many, netmask's length) of networks given without a mask
_CLASSES = (
    (0, 1, 8),
    (0xAC1, 12, 12),
    (2, 2, 16),
    (0xC0A8, 16, 16),
    (0xC612, 16, 15),
    (7, 3, 24),
    (0, 0, 28),
)


def _user_address(
    text: str, network: ipaddress.IPv4Network | None, key: str, what: str
) -> None:
    names = {"host": "host", "dns": "DNS", "dhcpstart": "DHCP start address"}
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise QapiError(f"Failed to parse {names[key]}") from None
    if network is not None and address not in network:
        raise QapiError(f"{what} doesn't belong to network")


# -- descriptors -----------------------------------------------------------------------------


def _descriptor(vm: Machine, monitor: Any, name: str) -> None:
    """A descriptor by name or number."""
    if name.isdigit() or monitor is None:
        return
    vm.named_fds(monitor).take(name)


def _socket(vm: Machine, options: dict[str, Any], monitor: Any) -> str:
    given = [key for key in ("fd", "listen", "connect", "mcast", "udp") if key in options]
    if len(given) != 1:
        raise QapiError("exactly one of listen=, connect=, mcast= or udp= is required")
    if "localaddr" in options and given[0] not in ("mcast", "udp"):
        raise QapiError("localaddr= is only valid with mcast= or udp=")
    if "fd" in options:
        _descriptor(vm, monitor, options["fd"])
    elif given[0] == "udp" and "localaddr" not in options:
        raise QapiError("localaddr= is mandatory with udp=")
    else:
        _host_port(options[given[0]])
    # one that listens says nothing of itself before somebody comes
    return "" if given[0] == "listen" else f"socket: {given[0]}={options[given[0]]}"


def _host_port(text: str) -> None:
    host, colon, port = text.partition(":")
    if not colon:
        raise QapiError(f"host address '{text}' doesn't contain ':' separating host from port")
    if host and host[0].isdigit():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise QapiError(f"host address '{host}' is not a valid IPv4 address") from None
    if not port.isdigit() or int(port) > 65535:
        raise QapiError(f"port number '{port}' is invalid")


def _tap(vm: Machine, options: dict[str, Any], monitor: Any) -> str:
    if vm.profile.traits.tap_exclusive_text:
        _tap_exclusive(options)
    else:
        _tap_each(options)
    vhost = options.get("vhost", any(k in options for k in ("vhostfd", "vhostfds")))
    if not vhost and any(k in options for k in ("vhostfd", "vhostfds")):
        raise QapiError("vhostfd(s)= is not valid without vhost")
    names = [options["fd"]] if "fd" in options else options.get("fds", "").split(":")
    for name in filter(None, names):
        _descriptor(vm, monitor, name)
        trouble = vm.host.fd_error(int(name)) if name.isdigit() else None
        if trouble is not None:
            text = vm.profile.traits.tap_bad_fd
            raise QapiError(text.format(id=options["id"], fd=name, error=trouble))
    if "vhostfd" in options:
        _descriptor(vm, monitor, options["vhostfd"])
    if "fd" in options or "fds" in options:
        return f"fd={options.get('fd', options.get('fds'))}"
    if "helper" in options:
        raise NotModelledError("netdev tap,helper=")
    return (
        f"ifname={options.get('ifname', 'tap0')},script={options.get('script', '/etc/qemu-ifup')},"
        f"downscript={options.get('downscript', '/etc/qemu-ifdown')}"
    )


def _tap_exclusive(options: dict[str, Any]) -> None:
    """The checks of versions that look at all of them together."""
    ways = [key for key in ("queues", "helper", "fds", "fd") if key in options]
    if len(ways) > 1:
        raise QapiError("queues=, helper=, fds= and fd= are mutual exclusive")
    if ways and ways != ["queues"] and any(key in options for key in _TAP_EXTRA):
        raise QapiError(
            "ifname=, script=, downscript=, vnet_hdr= are invalid with fd=/fds=/helper="
        )


def _tap_each(options: dict[str, Any]) -> None:
    """The checks of versions that look at one way after the other."""
    head = "ifname=, script=, downscript=, vnet_hdr=, helper=, queues="
    if "fd" in options:
        if any(k in options for k in (*_TAP_EXTRA, "helper", "queues", "fds", "vhostfds")):
            raise QapiError(f"{head}, fds=, and vhostfds= are invalid with fd=")
    elif "fds" in options:
        if any(k in options for k in (*_TAP_EXTRA, "helper", "queues", "vhostfd")):
            raise QapiError(f"{head}, and vhostfd= are invalid with fds=")
    elif "helper" in options and any(
        k in options for k in (*_TAP_EXTRA, "queues", "vhostfds")
    ):
        raise QapiError(
            "ifname=, script=, downscript=, vnet_hdr=, queues=, and vhostfds= are invalid"
            " with helper="
        )


def _bridge(vm: Machine, options: dict[str, Any], monitor: Any) -> str:  # noqa: ARG001
    # no helper runs in the model's world
    raise QapiError("bridge helper failed")


def _vhost_user(vm: Machine, options: dict[str, Any], monitor: Any) -> str:  # noqa: ARG001
    name = options["chardev"]
    chardev = vm.chardevs.get(name)
    if chardev is None:
        raise QapiError(f'chardev "{name}" not found')
    if chardev.backend != "socket":
        raise QapiError(f'chardev "{name}" is not reconnectable')
    raise NotModelledError("netdev vhost-user")


# -- stream, dgram ---------------------------------------------------------------------------


def _stream(vm: Machine, options: dict[str, Any], monitor: Any) -> str:  # noqa: ARG001
    if "reconnect" in options and "reconnect-ms" in options:
        raise QapiError("'reconnect' and 'reconnect-ms' are mutually exclusive")
    server = options.get("server", False)
    both = "reconnect" in options or "reconnect-ms" in options
    if server and both:
        names = [f"'{k}'" for k in ("reconnect", "reconnect-ms")]
        known = vm.profile.traits.netdev_reconnect_ms
        raise QapiError(
            (f"{' and '.join(names)} options are " if known else "'reconnect' option is ")
            + "incompatible with socket in server listen mode"
        )
    address = options["addr"]
    if address.get("type") == "fd" and not address["str"].isdigit():
        # taken all the same: the backend tries, and shows why it cannot
        return f"error: Unable to parse FD number {address['str']}"
    return _address_text(address)


def _dgram(vm: Machine, options: dict[str, Any], monitor: Any) -> str:
    local, remote = options.get("local"), options.get("remote")
    if remote is not None and remote.get("type") == "inet" and _is_multicast(remote):
        return _address_text(remote)
    if local is None:
        raise QapiError("dgram requires local= parameter")
    if remote is not None:
        if local["type"] == "fd":
            raise QapiError("don't set remote with local.fd")
        if remote["type"] != local["type"]:
            raise QapiError("remote and local types must be the same")
    elif local["type"] in ("inet", "unix"):
        raise QapiError("type=inet or type=unix requires remote parameter")
    if local["type"] == "fd":
        _descriptor(vm, monitor, local["str"])
    return _address_text(local)


def _is_multicast(address: dict[str, Any]) -> bool:
    try:
        return ipaddress.IPv4Address(address.get("host", "")).is_multicast
    except ValueError:
        return False


def _address_text(address: dict[str, Any]) -> str:
    match address:
        case {"type": "unix", "path": path}:
            return f"unix:{path}"
        case {"type": "inet", "host": host, "port": port}:
            return f"tcp:{host}:{port}"
        case {"type": "fd", "str": name}:
            return f"fd:{name}"
    return str(address.get("type", ""))


#: the kinds that are modelled
KINDS: dict[str, Check] = {
    "hubport": _hubport,
    "user": _user,
    "socket": _socket,
    "stream": _stream,
    "dgram": _dgram,
    "tap": _tap,
    "bridge": _bridge,
    "vhost-user": _vhost_user,
}

