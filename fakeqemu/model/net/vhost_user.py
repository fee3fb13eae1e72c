"""Network backends of another process: vhost-user.

The back end is asked for what it can do; a reset of the machine enables the queues of the NIC. A
NIC without a driver sends nothing and takes nothing. A real QEMU tries for ever to start a back end
that fails; here the first failure ends it.

See net/vhost-user.c: net_vhost_user_init(), net_vhost_user_event() and chr_closed_bh();
hw/net/virtio-net.c: virtio_net_set_queue_pairs().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.chardev.blocking import BlockingFrontend
from fakeqemu.model.hw.virtio.vhost_user import VhostUser, VhostUserError
from fakeqemu.model.net.client import NetClient
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.net.net import Net

#: queues of a pair
_PAIR = 2
_MOST_PAIRS = 1024


class VhostUserClient(NetClient):
    """One backend."""

    type = "vhost-user"

    def __init__(self, net: Net, name: str, chardev: Chardev) -> None:
        super().__init__(net, name)
        self.info = f"vhost-user0 to {chardev.id}"
        self._net = net
        self._chardev = chardev
        process = net.process
        self._frontend = BlockingFrontend(process.host.close_fd)
        traits = process.profile.traits
        self._backend = VhostUser(
            self._frontend, process.host, traits, warn=self._warn, report=self._report
        )
        self._frontend.attach(chardev, fe_open=True)
        try:
            self._start()
        except VhostUserError as error:
            self._frontend.detach()
            failure = QapiError(error.args[-1])
            failure.earlier = error.args[:-1]
            raise failure from None
        self._frontend.on_client = self._client_changed
        net.lifecycle.on_reset.append(self._reset)

    def cleanup(self) -> None:
        """Leave the back end."""
        if self._reset in self._net.lifecycle.on_reset:
            self._net.lifecycle.on_reset.remove(self._reset)
        self._frontend.on_client = None
        self._frontend.detach()
        self._stop()

    def nic_was_reset(self) -> None:
        """The NIC on it can use one queue pair."""
        if self.peer is not None and self._frontend.connected:
            self._backend.reset(_PAIR)

    def block_migration(self) -> None:
        """A back end that cannot log what it writes is in its way. Raises QapiError."""
        migration = self._net.migration.object
        if self._backend.blocker and migration is not None:
            migration.blockers.add(self._backend.blocker, owner=self)

    # -- inside --------------------------------------------------------------------------------

    def _start(self) -> None:
        """Ask the back end about each pair. Raises VhostUserError."""
        try:
            self._backend.start(_PAIR)
            self.block_migration()
        except VhostUserError as error:
            self._stop()
            raise VhostUserError(*error.args, "failed to init vhost_net for queue 0") from None
        except QapiError as error:
            self._stop()
            raise VhostUserError(error.desc, "failed to init vhost_net for queue 0") from None
        if self._net.process.profile.traits.vhost_user_netdev_events:
            data = {"netdev-id": self.name, "chardev-id": self._chardev.id}
            self._net.process.events.emit("NETDEV_VHOST_USER_CONNECTED", data)

    def _stop(self) -> None:
        self._backend.close()
        if self._net.migration.object is not None:
            self._net.migration.object.blockers.remove_of(self)

    def _report(self, text: str) -> None:
        if self._net.process.phases.ready:
            self._net.process.host.warn(text)

    def _warn(self, text: str) -> None:
        if self._net.process.phases.ready:
            self._net.process.host.warn(f"warning: {text}")
        else:
            self.warnings.append(text)

    def _reset(self, _cause: str) -> None:
        self.nic_was_reset()

    def _client_changed(self, here: bool) -> None:
        if not here:
            self._stop()
            self._net.set_link(self.name, False)
            if self._net.process.profile.traits.vhost_user_netdev_events:
                data = {"netdev-id": self.name}
                self._net.process.events.emit("NETDEV_VHOST_USER_DISCONNECTED", data)
            return
        try:
            self._start()
        except VhostUserError as error:
            for line in error.args:
                self._report(line)
            self._chardev.disconnect()
            return
        self._net.set_link(self.name, True)


def create(net: Net, options: dict[str, Any]) -> VhostUserClient:
    """A backend with these options. Raises QapiError."""
    name = options["chardev"]
    chardev = net.chardevs.get(name)
    if chardev is None:
        raise QapiError(f'chardev "{name}" not found')
    if chardev.backend != "socket":
        raise QapiError(f'chardev "{name}" is not reconnectable')
    if chardev.address.get("type") == "inet":
        raise QapiError(f'chardev "{name}" does not support FD passing')
    pairs: int = options.get("queues", 1)
    if not 1 <= pairs <= _MOST_PAIRS:
        raise QapiError(f"vhost-user number of queues must be in range [1, {_MOST_PAIRS}]")
    if pairs > 1:
        raise NotModelledError("netdev vhost-user with several queues")
    if not chardev.connected:
        raise NotModelledError("netdev vhost-user that waits for its back end")
    return VhostUserClient(net, options["id"], chardev)
