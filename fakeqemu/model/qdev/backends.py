"""The backends that devices name and take: netdevs, drives, character devices.

See hw/core/qdev-properties-system.c: set_netdev(), set_drive() and set_chr(); net/net.c:
qemu_new_nic(); chardev/char-fe.c: qemu_chr_fe_init().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import missing_value, value_in_use
from fakeqemu.model.qdev.properties import owner
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.net.net import Net
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.runstate import RunState
    from fakeqemu.model.tpm.tpm import Tpm
    from fakeqemu.profile import Profile


class DeviceFrontend:
    """A device on a character device: what comes goes to the guest, if anything there listens."""

    def __init__(self, follows: Callable[[], bool] = lambda: True) -> None:
        self._follows = follows
        #: takes input and descriptors; None: nobody reads, nothing is kept
        self.on_data: Callable[[bytes, Sequence[int]], None] | None = None
        #: called with whether a client is there when that changes
        self.on_client: Callable[[bool], None] | None = None

    @property
    def can_hotswap(self) -> bool:
        """Whether the device supports chardev-change."""
        return self._follows()

    def chr_opened(self) -> None:
        """A client is there."""
        if self.on_client is not None:
            self.on_client(True)

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """The guest would read it."""
        if self.on_data is not None:
            self.on_data(data, fds)

    def chr_closed(self) -> None:
        """The client has gone."""
        if self.on_client is not None:
            self.on_client(False)


class DeviceBackends:
    """What the devices of one machine can be connected to."""

    def __init__(
        self,
        profile: Profile,
        runstate: RunState,
        chardevs: Chardevs,
        net: Net,
        *,
        block: Callable[[], BlockLayer],
        tpm: Callable[[], Tpm],
    ) -> None:
        """`block`, `tpm`: make those parts when they are first asked for."""
        self._profile = profile
        self._runstate = runstate
        self._chardevs = chardevs
        self._net = net
        self._block = block
        self._tpm = tpm

    # -- a property names one ------------------------------------------------------------------

    def choose_netdev(self, device: DeviceObject, name: str, text: str) -> None:
        """Raises QapiError for a netdev that is not there or taken."""
        backend = self._net.backends.get(text)
        if backend is None:
            raise missing_value(device, name, text)
        if backend.peer is not None:
            raise value_in_use(device, name, text)
        if backend.type == "vhost-user" and not device.type.startswith("virtio-net-"):
            raise QapiError("vhost-user requires frontend driver virtio-net-*")

    def netdev_type(self, device: DeviceObject) -> str:
        """The driver of its netdev; empty without one."""
        backend = self._net.backends.get(self._value(device, "netdev") or "")
        return backend.type if backend is not None else ""

    def choose_chardev(self, device: DeviceObject, name: str, text: str) -> None:
        """Raises QapiError for a character device that is not there or in use."""
        chardev = self._chardevs.get(text)
        if chardev is None:
            raise missing_value(device, name, text)
        if chardev.busy:
            why = self._profile.traits.chardev_in_use_text.format(text)
            raise QapiError(f"Property '{device.type}.{name}' can't take value '{text}': {why}")

    def choose_drive(self, device: DeviceObject, name: str, text: str) -> None:
        """Reserve a drive or node, if one is named. Raises QapiError."""
        if not text:
            return
        if not self._block().backends.exists(text):
            raise missing_value(device, name, text)
        self._block().choose(device, text)

    def choose_tpm(self, device: DeviceObject, name: str, text: str) -> None:
        """Raises QapiError for a TPM backend that is not there or in use."""
        self._tpm().choose(device, name, text)

    def take_tpm(self, device: DeviceObject) -> None:
        """Check a TPM device. Raises QapiError."""
        self._tpm().realize(device)

    def has_medium(self, device: DeviceObject) -> bool:
        """Whether a device has a drive with something in it."""
        backend = self._block().backends.of_device(device)
        return backend is not None and backend.node is not None

    # -- taking and giving back ----------------------------------------------------------------

    def take(self, device: DeviceObject) -> None:
        """A device is realized. Raises QapiError."""
        holder = owner(self._profile, device, "netdev")
        if holder.has("netdev") and holder.has("mac"):
            self._net.add_nic(device, holder)
        self._block().realize(device)
        chardev = self._chardevs.get(self._value(device, "chardev") or "")
        if chardev is not None:
            # the host sees of a virtio port whether the guest has opened it
            waits = device.type == "virtserialport"
            # a virtio port lets go of it while the guest does not run
            port = self._profile.is_a(device.type, "virtio-serial-port")
            frontend = DeviceFrontend(lambda: not port or self._runstate.running)
            chardev.attach(frontend, fe_open=not waits, paused=waits)

    def release(self, device: DeviceObject) -> None:
        """It leaves its netdev and its character device."""
        self._net.remove_nic(device)
        chardev = self._chardevs.get(self._value(device, "chardev") or "")
        if chardev is not None and isinstance(chardev.frontend, DeviceFrontend):
            chardev.detach()

    def release_drive(self, device: DeviceObject) -> None:
        """It has gone, or could not be made: nothing of its drive is reserved any more."""
        self._block().unrealize(device)

    def _value(self, device: DeviceObject, name: str) -> Any:
        """A property's value, wherever it is kept; None if there is none."""
        value = owner(self._profile, device, name).values.get(name)
        return value() if callable(value) else value
