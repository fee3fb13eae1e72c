"""Character devices as the machine sees them: an end for a frontend, an end for a transport.

The model owns names, who sits on the device, what `query-chardev` says and the backends that
need no world (null, ringbuf). Bytes come and go through a `Transport` that the host puts in.
A device reads only while its frontend wants input, as QEMU does: what a client sends before
that waits in the kernel.

See chardev/char.c: qemu_chardev_new(), qmp_query_chardev() and qemu_chr_be_event();
chardev/char-fe.c: qemu_chr_fe_init().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.traits import Traits


@dataclass(frozen=True, slots=True)
class ChardevOptions:
    """What a character device is made from: one `-chardev`, or the arguments of chardev-add."""

    #: the device's label
    id: str
    #: ChardevBackendKind: "socket", "null", "stdio", "ringbuf", ...
    backend: str
    #: the `data` member of ChardevBackend; a socket's address as `addr`, {"type", "data"}
    options: dict[str, Any] = field(default_factory=dict)
    #: the option that asked for it, blamed in start-up errors; empty over QMP
    location: str = ""


class Frontend(Protocol):
    """Who sits on a character device: a monitor, a terminal, a guest's serial port."""

    @property
    def can_hotswap(self) -> bool:
        """Whether chardev-change may put another backend under it."""

    def chr_opened(self) -> None:
        """A client is there."""

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Input came, and with it descriptors, which the frontend now owns."""

    def chr_closed(self) -> None:
        """The client has gone."""

#: backends whose input and output are two files; see chardev/char-fd.c: fd_chr_read()
_TWO_FILES = frozenset({"stdio", "file", "pipe"})


class Transport(Protocol):
    """The world's side of a character device, put in by the host."""

    def write(self, data: bytes) -> None:
        """Send, or queue until it can be sent."""

    def set_reading(self, reading: bool) -> None:
        """Take input, or leave it where it is."""

    def disconnect(self) -> None:
        """Drop the client that is there; a listening one takes the next."""

    def add_client(self, fd: int) -> bool:
        """Take descriptor `fd` as the client; False if that cannot be."""

    def close(self) -> None:
        """Give everything back; the transport is not used again."""


class Chardev:
    """One character device."""

    def __init__(self, options: ChardevOptions, traits: Traits) -> None:
        self.id = options.id
        self.backend = options.backend
        self.options = options.options
        self.location = options.location
        self.frontend: Frontend | None = None
        #: whether a client is there; backends without clients are always open
        self.connected = False
        #: put in by `Host.open_chardev`
        self.transport: Transport | None = None
        #: gets a copy of all output (logfile=); put in by the host
        self.log: Callable[[bytes], None] | None = None
        #: called once when the first client comes (wait=on); put in by the host
        self.on_opened: Callable[[], None] | None = None
        self._traits = traits
        self._fe_open = False
        self._paused = False
        self._name = options.backend
        #: a socket's own address, flat (SocketAddress), made exact once it is bound
        self.address: dict[str, Any] = {}
        if options.backend == "socket":
            legacy = options.options.get("addr", {})
            self.address = {"type": legacy.get("type", ""), **legacy.get("data", {})}
            self._name = "disconnected:" + self._address_text()

    # -- what query-chardev shows ------------------------------------------------------------

    @property
    def filename(self) -> str:
        """The device and its client, in QEMU's spelling."""
        return self._name

    @property
    def frontend_open(self) -> bool:
        """Whether the frontend is there and takes part."""
        return self.frontend is not None and self._fe_open

    @frontend_open.setter
    def frontend_open(self, value: bool) -> None:
        self._fe_open = value

    @property
    def traits(self) -> Traits:
        """How the machine's version behaves."""
        return self._traits

    @property
    def is_server(self) -> bool:
        """Whether a socket listens (the default of chardev-add)."""
        return self.options.get("server", True) is not False

    @property
    def protocol(self) -> str:
        """What stands before a socket's host and port."""
        if self.options.get("telnet"):
            return "telnet"
        return "websocket" if self.options.get("websocket") else "tcp"

    @property
    def busy(self) -> bool:
        """Whether it is in use."""
        return self.frontend is not None

    @property
    def supports_yank(self) -> bool:
        """Whether query-yank lists it."""
        return self.backend == "socket"

    # -- the frontend's side -----------------------------------------------------------------

    def attach(
        self, frontend: Frontend, *, fe_open: bool = True, paused: bool = False
    ) -> None:
        """Put `frontend` on the device; it hears at once of a client already there.

        `paused`: it takes no input yet. Raises QapiError if the device is in use.
        """
        if self.busy:
            raise QapiError(self._traits.chardev_in_use_text.format(self.id))
        self.frontend = frontend
        self._fe_open = fe_open
        self._paused = paused
        if self.connected:
            frontend.chr_opened()
        self._update_reading()

    def detach(self) -> None:
        """Take the frontend away; input waits for the next one."""
        self.frontend = None
        self._fe_open = False
        self._update_reading()

    def write(self, data: bytes) -> None:
        """Send to the client; lost when there is none.

        Standard input and files that are at their end take output all the same.
        """
        if self.log is not None:
            self.log(data)
        if self.transport is not None:
            self.transport.write(data)

    def attach_fds(self, fds: Sequence[int]) -> bool:
        """Send copies of descriptors along with the next write; False where none can be sent."""
        call = getattr(self.transport, "attach_fds", None)
        return call is not None and bool(call(fds))

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Send what is queued and take what comes until `done()`; False if it is not in time.

        Everything waits, for as long as the backend can bring anything.
        """
        call = getattr(self.transport, "wait", None)
        return bool(call(seconds, done)) if call is not None else done()

    @property
    def unread(self) -> int:
        """Bytes of output that the client has not taken; 0 where that cannot be known."""
        if not self.connected and not self.output_outlives_input:
            return 0
        return int(getattr(self.transport, "unread", 0))

    @property
    def output_outlives_input(self) -> bool:
        """Whether output still goes somewhere once input has ended."""
        return self.backend in _TWO_FILES

    @property
    def output_failed(self) -> bool:
        """Whether what was sent did not get out: the client has gone, or takes nothing."""
        failed = getattr(self.transport, "output_failed", False)
        return bool(failed) or not self.connected or self.unread > 0

    def drained(self) -> None:
        """The client has taken all output; the frontend's `chr_drained` hears of it, if any."""
        call = getattr(self.frontend, "chr_drained", None)
        if call is not None:
            call()

    def pause(self, paused: bool) -> None:
        """The frontend takes no input for now (or does again)."""
        self._paused = paused
        self._update_reading()

    def disconnect(self) -> None:
        """Drop the client, if any."""
        if self.transport is not None:
            self.transport.disconnect()

    def yank(self) -> None:
        """What the yank command does to a socket: end the connection there is."""
        if self.connected:
            self.disconnect()

    @property
    def paused(self) -> bool:
        """Whether the frontend takes no input for now."""
        return self._paused

    @property
    def wants_input(self) -> bool:
        """Whether the transport may read."""
        return self.frontend is not None and not self._paused

    # -- the transport's side ----------------------------------------------------------------

    def named(self, name: str) -> None:
        """`query-chardev` shows this from now on ("pty:/dev/pts/0")."""
        self._name = name

    def bound(self, address: dict[str, Any]) -> None:
        """A listening socket's real address (flat), a chosen port filled in."""
        self.address = {**self.address, **address}
        self._name = "disconnected:" + self._address_text()

    def opened(
        self, local: dict[str, Any] | None = None, peer: dict[str, Any] | None = None
    ) -> None:
        """A client is there; a socket says from where to where (flat SocketAddress)."""
        self.connected = True
        if local is not None and peer is not None:
            self._name = self._connection_text(local, peer)
        if self.frontend is not None:
            self.frontend.chr_opened()
        self._update_reading()
        if self.on_opened is not None:
            self.on_opened()

    def received(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Input from the client."""
        if self.frontend is not None:
            self.frontend.chr_received(data, fds)

    def closed(self) -> None:
        """The client has gone."""
        if self.backend == "socket":
            self._name = "disconnected:" + self._address_text()
        if not self.connected:
            return
        self.connected = False
        if self.frontend is not None:
            self.frontend.chr_closed()

    def check_socket(self) -> None:
        """The checks between a socket's options, in QEMU's order. Raises QapiError."""
        options, kind, traits = self.options, self.address["type"], self._traits
        timers = ["reconnect", *(["reconnect-ms"] if traits.chardev_checks_reconnect_ms else [])]
        timer = next((name for name in timers if name in options), None)
        if kind == "fd" and timer:
            raise QapiError(f"'{timer}' option is incompatible with 'fd' address type")
        if "tls-creds" in options:
            if kind == "fd" and not options.get("server"):
                raise QapiError(
                    "'tls_creds' option is incompatible with 'fd' address type as client"
                )
            if kind in ("unix", "vsock"):
                raise QapiError(f"'tls_creds' option is incompatible with '{kind}' address type")
        elif options.get("tls-authz"):
            raise QapiError("'tls_authz' option requires 'tls_creds' option")
        if self.is_server:
            if timer:
                raise QapiError(
                    f"'{timer}' option is incompatible with socket in server listen mode"
                )
        else:
            if options.get("websocket"):
                raise QapiError("Websocket client is not implemented")
            if "wait" in options:
                raise QapiError(
                    "'wait' option is incompatible with socket in client connect mode"
                )
        if "reconnect" in options and "reconnect-ms" in options:
            raise QapiError("'reconnect' and 'reconnect-ms' are mutually exclusive")

    # -- inside ------------------------------------------------------------------------------

    def _update_reading(self) -> None:
        if self.transport is not None:
            self.transport.set_reading(self.wants_input)

    def _address_text(self) -> str:
        server = ",server=on" if self.is_server else ""
        match self.address:
            case {"type": "inet", "host": host, "port": port}:
                return f"{self.protocol}:{host}:{port}{server}"
            case {"type": "unix", "path": path}:
                flags = ""
                if self.address.get("abstract"):
                    flags = ",abstract=on" + (",tight=on" if self.address.get("tight") else "")
                return f"unix:{path}{flags}{server}"
            case {"type": "fd", "str": fd}:
                return f"fd:{fd}{server}"
            case {"type": "vsock", "cid": cid, "port": port}:
                return f"vsock:{cid}:{port}"
        return "socket"

    def _connection_text(self, local: dict[str, Any], peer: dict[str, Any]) -> str:
        if local["type"] == "unix":
            if self.is_server:
                return f"unix:{local['path']},server=on"
            end = peer if self._traits.chardev_names_unix_peer else local
            return f"unix:{end['path']}"
        server = ",server=on" if self.is_server else ""
        here, there = (
            f"[{end['host']}]" if ":" in end["host"] else end["host"] for end in (local, peer)
        )
        return f"{self.protocol}:{here}:{local['port']}{server} <-> {there}:{peer['port']}"


#: backends that live in the model alone
_MODEL_ONLY = frozenset(
    {"null", "ringbuf", "memory", "vc", "testdev", "msmouse", "wctablet", "gdb", "qemu-vdagent"}
)


def open_in_model(chardev: Chardev) -> bool:
    """Open the backend if it needs no world. Whether that was all.

    Every `Host.open_chardev` begins with it. Raises QapiError.
    """
    if chardev.backend not in _MODEL_ONLY:
        return False
    # few starts need it
    from fakeqemu.model.chardev.ringbuf import NullTransport, RingBuffer

    if chardev.backend in ("ringbuf", "memory"):
        size = chardev.options.get("size", 65536)
        if size & (size - 1):
            raise QapiError("size of ringbuf chardev must be power of two")
        chardev.transport = RingBuffer(size)
    else:
        chardev.transport = NullTransport()
    # nobody is ever at the other end of null; see chardev/char-null.c: null_chr_open()
    chardev.connected = chardev.backend != "null"
    return True
