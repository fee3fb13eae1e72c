"""Devices that stand for one of the host's: what is said where the host has none.

Where it has one there is no model of what that does: whoever makes the device says so.

See hw/virtio/vhost-vsock.c: vhost_vsock_device_realize(); hw/scsi/vhost-scsi.c:
vhost_scsi_realize(); hw/usb/host-libusb.c: usb_host_realize(); hw/usb/dev-mtp.c:
usb_mtp_realize(); hw/usb/ccid-card-emulated.c: emulated_realize(); hw/input/virtio-input-host.c:
virtio_input_host_realize().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from fakeqemu.model.net.sockets.addresses import c_integer
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.host import Host
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.profile import Profile
    from fakeqemu.traits import Traits

_HIGHEST_RESERVED_CID = 2
_UINT32_MAX = 0xFFFFFFFF
#: the most that properties of usb-host can be, in the order in which they are looked at
_USB_MOST = {"vendorid": 0xFFFF, "productid": 0xFFFF, "hostaddr": 127}
#: properties that a device of the host can be known by instead of bus and address
_USB_BY_OTHERS = ("vendorid", "productid", "hostport")
#: where certificates are, unless db= names another place
_NSS_DATABASE = "/etc/pki/nssdb"
_EVDEV = "/dev/input/"


def check(host: Host, profile: Profile, device: DeviceObject) -> None:
    """What the host lacks for a device of a type in the table. Raises QapiError."""
    rule = next(rule for kind, rule in _RULES.items() if profile.is_a(device.type, kind))
    rule(host, profile.traits, device)


def _vsock(host: Host, traits: Traits, device: DeviceObject) -> None:
    cid = device.values.get("guest-cid", 0)
    if cid <= _HIGHEST_RESERVED_CID:
        raise QapiError(f"guest-cid property must be greater than {_HIGHEST_RESERVED_CID}")
    if cid > _UINT32_MAX:
        raise QapiError("guest-cid property must be a 32-bit number")
    if device.values.get("vhostfd"):
        fd = _passed_vhost(host, device, "vhost-vsock")
        trouble = host.fd_error(fd)
        if trouble is not None:
            number = device.values["vhostfd"]
            raise QapiError(traits.vhost_vsock_fd_text.format(fd=number, error=trouble))
        _own_vhost(host, device, fd)
    _look(host, "/dev/vhost-vsock", traits.vhost_vsock_open_text)


def _vhost_scsi(host: Host, traits: Traits, device: DeviceObject) -> None:
    if not device.values.get("wwpn"):
        raise QapiError("vhost-scsi: missing wwpn")
    if device.values.get("vhostfd"):
        _own_vhost(host, device, _passed_vhost(host, device, "vhost-scsi"))
    _look(host, "/dev/vhost-scsi", traits.vhost_scsi_open_text)


def _passed_vhost(host: Host, device: DeviceObject, prefix: str) -> int:
    """The descriptor that `vhostfd` stands for; see monitor/fds.c: monitor_fd_param()."""
    text = device.values["vhostfd"]
    if device.values.get("hotplugged") and not text[:1].isdigit():
        # a monitor's name for one, and who asks is not known here
        raise NotModelledError(f"{device.type}.vhostfd")
    number = c_integer(text) if text.isascii() else None
    if number is None or not 0 <= number < 1 << 31:
        raise QapiError(
            f"{prefix}: unable to parse vhostfd: Invalid file descriptor number '{text}'"
        )
    return host.passed_fd(number)


def _own_vhost(host: Host, device: DeviceObject, fd: int) -> NoReturn:
    """See hw/virtio/vhost.c: vhost_dev_init()."""
    trouble = host.fd_error(fd) or host.vhost_error(fd)
    if trouble is not None:
        raise QapiError(f"vhost_set_owner failed: {trouble}")
    raise NotModelledError(f"{device.type}.vhostfd")


def _usb(host: Host, traits: Traits, device: DeviceObject) -> None:
    values = device.values
    for name, most in _USB_MOST.items():
        if values.get(name, 0) > most:
            raise QapiError(f"{name} out of range")
    if values.get("hostdevice"):
        _look(host, values["hostdevice"], traits.host_open_text)
        return
    bus, address = values.get("hostbus", 0), values.get("hostaddr", 0)
    if bus and address and not any(values.get(name) for name in _USB_BY_OTHERS):
        missing = f"failed to find host usb device {bus}:{address}"
        _look(host, f"/dev/bus/usb/{bus:03}/{address:03}", missing)


def _mtp(host: Host, traits: Traits, device: DeviceObject) -> None:  # noqa: ARG001
    folder = device.values["rootdir"] if "rootdir" in device.given else ""
    if not folder.startswith("/"):
        raise QapiError("usb-mtp: rootdir must be configured and be an absolute path")
    _look(host, folder, "usb-mtp: rootdir does not exist/not readable")
    if "desc" not in device.given:
        device.values["desc"] = folder.rstrip("/").rpartition("/")[2] or "/"


def _smartcard(host: Host, traits: Traits, device: DeviceObject) -> None:  # noqa: ARG001
    database = device.values.get("db") or _NSS_DATABASE
    _look(host, database, "ccid-card-emulated: failed to initialize vcard")


def _evdev(host: Host, traits: Traits, device: DeviceObject) -> None:  # noqa: ARG001
    path = device.values.get("evdev", "")
    # in the same words in all versions, other than for usb-host
    _look(host, path, "Could not open '{}': {}")
    if not path.startswith(_EVDEV):
        raise QapiError(f"{path}: is not an evdev device")


def _look(host: Host, path: str, text: str) -> None:
    """`text` takes the path and why it cannot be read, in the system's words."""
    why = host.access_error(path)
    if why is not None:
        raise QapiError(text.format(path, why))


_RULES: dict[str, Callable[[Host, Traits, DeviceObject], None]] = {
    "vhost-vsock-pci-base": _vsock,
    "vhost-scsi-pci-base": _vhost_scsi,
    "usb-host": _usb,
    "usb-mtp": _mtp,
    "ccid-card-emulated": _smartcard,
    "virtio-input-host-pci": _evdev,
}
