"""What kinds of network backends there are, and how each is made.

A backend that needs what the host does not give is refused in QEMU's words; one whose other
side is not modelled says so.

See net/net.c: net_client_init1(); net/tap.c: net_init_tap().
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NoReturn

from fakeqemu.model.net.client import NetClient
from fakeqemu.model.net.slirp.slirp import UserNet
from fakeqemu.model.net.sockets import socket, stream
from fakeqemu.model.net.sockets.dgram import DgramClient
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.host import Host
    from fakeqemu.model.net.descriptors import FoundDescriptor
    from fakeqemu.model.net.net import Net
    from fakeqemu.model.net.sockets.host_sockets import TapDevice
    from fakeqemu.model.net.tap import TapBackend
    from fakeqemu.model.process import Process
    from fakeqemu.profile import Profile

Create = Callable[["Net", dict[str, Any], Any], NetClient]

#: which bridges its helper program may add to, for whom
_BRIDGE_RULES = "/etc/qemu/bridge.conf"
#: what a tap given as descriptors must not be given besides, where each way has its own text
_TAP_EXTRA = ("ifname", "script", "downscript", "vnet_hdr")
#: where a VDE switch is by default
_SMBD = "/usr/sbin/smbd"


def built_in(profile: Profile, type: str) -> bool:
    """Whether the recorded build has backends of that type."""
    return type in profile.help("-netdev help").split("\n")


def create(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:
    """A backend with these options, which sends and receives from now on. Raises QapiError."""
    maker = KINDS.get(options["type"])
    if maker is None:
        raise NotModelledError(f"netdev {options['type']}")
    return maker(net, options, monitor)


def _hubport(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:  # noqa: ARG001
    netdev = options.get("netdev")
    peer = None if netdev is None else net.backends.get(netdev)
    if netdev is not None and peer is None:
        raise QapiError(f"netdev '{netdev}' not found")
    if peer is not None and peer.peer is not None:
        raise QapiError(f"netdev '{netdev}' is in use")
    port = net.add_hub_port(options["hubid"], options["id"])
    if peer is not None:
        port.connect(peer)
    return port


def _user(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:  # noqa: ARG001
    user = UserNet(net, net.process, net.chardevs, options)
    try:
        user.open(options)
        if "smb" in options:
            _share(net.process.host, options["smb"])
    except BaseException:
        user.cleanup()
        raise
    return user


def _share(host: Host, path: str) -> None:
    """smb=: a Samba server for the guest. See net/slirp.c: slirp_smb(). Raises QapiError."""
    if host.file_error(_SMBD) is not None:
        raise QapiError(f"Could not find '{_SMBD}', please install it")
    trouble = host.file_error(path)
    if trouble is not None:
        raise QapiError(f"Error accessing shared directory '{path}': {trouble}")
    raise NotModelledError("netdev user,smb=")


def _socket(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:
    return socket.create(net, net.process, net.descriptors, options, monitor)


def _stream(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:  # noqa: ARG001
    stream.check(net.process.profile.traits, options)
    return stream.StreamClient(net, net.process, options)


def _dgram(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:
    client = DgramClient(net, net.process, options["id"])
    client.open_as(options, net.descriptors, monitor)
    return client


# -- tap, bridge -----------------------------------------------------------------------------


class TapClient(NetClient):
    """A TAP device of the host, as far as it is seen from outside: frames end here.

    It is really opened where a script is to work on it. See net/tap.c: net_tap_init(),
    tap_exit_notify() and tap_cleanup().
    """

    type = "tap"
    _device: TapDevice | None = None
    _down_script = ""

    def __init__(self, net: Net, name: str) -> None:
        super().__init__(net, name)
        self._host = net.process.host

    def open(self, options: dict[str, Any]) -> None:
        """Open the device and set it up, if a script is named. Raises QapiError."""
        scripts = [str(options.get(key, "no")) for key in ("script", "downscript")]
        up, self._down_script = ("" if each == "no" else each for each in scripts)
        if not up and not self._down_script:
            return
        ifname, vnet_hdr = options.get("ifname", ""), options.get("vnet_hdr", True)
        device = self._host.sockets.open_tap(ifname, vnet_hdr=vnet_hdr)
        if up:
            try:
                device.run_script(up)
            except QapiError:
                device.close()
                raise
        self._device = device

    @contextlib.contextmanager
    def undone_if_refused(self) -> Iterator[None]:
        """Close the device again if what is done here is refused."""
        try:
            yield
        except QapiError:
            self.cleanup()
            raise

    @property
    def ifname(self) -> str:
        """The interface of the device that was opened; empty if none was."""
        return "" if self._device is None else self._device.ifname

    def cleanup(self) -> None:
        """Let a script undo what another has set up."""
        super().cleanup()
        device, self._device = self._device, None
        if device is None:
            return
        try:
            if self._down_script:
                device.run_script(self._down_script)
        except QapiError as error:
            self._host.warn(str(error))
        device.close()

    def receive(self, frame: bytes) -> int:
        """The host takes it."""
        return len(frame)


def _create_tap(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:
    id = options["id"]
    client = TapClient(net, id)
    if net.process.profile.traits.tap_cpr:
        _create_preserved_tap(net, client, options, monitor)
        return client
    if not net.descriptors.inherits(id, options):
        client.info = _tap(net, client, options, monitor)
    fd = str(options.get("fd", ""))
    _open_tap(net, client, options)
    if fd.isdigit() and net.descriptors.reads_early and net.descriptors.saved.find(id) is None:
        net.descriptors.saved.save(id, int(fd))
    return client


def _open_tap(
    net: Net, client: TapClient, options: dict[str, Any], *, inherited: bool = False
) -> TapBackend:
    """Have the interface of these options, unless an old process opened it. Raises QapiError."""
    given = "fd" in options or "fds" in options
    with client.undone_if_refused():
        return net.taps.create(
            options["id"],
            "" if given else client.ifname or str(options.get("ifname", "")),
            supports_local=options.get("local-migration-supported"),
            multi_queue=options.get("queues", 1) > 1,
            inherited=inherited,
            given=given,
        )


def _create_preserved_tap(
    net: Net, client: TapClient, options: dict[str, Any], monitor: Any
) -> None:
    """A TAP where `cpr=on` says that its descriptor goes along in the CPR modes.

    A file stands for the host's open device. A TAP without `cpr`
    opens its device again in the new process. Raises QapiError.
    """
    id, cpr, saved = options["id"], options.get("cpr", False), net.descriptors.saved
    fd = str(options.get("fd", ""))
    inherits = cpr and net.descriptors.cpr_is_incoming
    if inherits:
        saved.take(id, fd or id)
    else:
        client.info = _tap(net, client, options, monitor)
    tap = _open_tap(net, client, options, inherited=inherits)
    if cpr and not inherits and saved.find(id) is None:
        saved.save(id, int(fd) if fd.isdigit() else net.taps.descriptor(tap))


def _tap(net: Net, client: TapClient, options: dict[str, Any], monitor: Any) -> str:
    if net.process.profile.traits.tap_exclusive_text:
        _tap_exclusive(options)
    else:
        _tap_each(options)
    vhost = options.get("vhost", any(k in options for k in ("vhostfd", "vhostfds")))
    if not vhost and any(k in options for k in ("vhostfd", "vhostfds")):
        raise QapiError("vhostfd(s)= is not valid without vhost")
    names = [options["fd"]] if "fd" in options else options.get("fds", "").split(":")
    for name in filter(None, names):
        _check_tap(net.process, options["id"], net.descriptors.find(monitor, name))
    if "helper" in options:
        _run_helper(net, options["helper"], "netdev tap,helper=")
    elif not names[0]:
        client.open(options)
    vhosts = filter(None, options.get("vhostfd", options.get("vhostfds", "")).split(":"))
    with client.undone_if_refused():
        for name, own in zip_longest(vhosts, names):
            if name is not None:
                _check_vhost(net.process, options["id"], net.descriptors.find(monitor, name), own)
    if "fd" in options or "fds" in options:
        return f"fd={options.get('fd', options.get('fds'))}"
    ifname = client.ifname or options.get("ifname", "tap0")
    return (
        f"ifname={ifname},script={options.get('script', '/etc/qemu-ifup')},"
        f"downscript={options.get('downscript', '/etc/qemu-ifdown')}"
    )


def _check_tap(process: Process, id: str, found: FoundDescriptor) -> None:
    """Whether it is a TAP device; one that is none is closed. Raises QapiError.

    See net/tap.c: net_init_tap(), net/tap-linux.c: tap_probe_vnet_hdr().
    """
    traits = process.profile.traits
    trouble = process.host.fd_error(found.fd)
    if trouble is not None:
        raise QapiError(traits.tap_bad_fd.format(id=id, fd=found.number, error=trouble))
    trouble = process.host.tap_error(found.fd)
    if trouble is not None:
        process.host.close_fd(found.fd)
        raise QapiError(f"Unable to query TUNGETIFF on FD {found.number}: {trouble}")


def _check_vhost(process: Process, id: str, found: FoundDescriptor, tap: str | None) -> None:
    """Whether it is a vhost device; `tap` is the TAP's, if that was given. Raises QapiError.

    See net/tap.c: net_init_tap_one(); hw/virtio/vhost.c: vhost_dev_init().
    """
    traits = process.profile.traits
    trouble = process.host.fd_error(found.fd)
    if trouble is not None:
        # of a TAP that was opened here nobody knows the number
        fd = found.number if traits.tap_bad_vhost_named or not tap else tap
        raise QapiError(traits.tap_bad_fd.format(id=id, fd=fd, error=trouble))
    trouble = process.host.vhost_error(found.fd)
    if trouble is not None:
        failure = QapiError("vhost-net requested but could not be initialized")
        failure.earlier = (f"vhost_set_owner failed: {trouble}",)
        raise failure


def _run_helper(net: Net, helper: str | None, name: str) -> NoReturn:
    """What a program says that opens an interface; none of those that can is run.

    See net/tap.c: net_bridge_run_helper().

    Raises QapiError.
    """
    host = net.process.host
    if helper is None and host.path_error(_BRIDGE_RULES) is not None:
        host.say(f"failed to parse default acl file `{_BRIDGE_RULES}'")
    elif helper is None or host.path_error(helper.split()[0] if helper.split() else "") is None:
        raise NotModelledError(name)
    raise QapiError("bridge helper failed")


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
    elif "helper" not in options and "vhostfds" in options:
        raise QapiError("vhostfds= is invalid if fds= wasn't specified")


def _bridge(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:  # noqa: ARG001
    _run_helper(net, options.get("helper"), "netdev bridge")


def _vhost_user(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:  # noqa: ARG001
    # few machines have one
    from fakeqemu.model.net import vhost_user

    return vhost_user.create(net, options)


def _beyond(net: Net, options: dict[str, Any], monitor: Any) -> NetClient:
    # few ask for one
    from fakeqemu.model.net import beyond

    beyond.refuse(net, options, monitor)


#: the kinds that are modelled
KINDS: dict[str, Create] = {
    "hubport": _hubport,
    "user": _user,
    "socket": _socket,
    "stream": _stream,
    "dgram": _dgram,
    "tap": _create_tap,
    "bridge": _bridge,
    "vhost-user": _vhost_user,
    **dict.fromkeys(("vhost-vdpa", "vde", "l2tpv3", "passt"), _beyond),
}
