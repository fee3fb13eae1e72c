"""The destination side: listening, accepting channels, loading, and the run state afterwards.

Since 10.0 a start first takes the state `setup`, and one that then fails never leaves it: every
later attempt fails with `Illegal migration incoming state: setup`. That is real behaviour, kept
because tools run into it.

See migration/migration.c: qmp_migrate_incoming(), qemu_start_incoming_migration(),
process_incoming_migration_co() and qmp_migrate_recover().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND
from fakeqemu.migration import cpr, state
from fakeqemu.migration.channels.address import (
    Address,
    check_transport,
    parse_uri,
    supports_multi_channel,
    with_family,
)
from fakeqemu.migration.channels.fds import incoming_fd_address, rdma_error, rdma_refusal
from fakeqemu.migration.incoming.connection import IncomingConnection
from fakeqemu.migration.incoming.incoming_channels import FurtherChannels
from fakeqemu.migration.incoming.load_phase import load
from fakeqemu.migration.incoming.loadvm import ENDS, LoadVm
from fakeqemu.migration.incoming.phase import (
    ChannelFeatures,
    Closed,
    FurtherConnected,
    MainChannel,
    Received,
)
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.phases.driver import PhaseDriver
from fakeqemu.migration.phases.requests import PhaseError
from fakeqemu.migration.state import Status
from fakeqemu.model.guarded_stream import GuardedStream
from fakeqemu.model.host import NetListener, Stream
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine

_PAUSED = "Detected IO failure for postcopy. Migration paused."
#: minimum time in which QEMU reads a stream from a file
_READ_TIME = 40 * MILLISECOND


class Incoming:
    """Incoming migration of one machine; owns its status."""

    def __init__(self, vm: Machine, migration: MigrationSettings) -> None:
        self.vm = vm
        self.migration = migration
        self._traits = vm.profile.traits
        table = state.rows(state.INCOMING, self._traits, schemainfo.statuses(vm.profile))
        self.state = Status("incoming", table, vm.journal, migration.announce)
        #: whether migrate-incoming has succeeded once
        self.started = False
        #: whether the process ends when loading fails
        self.exit_on_error = True
        self._at_boot = False
        #: why loading failed
        self.error = ""
        #: SocketAddresses of the listening sockets; empty before the start and after the end
        self.addresses: list[dict[str, Any]] = []
        self._multi_channel: bool | None = None
        self._listener: NetListener | None = None
        #: the main channel; None between two, and while none is claimed
        self._stream: Stream | None = None
        self._features = ChannelFeatures()
        self._further = FurtherChannels(migration, self._traits)
        #: those whose purpose is not known yet, and multifd channels
        self._connections: list[IncomingConnection] = []
        self._driver = PhaseDriver(vm.guard, vm.process, self)
        self._loading: LoadVm | None = None

    # -- what others see ---------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The MigrationStatus of the destination."""
        return self.state.current

    @property
    def over(self) -> bool:
        """Whether the incoming migration has ended."""
        return self.status in ENDS

    @property
    def listening(self) -> bool:
        """Whether a listening socket has been opened, and not given up again."""
        return self._listener is not None

    @property
    def multi_channel(self) -> bool:
        """Whether the last address given takes several connections; true before any."""
        return self._multi_channel is not False

    @property
    def yankable(self) -> bool:
        """Whether query-yank lists this migration."""
        return self.started and not self.over

    @property
    def postcopy_advised(self) -> bool:
        """Whether the source said that it might switch to postcopy."""
        return self._loading is not None and self._loading.postcopy_advised

    @property
    def was_postcopy(self) -> bool:
        """Whether the source switched to postcopy."""
        return self._loading is not None and self._loading.in_postcopy

    # -- commands ----------------------------------------------------------------------------

    def start(
        self,
        monitor: Any,
        uri: str | None = None,
        channels: list[dict[str, Any]] | None = None,
        *,
        exit_on_error: bool = True,
        at_boot: bool = False,
    ) -> None:
        """The command `migrate-incoming`; also what `-incoming` comes to. Raises QapiError.

        `at_boot`: clients cannot talk to the machine yet.
        """
        self._at_boot = at_boot
        if self.started:
            raise QapiError("The incoming migration has already been started")
        if not self.vm.runstate.check("inmigrate"):
            raise QapiError("'-incoming' was not specified on the command line")
        self.exit_on_error = exit_on_error
        self._start(monitor, uri, channels)
        self.started = True

    def recover(self, monitor: Any, uri: str) -> None:
        """The command `migrate-recover`. Raises QapiError."""
        if self.status != "postcopy-paused":
            raise QapiError("Migrate recover can only be run when postcopy is paused.")
        self._stop_listening()
        self._start(monitor, uri, None)

    def pause(self) -> bool:
        """Break a postcopy as `migrate-pause` does; false if there is none to break."""
        if self.status not in state.pausable(self._traits):
            return False
        self._shut_down()
        return True

    def yank(self) -> None:
        """Break the channel as the command `yank` does; it knows only sockets."""
        if self._stream is not None and self._features.is_socket:
            self._shut_down()

    # -- starting ----------------------------------------------------------------------------

    def _start(
        self, monitor: Any, uri: str | None, channels: list[dict[str, Any]] | None
    ) -> None:
        if not self._traits.migration_channels:
            assert uri is not None
            self._multi_channel = False
            # emitted without the capability `events` too, and before the URI is parsed
            self.vm.events.emit("MIGRATION", {"status": "setup"})
            try:
                address = parse_uri(uri, self._traits)
            except QapiError as error:
                raise rdma_error(self.vm, error.desc) from None
            self._multi_channel = supports_multi_channel(address)
            self._open(monitor, address)
            return
        if (uri is None) == (not channels):
            raise QapiError("need either 'uri' or 'channels' argument")
        if channels and len(channels) > 1:
            raise QapiError("Channel list must have only one entry, for type 'main'")
        address = parse_uri(uri, self._traits) if uri is not None else (channels or [{}])[0]["addr"]
        check_transport(address, self.migration.capabilities, self.migration.parameters)
        if self.status != "postcopy-paused":
            if self.status != "none":
                raise QapiError(f"Illegal migration incoming state: {self.status}")
            self.state.move("setup")
        self._open(monitor, address)

    def _open(self, monitor: Any, address: Address) -> None:
        transport = address["transport"]
        if transport == "rdma":
            raise rdma_refusal(self.vm, self.migration)
        if transport == "socket" and address["type"] != "fd":
            self._listener = self.vm.host.listen(address, self._accept_guarded)
            self._wait_for_channel()
            several = (bound := self._listener.address).get("addresses")
            addresses = several if isinstance(several, list) else [bound]
            self.addresses = [with_family(dict(each)) for each in addresses]
            cpr.listening(self.vm)
            return
        if transport == "socket":
            parameters = self.migration.parameters
            address = incoming_fd_address(self.vm, parameters, monitor, address)
            kind = self.vm.host.fd_kind(address["number"])
            if kind == "closed":
                # QEMU waits for it for ever
                self.vm.journal.note("incoming-closed", str(address["str"]))
                return
            features = ChannelFeatures(kind == "socket", silent_hangup=kind == "pipe")
        elif transport == "file":
            features = ChannelFeatures(is_socket=False, file_offset=int(address.get("offset", 0)))
        else:
            features = ChannelFeatures(is_socket=False, silent_hangup=True)
        channel = self._guarded(self.vm.host.open_incoming(address))
        self._wait_for_channel()
        # the file may be complete already, but QEMU takes a while to read it: clients that wait
        # for the machine see the state `active`
        self._connection(channel, features).open(delay=_READ_TIME if self._at_boot else 0)
        cpr.listening(self.vm)

    def _wait_for_channel(self) -> None:
        if not self._driver.started:
            self._driver.start(load(self))

    def _guarded(self, channel: Stream) -> Stream:
        return GuardedStream(channel, self.vm.guard, self.fail_by_bug)

    def _accept_guarded(self, channel: Stream) -> None:
        connection = self._connection(self._guarded(channel), ChannelFeatures())
        self.vm.guard.call(connection.accept, failed=self.fail_by_bug)

    def _connection(self, channel: Stream, features: ChannelFeatures) -> IncomingConnection:
        channel.takes_fds = bool(self.vm.taps.waiting)
        connection = IncomingConnection(self.vm, self.migration, self, channel, features)
        self._connections.append(connection)
        return connection

    # -- for the connections, see `connection.ConnectionOwner` -----------------------------------

    @property
    def further(self) -> FurtherChannels:
        """The channels beside the main one."""
        return self._further

    @property
    def awaits_recovery(self) -> bool:
        """Whether the next connection is the main channel of a recovery."""
        return self.status == "postcopy-paused" and self._stream is None

    @property
    def has_main_channel(self) -> bool:
        """Whether there is a main channel, or a connection that may become it."""
        return self._stream is not None

    @property
    def loading_begun(self) -> bool:
        """Whether loading has begun."""
        return self._loading is not None

    def claim_main(self, channel: Stream, features: ChannelFeatures) -> None:
        """The channel will be the main one unless its first bytes are none of a stream."""
        self._stream, self._features = channel, features

    def main_connected(self, begun: bytes, *, waits: bool) -> None:
        """The channel that was claimed is the main one; see `phase.MainChannel`."""
        assert self._stream is not None
        self._driver.post(MainChannel(self._stream, begun, waits))

    def recovery_connected(self, begun: bytes, *, closed: bool) -> None:
        """As `main_connected`, after a postcopy pause; `closed`: by the other side already."""
        self.main_connected(begun, waits=False)
        if closed:
            self._driver.post(Closed())

    def further_connected(self) -> None:
        """One more of the further channels is connected."""
        self._driver.wake(FurtherConnected())

    def stranger(self, text: str) -> None:
        """A connection is no migration channel: the migration has failed, others may still come."""
        if self.state.can("failed"):
            self.state.move("failed")
        self.vm.host.warn(text)
        if self.exit_on_error:
            self.vm.process.exit(1)

    def further_broken(self, text: str) -> None:
        """Something that is no pages came on a further channel."""
        if self.state.can("failed"):
            self.phase_failed(PhaseError(text))
        else:
            self.vm.host.warn(text)

    # -- for the main phase, see `load_phase.LoadOwner` -------------------------------------------

    @property
    def silent_hangup(self) -> bool:
        """Whether nobody notices a main channel that is closed without a byte (a pipe)."""
        return self._features.silent_hangup

    @property
    def file(self) -> Stream | None:
        """The main channel if it is a file, in which bytes can be skipped."""
        return self._stream if self._features.file_offset is not None else None

    def use_main(self, channel: Stream, *, reads: bool = True) -> None:
        """Use the channel as the main one; `reads`: its input is wanted now."""
        self._stream = channel
        channel.on_close = lambda _: self._driver.post(Closed())
        channel.on_data = (lambda data: self._driver.post(Received(data))) if reads else None

    def begin_load(self) -> LoadVm:
        """Enter `active`."""
        self._loading = LoadVm(
            self.vm,
            self.migration,
            self.state,
            self._answer,
            self._received_fds,
            file_offset=self._features.file_offset or 0,
        )
        self.state.move("active")
        return self._loading

    def pause_postcopy(self) -> None:
        """The channel broke while the guest runs here: postcopy-paused, wait for another channel.
        """
        self._close_channels()
        self._driver.forget_events()
        self.state.move("postcopy-paused")
        self.vm.host.warn(_PAUSED)

    def begin_recovery(self) -> None:
        """There is another channel."""
        self.state.move("postcopy-recover")

    def _received_fds(self) -> list[int]:
        """The descriptors that have come on the main channel."""
        return [] if self._stream is None else self._stream.received_fds()

    def _answer(self, message: bytes) -> None:
        """Send a message on the return path, if there is one."""
        if self._stream is not None and self._features.is_socket:
            self._stream.write(message)

    def _shut_down(self) -> None:
        """Close the channel as if it had broken: nothing is received or sent any more."""
        self._close_main()
        self._driver.post(Closed())

    # -- the end, see `phases.driver.PhaseOwner` -------------------------------------------------

    def complete(self, result: Any) -> None:  # noqa: ARG002
        """The main phase has ended."""
        self._finish()

    def fail_by_bug(self, error: QapiError) -> None:
        """A bug of ours in loading: the migration fails, the process does not end."""
        if self.state.can("failed"):
            self.state.move("failed")
            self.error = error.desc
            self.vm.host.warn(error.desc)
        self._finish()

    def phase_failed(self, error: PhaseError) -> None:
        """The main phase raised `error`: with exit-on-error the process ends."""
        self.state.move("failed")
        self.error = error.text
        self._finish()
        if self.exit_on_error:
            self.vm.host.warn(error.text)
            self.vm.process.exit(1)

    def _finish(self) -> None:
        """Close all channels and listening sockets."""
        self.addresses = []
        self.migration.incoming_mode = None
        self._driver.stop()
        self._stop_listening()
        self._close_channels()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _close_main(self) -> None:
        channel, self._stream = self._stream, None
        if channel is not None:
            channel.on_data = channel.on_close = None
            channel.close()

    def _close_channels(self) -> None:
        self._close_main()
        self._further.close()
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
