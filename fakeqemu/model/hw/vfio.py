"""Passed-through PCI devices: what the host says of them until it would hand one over.

A device of the host cannot be used without a guest, so that a start or device_add with one ends
here in any case: with QEMU's error where the host has no such device, no IOMMU group of it or no
driver for it, else as not modelled.

See hw/vfio/pci.c: vfio_realize(); hw/vfio/helpers.c: vfio_device_get_name() (10.0);
hw/vfio/container.c: vfio_device_groupid() and vfio_get_group() (10.0); hw/vfio/iommufd.c:
iommufd_cdev_getfd() and iommufd_cdev_connect_and_bind().
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fakeqemu.model.qdev.properties import describe
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.fds.iommufd import IommuBackends
    from fakeqemu.model.net.descriptors import FoundDescriptor
    from fakeqemu.model.process import Process

TYPE = "vfio-pci"
_DEVICES = "/sys/bus/pci/devices"
_MDEV = "/sys/bus/mdev"
_IOMMU = "/dev/iommu"


class VfioDevices:
    """Judges the devices that one machine is to get."""

    def __init__(self, process: Process, iommus: IommuBackends) -> None:
        self._host = process.host
        self._traits = process.profile.traits
        self._profile = process.profile
        self._iommus = iommus

    def descriptor(self, text: str, monitor: Any) -> FoundDescriptor:
        """The descriptor that `fd=` names. Raises QapiError."""
        try:
            return self._iommus.descriptors.find(monitor, text)
        except QapiError as error:
            raise error.prefixed(self._traits.vfio_fd_prefix.format(text)) from None

    def refuse(
        self, driver: str, values: Mapping[str, Any], device: FoundDescriptor | None
    ) -> NoReturn:
        """Say why a device with these properties cannot be had. Raises QapiError.

        `values`: `host`, `sysfsdev`, `iommufd` (the object's path), `x-balloon-allowed`, as far
        as they were given; `device`: what `fd` was.
        """
        iommu = values.get("iommufd") or None
        folder: str = values.get("sysfsdev", "")
        if device is None:
            if "sysfsdev" not in values:
                if "host" not in values:
                    raise QapiError("No provided host device", self._hint())
                folder = f"{_DEVICES}/{values['host']}"
            trouble = self._host.path_error(folder)
            if trouble is not None:
                raise QapiError(f"vfio {folder}: no such host device: {trouble}")
            name = _last_part(folder)
        elif iommu is None:
            raise QapiError("Use FD passing only with iommufd backend")
        else:
            name = f"VFIO_FD{device.number}"
        try:
            if values.get("x-balloon-allowed") and self._traits.vfio_balloon_first:
                self._check_balloon(folder)
            if iommu is None:
                self._open_group(folder)
            else:
                self._bind(iommu, folder, device)
        except NotModelledError:
            raise
        except QapiError as error:
            raise error.prefixed(f"vfio {name}: ") from None
        raise NotModelledError(f"device {driver}")

    def _hint(self) -> str:
        has_fd = describe(self._profile, TYPE, "fd") is not None
        by_fd = "or -device vfio-pci,fd=DEVICE_FD " if has_fd else ""
        return (
            f"Use -device vfio-pci,host=DDDD:BB:DD.F {by_fd}"
            "or -device vfio-pci,sysfsdev=PATH_TO_DEVICE"
        )

    def _check_balloon(self, folder: str) -> None:
        if not folder or self._host.real_path(f"{folder}/subsystem") != _MDEV:
            raise QapiError("x-balloon-allowed only potentially compatible with mdev devices")

    def _open_group(self, folder: str) -> None:
        try:
            target = self._host.read_link(f"{folder}/iommu_group")
        except OSError as error:
            raise QapiError(f"no iommu_group found: {error.strerror}") from None
        number = re.match(r"\s*[+-]?[0-9]+", _last_part(target))
        if number is None:
            # whatever the last system call has left is QEMU's reason
            raise QapiError(f"failed to read {target}: {os.strerror(errno.ENOENT)}")
        path = f"/dev/vfio/{int(number[0])}"
        trouble = self._host.file_error(path)
        if trouble is not None:
            raise QapiError(self._traits.vfio_group_text.format(path, trouble))

    def _bind(self, iommu: str, folder: str, device: FoundDescriptor | None) -> None:
        if device is None:
            self._find_character_device(folder)
        at = self._iommus.descriptor(iommu.rsplit("/", 1)[-1])
        if at is None:
            trouble = self._host.file_error(_IOMMU)
            if trouble is not None:
                raise QapiError(f"Could not open '{_IOMMU}': {trouble}")
        if device is None or at is None:
            return
        trouble = self._host.fd_error(device.fd)
        if trouble is None:
            try:
                opened = self._host.read_link(f"/proc/self/fd/{device.fd}")
            except OSError as error:
                raise NotModelledError("vfio-pci without /proc") from error
            if opened.startswith("/dev/vfio/"):
                return
            trouble = os.strerror(errno.ENOTTY)
        self._host.warn("KVM VFIO device isn't created yet")
        raise QapiError(f"error bind device fd={device.number} to iommufd={at}: {trouble}")

    def _find_character_device(self, folder: str) -> None:
        path = f"{folder}/vfio-dev"
        try:
            names = self._host.list_folder(path)
        except OSError as error:
            raise QapiError(
                f"vfio {path}: couldn't open directory {path}: {error.strerror}"
            ) from None
        name = next((each for each in names if each.startswith("vfio")), None)
        if name is None:
            raise QapiError(f"vfio {path}: failed to find vfio-dev/vfioX/dev")
        file = f"{path}/{name}/dev"
        try:
            content = self._host.read_file(file)
        except OSError:
            more = self._traits.vfio_cdev_hint
            raise QapiError(f'vfio {path}: failed to load "{file}"{more}') from None
        if re.match(rb"\s*[+-]?\d+:\s*[+-]?\d+", content) is None:
            raise QapiError(f'vfio {path}: failed to get major:minor for "{file}"')
        if self._host.file_error(f"/dev/vfio/devices/{name}") is not None:
            raise QapiError(f"vfio {path}: Failed to open /dev/vfio/devices/{name}")


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or "/"
