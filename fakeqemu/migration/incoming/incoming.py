"""The destination side: listening, accepting channels, loading, and the run state afterwards.

Since 10.0 a start first takes the state `setup`, and one that then fails never leaves it: every
later attempt fails with `Illegal migration incoming state: setup`. That is real behaviour, kept
because tools run into it.

See migration/migration.c: qmp_migrate_incoming(), qemu_start_incoming_migration(),
process_incoming_migration_co() and qmp_migrate_recover().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND
from fakeqemu.migration import cpr, state
from fakeqemu.migration.channels.address import (
    Address,
    check_transport,
    parse_uri,
    supports_multi_channel,
)
from fakeqemu.migration.channels.fds import incoming_fd_address, rdma_error
from fakeqemu.migration.channels.tls import greeted
from fakeqemu.migration.incoming.incoming_channels import FurtherChannels
from fakeqemu.migration.incoming.loadvm import Loading
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.state import Status
from fakeqemu.model.guarded_stream import GuardedStream
from fakeqemu.model.host import NetListener, Stream
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine

EXTRA_CONNECTION = (
    "socket_accept_incoming_migration: Extra incoming migration connection; ignoring"
)
_PAUSED = "Detected IO failure for postcopy. Migration paused."
#: minimum time in which QEMU reads a stream from a file
_READ_TIME = 40 * MILLISECOND
_ENDS = ("completed", "failed")


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
        self._stream: Stream | None = None
        self._further = FurtherChannels(vm, migration, self.state)
        self._loading: Loading | None = None
        #: the main channel is a file that is read here, and where in it the stream begins
        self._file_offset: int | None = None
        #: the main channel is a socket, so there can be a return path
        self._is_socket = False
        self._silent_hangup = False
        self._got_data = False

    # -- what others see ---------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The MigrationStatus of the destination."""
        return self.state.current

    @property
    def over(self) -> bool:
        """Whether the incoming migration has ended."""
        return self.status in _ENDS

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
        if self._stream is not None and self._is_socket:
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
            for name, text in (("xbzrle", "XBZRLE"), ("multifd", "multifd")):
                if self.migration.capabilities(name):
                    raise QapiError(f"RDMA and {text} can't be used together")
            raise rdma_error(self.vm, "RDMA ERROR: could not create rdma event channel")
        if transport == "socket" and address["type"] != "fd":
            self._is_socket = True
            self._listener = self.vm.host.listen(address, self._accept_guarded)
            bound = self._listener.address
            several = bound.get("addresses")
            addresses = several if isinstance(several, list) else [bound]
            self.addresses = [_with_family(dict(each)) for each in addresses]
            cpr.listening(self.vm)
            return
        if transport == "socket":
            address = incoming_fd_address(self.vm, monitor, address)
            kind = self.vm.host.fd_kind(int(address["str"]))
            if kind == "closed":
                return  # QEMU waits for it for ever
            self._silent_hangup = kind == "pipe"
            self._is_socket = kind == "socket"
        else:
            self._silent_hangup = transport == "exec"
            self._is_socket = False
        if transport == "file":
            self._file_offset = int(address.get("offset", 0))
        channel = self._guarded(self.vm.host.open_incoming(address))
        # a reader of files learns of the first byte, not of the connection
        def read() -> None:
            self._greet(channel, lambda rest: self._main(channel, rest, begin=False))

        if self._at_boot:
            # the file may be complete already, but QEMU takes a while to read it: clients that wait
            # for the machine see the state `active`
            self.vm.process.call_later(_READ_TIME, read, self._fail_by_bug)
        else:
            read()
        cpr.listening(self.vm)

    # -- channels ----------------------------------------------------------------------------

    def _greet(self, channel: Stream, ready: Callable[[bytes], None]) -> None:
        greeted(self.vm, self.migration.parameters.get("tls-creds"), channel, ready)

    def _guarded(self, channel: Stream) -> Stream:
        return GuardedStream(channel, self.vm.guard, self._fail_by_bug)

    def _accept_guarded(self, channel: Stream) -> None:
        self.vm.guard.call(self._accept, self._guarded(channel), failed=self._fail_by_bug)

    def _accept(self, channel: Stream) -> None:
        further = self._further
        if self.status == "postcopy-paused" and self._stream is None:
            self._greet(channel, lambda rest: self._recovering(channel, rest))
        elif further.by_first_bytes and self._loading is None:
            self._greet(channel, lambda rest: self._identify(channel, rest))
        elif self._stream is None:
            self._stream = channel
            self._greet(channel, lambda rest: self._first(channel, rest))
        elif further.takes_preempt:
            self._greet(channel, lambda _: self._preempt(channel))
        else:
            self.vm.host.warn(EXTRA_CONNECTION)
            channel.close()

    def _main(self, channel: Stream, begun: bytes, *, begin: bool) -> None:
        """Use `channel` as the main channel; `begun`: its bytes that were read already."""
        self._stream = channel
        channel.on_close = self._ended
        if begin and not self._further.complete:
            # the further channels must be connected before loading begins
            self._further.held = begun
            channel.on_data = None
            return
        if begin or begun:
            self._begin_load()
        channel.on_data = self._received
        if begun:
            self._received(begun)

    def _first(self, channel: Stream, begun: bytes) -> None:
        """The first connection: the main channel, unless its first bytes are no magic number."""
        self._further.check_first(
            channel, begun, lambda data: self._main(channel, data, begin=True), self._stranger
        )

    def _stranger(self, text: str) -> None:
        """A connection that is no migration channel: it is dropped, and the state stays."""
        self.state.move("failed")
        self.vm.host.warn(text)
        if self.exit_on_error:
            self.vm.process.exit(1)

    def _preempt(self, channel: Stream) -> None:
        self._further.take_preempt(channel)
        if self._loading is None and self._stream is not None:
            self._main(self._stream, self._further.held, begin=True)

    def _identify(self, channel: Stream, begun: bytes) -> None:
        """Channels arrive in any order: their magic number says which is the main one."""

        def main(data: bytes) -> None:
            if self._stream is None:
                self._main(channel, data, begin=True)

        def go_on() -> None:
            if self._stream is not None and self._loading is None:
                self._main(self._stream, self._further.held, begin=True)

        self._further.identify(
            channel, begun, main, go_on, self.fail, stranger=self._stranger
        )

    def _recovering(self, channel: Stream, begun: bytes) -> None:
        """A new main channel after a postcopy pause."""
        if self._loading is None or self.status != "postcopy-paused":
            channel.close()
            return
        self.state.move("postcopy-recover")
        self._loading.recover()
        self._stream = channel
        channel.on_close = self._ended
        channel.on_data = self._received
        if begun:
            self._received(begun)

    # -- loading -----------------------------------------------------------------------------

    def _begin_load(self) -> None:
        if self._loading is None:
            self._loading = Loading(self, file_offset=self._file_offset or 0)
            self.state.move("active")

    def _received(self, data: bytes) -> None:
        self._got_data = True
        self._begin_load()
        loading, channel = self._loading, self._stream
        assert loading is not None
        if not self.over:
            loading.feed(data)
        while self._file_offset is not None and channel is self._stream and loading.skippable:
            size = loading.skippable
            assert channel is not None
            channel.skip(size)
            loading.skip(size)

    def _ended(self, _error: str | None) -> None:
        if self._silent_hangup and not self._got_data:
            return  # a pipe that closes without a byte wakes nobody
        self._begin_load()
        if self._loading is not None and not self.over:
            self._loading.feed_eof()

    def _shut_down(self) -> None:
        """Close the channel as if it had broken: nothing is received or sent any more."""
        channel, self._stream = self._stream, None
        if channel is not None:
            channel.on_data = channel.on_close = None
            channel.close()
        self._ended(None)

    # -- for loadvm ------------------------------------------------------------------------------

    def answer(self, message: bytes) -> None:
        """Send a message on the return path, if there is one."""
        if self._stream is not None and self._is_socket:
            self._stream.write(message)

    def paused(self) -> None:
        """The channel broke while the guest runs here: postcopy-paused, wait for another channel.
        """
        self._close_channels()
        self.state.move("postcopy-paused")
        self.vm.host.warn(_PAUSED)

    def finish(self) -> None:
        """Close all channels and listening sockets."""
        self.addresses = []
        self.migration.incoming_mode = None
        self._stop_listening()
        self._close_channels()

    def fail(self, text: str) -> None:
        """Loading has failed; with exit-on-error the process ends."""
        self.state.move("failed")
        self.error = text
        self.finish()
        if self.exit_on_error:
            self.vm.host.warn(text)
            self.vm.process.exit(1)

    def _fail_by_bug(self, error: QapiError) -> None:
        """A bug of ours in loading: the migration fails, the process does not end."""
        if self.state.can("failed"):
            self.state.move("failed")
            self.error = error.desc
            self.vm.host.warn(error.desc)
        self.finish()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _close_channels(self) -> None:
        channel, self._stream = self._stream, None
        if channel is not None:
            channel.on_data = channel.on_close = None
            channel.close()
        self._further.close()


def _with_family(address: dict[str, Any]) -> dict[str, Any]:
    """The address with `ipv4`/`ipv6` set as the listening socket's family is."""
    if address["type"] == "inet" and not {"ipv4", "ipv6"} & set(address):
        address["ipv6" if ":" in str(address["host"]) else "ipv4"] = True
    return address


def start_from_command_line(
    incoming: Incoming, address: Address | None, text: str, *, exit_on_error: bool = True
) -> None:
    """The boot step: begin the incoming migration that `-incoming` asked for.

    `address` where the option was parsed already, else `text` is the URI. Raises QapiError.
    """
    if address is None:
        incoming.start(None, uri=text, at_boot=True)
    else:
        channel = {"channel-type": "main", "addr": address}
        incoming.start(None, channels=[channel], exit_on_error=exit_on_error, at_boot=True)
