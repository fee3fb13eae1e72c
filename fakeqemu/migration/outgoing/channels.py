"""The channels of one outgoing migration: connecting, TLS, multifd and preempt, their errors.

See migration/channel.c: migration_channel_connect(); migration/multifd.c: multifd_send_setup();
migration/postcopy-ram.c: postcopy_preempt_setup(). One object per attempt. Its `ChannelEvents` are
notified once that the main channel is connected, or that it failed; later, of return path messages
and of broken channels. After `close` there are no notifications, so that nothing of an old attempt
can affect a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from fakeqemu.formats.migration_stream.channels.multifd import MultifdWriter
from fakeqemu.formats.migration_stream.channels.return_path import Answer, Broken, ReturnPathReader
from fakeqemu.migration.channels.address import Address, supports_multi_channel
from fakeqemu.migration.channels.fds import named_fd_address, rdma_error
from fakeqemu.migration.channels.tls import HELLO
from fakeqemu.migration.outgoing.phase import NotConnectedError
from fakeqemu.model.guarded_stream import GuardedStream
from fakeqemu.model.host import Stream
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine


_NO_MULTIFD = "multifd is not supported by current protocol"
_NO_PREEMPT = (
    "Postcopy preempt is not supported as current migration stream does not support multi-channels."
)
_UNREADABLE = "Unable to read from file: Bad file descriptor"


class ChannelEvents(Protocol):
    """Callbacks of an OutgoingChannel."""

    def channel_bug(self, error: QapiError) -> None:
        """A bug of ours in a callback of a channel."""

    def channel_opened(self) -> None:
        """The main channel is connected; further ones are opened with `open_further`."""

    def channels_ready(self) -> None:
        """All further channels that were requested are connected."""

    def connect_failed(self, error: NotConnectedError) -> None:
        """Connecting failed, or the transport does not support additional channels."""

    def channel_answered(self, answer: Answer) -> None:
        """The destination sent a message on the return path."""

    def channel_broken(self, text: str, *, clean: bool) -> None:
        """A channel was closed; `clean`: the other end closed it without error."""


class OutgoingChannel:
    """The main channel of one attempt, and the further ones beside it."""

    def __init__(
        self,
        vm: Machine,
        migration: MigrationSettings,
        events: ChannelEvents,
        *,
        resume: bool = False,
    ) -> None:
        """`resume`: replaces a channel that broke in postcopy."""
        self._vm = vm
        self._migration = migration
        self._events = events
        self._resume = resume
        self._address: Address = {}
        self._main: Stream | None = None
        self._multifd: list[tuple[Stream, MultifdWriter]] = []
        self._preempt: Stream | None = None
        self._closed = False
        on = migration.capabilities
        #: whether there is a return path
        self.return_path = not on("background-snapshot") and (
            on("return-path") or on("postcopy-ram")
        )
        self._answers = ReturnPathReader(vm.profile.traits)

    # -- what it is --------------------------------------------------------------------------

    @property
    def is_pipe(self) -> bool:
        """Whether the main channel is a pipe to a command (`exec:`)."""
        return bool(self._address["transport"] == "exec")

    @property
    def file_offset(self) -> int:
        """Offset in the file at which the stream begins; 0 for other transports."""
        return int(self._address.get("offset", 0))

    @property
    def is_socket(self) -> bool:
        """Whether the main channel is a socket."""
        if self._address["transport"] != "socket":
            return False
        is_fd = self._address["type"] == "fd"
        return not is_fd or self._vm.host.fd_kind(self._address["number"]) == "socket"

    @property
    def _write_only(self) -> bool:
        """Whether the main channel is a descriptor that is open for writing only."""
        return not self.is_socket and not self.is_pipe

    @property
    def uses_tls(self) -> bool:
        """Whether all channels are encrypted."""
        return bool(self._migration.parameters.get("tls-creds"))

    @property
    def multifd_channels(self) -> int:
        """Number of multifd channels."""
        return len(self._multifd)

    @property
    def connected(self) -> bool:
        """Whether the main channel is connected."""
        return self._main is not None

    @property
    def queued(self) -> int:
        """Bytes that the other end has not received yet, as far as the host knows."""
        return int(getattr(self._main, "queued", 0))

    # -- what is done with it ----------------------------------------------------------------

    def open(self, monitor: Any, address: Address) -> None:
        """Begin to connect. Raises QapiError for an address that is refused at once."""
        if address["transport"] == "socket" and address["type"] == "fd":
            address = named_fd_address(self._vm, self._migration.parameters, monitor, address)
        if address["transport"] == "rdma":
            raise rdma_error(self._vm, "RDMA ERROR: could not create CM channel")
        self._address = address
        self._connect(self._connected)

    def open_further(self) -> None:
        """Connect the channels that are needed from the start, one after the other."""
        if self._closed:
            return
        on, wanted = self._migration.capabilities, 0
        if on("multifd") and self._address["transport"] == "socket" and not self._resume:
            wanted = self._migration.parameters["multifd-channels"]
        if len(self._multifd) < wanted:
            self._connect(self._connected_multifd)
        elif on("postcopy-preempt") and self._vm.profile.traits.preempt_channel_at_setup:
            self.open_preempt()
        else:
            self._events.channels_ready()

    def open_preempt(self) -> None:
        """Connect the postcopy preempt channel, unless it is connected."""
        if self._preempt is not None:
            self._events.channels_ready()
        else:
            self._connect(self._connected_preempt)

    def write(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send on the main channel, with copies of descriptors."""
        if self._main is not None:
            if fds:
                self._main.send_fds(fds)
            self._main.write(data)

    def skip(self, size: int) -> None:
        """Seek forward in the file, leaving a hole."""
        if self._main is not None:
            self._main.skip(size)

    def write_at(self, offset: int, data: bytes) -> None:
        """Write at an offset of the file."""
        if self._main is not None:
            self._main.write_at(offset, data)

    def sync(self, number: int) -> int:
        """Send a sync packet on each multifd channel, from `number` on. Returns the next number."""
        for channel, writer in self._multifd:
            channel.write(writer.sync(number))
            number += 1
        return number

    def preempt_write(self, data: bytes) -> None:
        """Send on the postcopy preempt channel, if there is one."""
        if self._preempt is not None:
            self._preempt.write(data)

    def close(self) -> None:
        """Send what is queued, close, and notify no more."""
        self._closed = True
        for channel in (self._main, self._preempt, *(each for each, _ in self._multifd)):
            if channel is not None:
                channel.on_data = channel.on_close = None
                channel.close()
        self._main, self._preempt, self._multifd = None, None, []

    def yank(self) -> None:
        """Shut the sockets down, as the command `yank` does."""
        self.broken()
        if not self._closed:  # nobody has looked yet; the other end sees it at once
            for channel in (self._main, self._preempt, *(each for each, _ in self._multifd)):
                if channel is not None:
                    channel.on_data = channel.on_close = None
                    channel.close()

    def broken(self, text: str | None = None) -> None:
        """A channel was closed; None: without an error text."""
        if self._closed:
            return
        clean = text is None
        kind = {"exec": "command", "file": "file"}.get(self._address["transport"], "socket")
        if self.return_path:
            for answer in self._answers.feed_eof():
                self._events.channel_answered(answer)
        if text is None or " read " in text:
            text = f"Unable to write to {kind}: Broken pipe"
        if not self._closed:
            self._events.channel_broken(text, clean=clean)

    # -- what the host says ------------------------------------------------------------------

    def _connect(self, connected: Callable[[Stream | None, str], None]) -> None:
        guard, failed = self._vm.guard, self._events.channel_bug

        def done(channel: Stream | None, error: str) -> None:
            guarded = None if channel is None else GuardedStream(channel, guard, failed)
            connected(guarded, error)

        self._vm.host.connect(self._address, guard.bind(done, failed))

    def _connected(self, channel: Stream | None, error: str) -> None:
        if self._closed:
            if channel is not None:
                channel.close()
            return
        credentials = self._migration.parameters.get("tls-creds")
        if channel is not None and credentials:
            try:
                self._vm.objects.check_tls_credentials(credentials, "client")
            except QapiError as refused:
                channel.close()
                channel, error = None, refused.desc
        if channel is None:
            desc, _, hint = error.partition("\n")
            self._events.connect_failed(NotConnectedError(desc, hint=hint))
            return
        self._main = channel
        refusal = self._further_channels_refusal()
        if refusal:
            self._vm.host.warn(refusal)
            self._events.connect_failed(NotConnectedError(refusal, record=False))
            return
        if self.is_socket or (self.return_path and self.is_pipe):
            # other transports are only read for the return path: a command may close its output
            channel.on_data = self._answered
        channel.on_close = self.broken
        self._greet(channel)
        if not self._closed:
            self._events.channel_opened()
        if self.return_path and self._write_only and not self._closed:
            self._events.channel_answered(Broken(_UNREADABLE))

    def _further_channels_refusal(self) -> str:
        """The error if the transport does not support additional channels; else empty."""
        on = self._migration.capabilities
        if self._resume or supports_multi_channel(self._address, on("mapped-ram")):
            return ""
        if on("multifd"):
            return _NO_MULTIFD
        return _NO_PREEMPT if on("postcopy-preempt") else ""

    def _greet(self, channel: Stream) -> None:
        if self.uses_tls:
            channel.write(HELLO)

    def _answered(self, data: bytes) -> None:
        for answer in self._answers.feed(data):
            if not self._closed:
                self._events.channel_answered(answer)

    def _connected_multifd(self, channel: Stream | None, error: str) -> None:
        if channel is None or self._closed:
            self._not_connected(channel, error)
            return
        channel.on_close = self.broken
        writer = MultifdWriter(len(self._multifd), self._uuid)
        self._greet(channel)
        channel.write(writer.init())
        self._multifd.append((channel, writer))
        self.open_further()

    @property
    def _uuid(self) -> UUID | None:
        given = self._vm.configuration.uuid
        return UUID(given) if given else None

    def _connected_preempt(self, channel: Stream | None, error: str) -> None:
        if channel is None or self._closed:
            self._not_connected(channel, error)
            return
        channel.on_close = self.broken
        self._greet(channel)
        self._preempt = channel
        self._events.channels_ready()

    def _not_connected(self, channel: Stream | None, error: str) -> None:
        """A further channel could not be connected, or too late."""
        if channel is not None:
            channel.close()
        elif not self._closed:
            self._events.channel_broken(error, clean=False)
