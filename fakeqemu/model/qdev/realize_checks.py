"""What kinds of devices check about themselves when they are realized, in QEMU's words.

One table by QOM type; every entry of a type and of those it descends from counts.

See hw/core/qdev.c: device_set_realized(); hw/pci/pci.c: pci_qdev_realize(); hw/virtio/virtio-rng.c:
virtio_rng_device_realize().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fakeqemu.model.boards.memory_devices import pc_dimm
from fakeqemu.model.hw.vfio import TYPE as VFIO
from fakeqemu.model.qdev import migration_blockers as migratability
from fakeqemu.model.qdev.device import DeviceObject, user_devices
from fakeqemu.model.qdev.recorded import about
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.configuration import OptionString
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.host import Host
    from fakeqemu.model.hw.vfio import VfioDevices
    from fakeqemu.model.qdev.backends import DeviceBackends
    from fakeqemu.model.qdev.properties import Properties

#: number of queues: one for each CPU
_AUTO = 0xFFFF
#: whose users may make virtual functions; see hw/virtio/virtio-net-pci.c
_VIRTUAL_FUNCTION = "virtio-net-pci"
_AUTO_OF_SCSI = 0xFFFFFFFF
_UDMABUF = "/dev/udmabuf"
#: entries of virtio queues of a network card
_SMALLEST_QUEUE, _LARGEST_QUEUE = 256, 1024
_INT64_MAX = (1 << 63) - 1
#: each takes two of a device's 1024 queues, and one pair is for control
_SERIAL_PORTS = 511
#: PCI class and subclass of network cards
_ETHERNET = 0x0200
_LARGEST_ROM = 2 << 30
#: a ROM may be as large as it is
_ANY_SIZE = 0xFFFFFFFF


class Unrecorded(NamedTuple):
    """A device of a type that could not be recorded."""

    driver: str
    #: what is recorded nevertheless
    facts: Mapping[str, Any]
    given: dict[str, Any]


class RealizeChecks:
    """The checks of one machine's devices."""

    def __init__(
        self, host: Host, state: MachineState, numa: Numa, backends: DeviceBackends
    ) -> None:
        self.host = host
        self.state = state
        self.profile = state.profile
        self.numa = numa
        self.backends = backends

    def run(self, device: DeviceObject) -> None:
        """Refuse a device whose properties do not go together. Raises QapiError."""
        inner = (child for child in device.children.values() if isinstance(child, DeviceObject))
        for each in (device, *inner):
            here: str | None = each.type
            while here is not None:
                rule = _RULES.get(here)
                if rule is not None:
                    rule(self, each)
                known = self.profile.qom_types.get(here)
                here = known.parent if known is not None else None


    def refuse(
        self,
        asked: Unrecorded,
        properties: Properties,
        vfio: VfioDevices,
        monitor: Any,
        *,
        typed: bool,
    ) -> NoReturn:
        """Say what is wrong with a device's options, if anything. Raises QapiError."""
        driver, facts, given = asked
        of_host = self.profile.is_a(driver, VFIO)
        probe = DeviceObject(driver, dict.fromkeys(given, "any"))
        probe.values["hotplugged"] = monitor is not None
        found = None
        try:
            for key, value in qdict.items(given):
                properties.set(probe, key, value, typed=typed)
                if of_host and key == "fd":
                    found = vfio.descriptor(value, monitor)
            migratability.check_device(self.state, driver)
            refusal = migratability.refusal(self.profile, driver, given)
            if refusal is not None:
                raise refusal
            self.run(probe)
            if of_host:
                vfio.refuse(driver, probe.values, found)
        finally:
            self.backends.release_drive(probe)
        if not given and facts.get("error"):
            raise QapiError(facts["error"])
        raise NotModelledError(f"device {driver}")


def _value(device: DeviceObject, name: str) -> Any:
    value = device.values.get(name)
    return value() if callable(value) else value


def _check_rng(checks: RealizeChecks, device: DeviceObject) -> None:
    if not _value(device, "period"):
        raise QapiError("'period' parameter expects a positive integer")
    kind = checks.profile.traits.rng_max_bytes
    if not (kind == "positive") <= _value(device, "max-bytes") <= _INT64_MAX:
        raise QapiError(f"'max-bytes' parameter must be {kind}, and less than 2^63")


def _check_net(checks: RealizeChecks, device: DeviceObject) -> None:
    """See hw/net/virtio-net.c: virtio_net_device_realize() and virtio_net_max_tx_queue_size()."""
    largest = _LARGEST_QUEUE
    if checks.profile.traits.tx_queue_by_backend:
        kind = checks.backends.netdev_type(_outermost(device))
        largest = _LARGEST_QUEUE if kind in ("vhost-user", "vhost-vdpa") else _SMALLEST_QUEUE
    for name, most, end in (("rx_queue_size", _LARGEST_QUEUE, "."), ("tx_queue_size", largest, "")):
        size = _value(device, name)
        good = isinstance(size, int) and _SMALLEST_QUEUE <= size <= most and not size & (size - 1)
        if isinstance(size, int) and not good:
            raise QapiError(
                f"Invalid {name} (= {size}), must be a power of 2 between {_SMALLEST_QUEUE} and "
                f"{most}{end}"
            )


def _check_iothreads(checks: RealizeChecks, device: DeviceObject) -> None:
    """See hw/block/virtio-blk.c: virtio_blk_vq_aio_context_init().

    Of SCSI devices see hw/scsi/virtio-scsi-dataplane.c: virtio_scsi_dataplane_setup().
    """
    mapping = _value(device, "iothread-vq-mapping")
    if not mapping:
        return
    # few give one
    from fakeqemu.model.hw.virtio import iothread_queues

    if _value(device, "iothread"):
        raise QapiError(
            "iothread and iothread-vq-mapping properties cannot be set at the same time"
        )
    objects = checks.state.qom.container("/objects").children
    iothreads = {name for name, each in objects.items() if each.type == "iothread"}
    # the recorded device has as many as it had CPUs
    name = "num_queues" if device.type == "virtio-scsi-device" else "num-queues"
    queues = _value(device, name) if name in _outermost(device).given else _AUTO
    if queues in (_AUTO, _AUTO_OF_SCSI):
        queues = checks.state.qom.container("/machine").get("smp")["cpus"]
    iothread_queues.check(mapping, iothreads, queues)


def _check_gpu(checks: RealizeChecks, device: DeviceObject) -> None:
    """See hw/display/virtio-gpu-base.c: virtio_gpu_base_device_realize(); ui/udmabuf.c."""
    if not _value(device, "blob"):
        return
    why = checks.host.file_error(_UDMABUF)
    if why is not None:
        error = QapiError(checks.profile.traits.blob_refusal)
        error.earlier = (f"warning: open {_UDMABUF}: {why}",)
        raise error


def _outermost(device: DeviceObject) -> DeviceObject:
    while isinstance(device.parent, DeviceObject):
        device = device.parent
    return device


def _check_serial(checks: RealizeChecks, device: DeviceObject) -> None:  # noqa: ARG001
    # see hw/char/virtio-serial-bus.c: virtio_serial_device_realize()
    ports = _value(device, "max_ports")
    if not ports:
        raise QapiError("Maximum number of serial ports not specified")
    if ports > _SERIAL_PORTS:
        raise QapiError(f"maximum ports supported: {_SERIAL_PORTS}")


def _check_shared_folder(checks: RealizeChecks, device: DeviceObject) -> None:
    """See hw/9pfs/9p.c: v9fs_device_realize_common()."""
    name, tag = _value(device, "fsdev"), _value(device, "mount_tag")
    entry = next((each for each in checks.state.configuration.fsdevs if each.id == name), None)
    if entry is None:
        raise QapiError(f"9pfs device couldn't find fsdev with the id = {name or 'NULL'}")
    outer = device.parent
    given = device.given | (outer.given if isinstance(outer, DeviceObject) else set())
    if not tag or "mount_tag" not in given:
        raise QapiError(f"fsdev with id {name} needs mount_tag arguments")
    if entry.values.get("fsdriver") == "proxy":
        _connect_proxy(checks, entry)
    if entry.values.get("fsdriver") != "local":
        return
    path = entry.values["path"]
    try:
        why = "" if checks.host.files.kind(path) == "directory" else "Not a directory"
    except OSError as error:
        why = error.strerror or ""
    if why:
        opened = checks.profile.traits.fsdev_open_text.format(path, why)
        raise QapiError(f"cannot initialize fsdev '{name}': {opened}")


def _connect_proxy(checks: RealizeChecks, entry: OptionString) -> None:
    """See hw/9pfs/9p-proxy.c: connect_namedsocket() (7.2)."""
    path = entry.values.get("socket")
    why = checks.host.path_error(path) if path is not None else None
    if why is None:
        raise NotModelledError("fsdev proxy")
    raise QapiError(f"cannot initialize fsdev '{entry.id}': failed to connect to '{path}': {why}")


def _check_rom(checks: RealizeChecks, device: DeviceObject) -> None:
    """See hw/pci/pci.c: pci_add_option_rom()."""
    from fakeqemu.model.host_files import file_size, find_file, packaged_roms

    name = _value(device, "romfile")
    if "romfile" not in device.given or not name or name in packaged_roms(checks.profile):
        return
    path = find_file(checks.host, checks.state.configuration.data_directories, name) or name
    if not _value(device, "rombar"):
        # the firmware's affair: it does without one that is missing
        return
    size = file_size(checks.host, path)
    if size is None:
        raise QapiError(f'failed to find romfile "{name}"')
    if size == 0:
        raise QapiError(f'romfile "{name}" is empty')
    if size > _LARGEST_ROM:
        raise QapiError(f'romfile "{name}" too large (size cannot exceed 2 GiB)')
    limit = _value(device, "romsize")
    if isinstance(limit, int) and limit != _ANY_SIZE and size > limit:
        raise QapiError(f'romfile "{name}" ({size} bytes) is too large for ROM size {limit}')


def _check_pci(checks: RealizeChecks, device: DeviceObject) -> None:
    _check_function(checks, device)
    _check_failover(checks, device)
    _check_rom(checks, device)


def _check_passthrough(checks: RealizeChecks, device: DeviceObject) -> None:
    if not checks.backends.has_medium(device):
        raise QapiError("drive property not set")
    raise QapiError("cannot get SG_IO version number: Operation not supported")


def _check_failover(checks: RealizeChecks, device: DeviceObject) -> None:
    """See hw/pci/pci.c: pci_qdev_realize()."""
    bus = device.bus
    if bus is None or "failover_pair_id" not in device.given:
        return
    if bus.type != "PCIE":
        raise QapiError("failover primary device must be on PCIExpress bus")
    if about(checks.profile, device.type)["pci"]["class_info"]["class"] != _ETHERNET:
        raise QapiError("failover primary device is not an Ethernet device")
    if _value(device, "multifunction") or device.values.get("addr", 0) % 8:
        raise QapiError("failover: primary device must be in its own PCI slot")


def _check_module(checks: RealizeChecks, device: DeviceObject) -> None:
    pc_dimm.check(checks.state, checks.numa, device)


def _check_memory(checks: RealizeChecks, device: DeviceObject) -> None:
    from fakeqemu.model.boards.memory_devices import virtio_md

    virtio_md.check(checks.state, checks.numa, device, checks.host)


def _check_generation_id(checks: RealizeChecks, device: DeviceObject) -> None:
    """See hw/acpi/vmgenid.c: vmgenid_realize()."""
    fw_cfg = checks.state.qom.at("/machine/fw_cfg")
    if fw_cfg is None or not fw_cfg.get("dma_enabled"):
        raise QapiError(
            "vmgenid requires DMA write support in fw_cfg,"
            " which this machine type does not provide"
        )
    if len([other for other in user_devices(checks.state.qom) if other.type == "vmgenid"]) > 1:
        raise QapiError("at most one vmgenid device is permitted")
    given = device.values["guid"] if "guid" in device.given else "auto"
    device.values["guid"] = checks.host.random_uuid() if given == "auto" else given.lower()


def _check_host_device(checks: RealizeChecks, device: DeviceObject) -> None:
    # few machines have one
    from fakeqemu.model.hw import host_devices

    host_devices.check(checks.host, checks.profile, device)


def _check_tpm(checks: RealizeChecks, device: DeviceObject) -> None:
    """See hw/tpm/tpm_tis_isa.c: tpm_tis_isa_realizefn()."""
    if len([each for each in user_devices(checks.state.qom) if each.has("tpmdev")]) > 1:
        raise QapiError("at most one TPM device is permitted")
    checks.backends.take_tpm(device)


def _check_expander(checks: RealizeChecks, device: DeviceObject) -> None:
    # few machines have one
    from fakeqemu.model.hw.pci_bridge import expander

    expander.check(checks.state.qom, checks.profile, device, len(checks.numa.nodes))


def _check_virtio(checks: RealizeChecks, device: DeviceObject) -> None:  # noqa: ARG001
    """See hw/virtio/virtio-pci.c: virtio_pci_device_plugged()."""
    outer = device.parent
    if not _value(device, "iommu_platform") or not isinstance(outer, DeviceObject):
        return
    if outer.values.get("disable-legacy") == "off":
        raise QapiError(
            "VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device"
        )


def _check_function(checks: RealizeChecks, device: DeviceObject) -> None:
    """A virtual function of another: no more than who cannot be one is modelled.

    See hw/pci/pci.c: pci_qdev_realize(); hw/pci/pcie_sriov.c: pcie_sriov_register_device().
    """
    if "sriov-pf" not in device.given:
        return
    if not checks.profile.is_a(device.type, _VIRTUAL_FUNCTION):
        raise QapiError("user cannot create SR-IOV VF with this device type")
    above = device.bus.object.parent if device.bus is not None else None
    if above is None or not checks.profile.is_a(above.type, "pcie-port"):
        raise QapiError("PCI Express is required for SR-IOV VF")
    raise NotModelledError(f"{device.type}.sriov-pf")


_RULES: dict[str, Callable[[RealizeChecks, DeviceObject], None]] = {
    "virtio-device": _check_virtio,
    "virtio-blk-device": _check_iothreads,
    "virtio-scsi-device": _check_iothreads,
    "virtio-gpu-base": _check_gpu,
    "virtio-rng-device": _check_rng,
    "virtio-net-device": _check_net,
    "virtio-serial-device": _check_serial,
    "scsi-block": _check_passthrough,
    "scsi-generic": _check_passthrough,
    "vhost-vsock-pci-base": _check_host_device,
    "vhost-scsi-pci-base": _check_host_device,
    "usb-host": _check_host_device,
    "usb-mtp": _check_host_device,
    "ccid-card-emulated": _check_host_device,
    "virtio-input-host-pci": _check_host_device,
    "pxb": _check_expander,
    "pxb-pcie": _check_expander,
    "pc-dimm": _check_module,
    "tpm-tis": _check_tpm,
    "tpm-crb": _check_tpm,
    "vmgenid": _check_generation_id,
    "virtio-mem-pci": _check_memory,
    "virtio-mem-ccw": _check_memory,
    "virtio-pmem-pci": _check_memory,
    "pci-device": _check_pci,
    "virtio-9p-device": _check_shared_folder,
}


#: properties that name what one device alone can have
_SET_ONCE = ("drive", "netdev", "chardev")


def check_unset(
    state: MachineState, device: DeviceObject, holder: DeviceObject, name: str, value: Any
) -> None:
    """Raise QapiError if -global has set already what is set to `value` now.

    `holder`: whose property it is. See hw/core/qdev-properties-system.c: check_prop_still_unset().
    """
    if name not in _SET_ONCE:
        return
    is_a = state.profile.is_a
    for given in state.configuration.globals:
        if given.property == name and is_a(holder.type, given.driver):
            raise QapiError(f"-global {given.driver}.{name}=... conflicts with {name}={value}")
        if given.property == name and is_a(device.type, given.driver):
            if name == "drive":
                raise QapiError(f"Cannot find device='' nor node-name='{value}'")
            raise QapiError(f"{name}={value} conflicts, and override is not implemented")
