"""Network backends whose other end no machine here speaks to: judged, and refused as not modelled.

See net/vhost-vdpa.c: net_init_vhost_vdpa(); net/vde.c: net_vde_init(); net/l2tpv3.c:
net_init_l2tpv3(); net/passt.c: net_passt_start_daemon().
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NoReturn

from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.net.net import Net

Json = dict[str, Any]
_VDE_SOCKET = "/run/vde.ctl"
#: bytes that a header of l2tpv3 may be moved by
_MOST_OFFSET = 256
#: where a program without a folder is looked for
_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")


def refuse(net: Net, options: Json, monitor: Any) -> NoReturn:
    """Raise QapiError in QEMU's words where it refuses, NotModelledError otherwise."""
    {"vhost-vdpa": _vhost_vdpa, "vde": _vde, "l2tpv3": _l2tpv3, "passt": _passt}[options["type"]](
        net, options, monitor
    )
    raise NotModelledError(f"netdev {options['type']}")


def _vhost_vdpa(net: Net, options: Json, monitor: Any) -> None:
    """See net/vhost-vdpa.c: net_init_vhost_vdpa()."""
    path, name = options.get("vhostdev"), options.get("vhostfd")
    if path is None and name is None:
        raise QapiError("vhost-vdpa: neither vhostdev= nor vhostfd= was specified")
    if path is not None and name is not None:
        raise QapiError("vhost-vdpa: vhostdev= and vhostfd= are mutually exclusive")
    if name is not None:
        try:
            found = net.descriptors.find(monitor, name)
        except QapiError as error:
            raise error.prefixed("vhost-vdpa: unable to parse vhostfd: ") from None
        trouble = net.process.host.fd_error(found.fd)
        if trouble is not None:
            raise QapiError(f"Fail to query features from vhost-vDPA device: {trouble}")
    elif path is not None:
        trouble = net.process.host.file_error(path)
        if trouble is not None:
            raise QapiError(f"Could not open '{path}': {trouble}")


def _vde(net: Net, options: Json, _monitor: Any) -> None:
    """See net/vde.c: net_vde_init(). Without a switch there is nothing to open."""
    control = options.get("sock", _VDE_SOCKET) + "/ctl"
    trouble = net.process.host.file_error(control)
    if trouble == os.strerror(errno.ENOENT):
        raise QapiError(f"Could not open vde: {trouble}")


def _l2tpv3(net: Net, options: Json, _monitor: Any) -> None:
    if options.get("offset", 0) > _MOST_OFFSET:
        raise QapiError("offset must be less than 256 bytes")
    if ("rxcookie" in options) != ("txcookie" in options):
        raise QapiError("require both 'rxcookie' and 'txcookie' or neither")
    udp = options.get("udp", False)
    if udp and not ("srcport" in options and "dstport" in options):
        raise QapiError("need both src and dst port for udp")
    for end, word in (("src", "errno"), ("dst", "error")):
        service = options[f"{end}port"] if udp else None
        ipv6 = options.get("ipv6", False)
        trouble = net.process.host.name_error(options[end], service, ipv6=ipv6)
        if trouble is not None:
            raise QapiError(f"could not resolve {end}, {word} = {trouble}")


def _passt(net: Net, options: Json, _monitor: Any) -> None:
    program, host = options.get("path", "passt"), net.process.host
    paths = [program] if "/" in program else [f"{folder}/{program}" for folder in _FOLDERS]
    troubles = [host.path_error(path) for path in paths]
    if None not in troubles:
        why = f"Failed to execute child process \u201c{program}\u201d ({troubles[0]})"
        raise QapiError(f"Error creating daemon: {why}")
