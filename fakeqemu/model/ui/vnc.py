"""VNC displays: what -vnc asks for, passwords, clients, what query-vnc tells.

Each shows one console to any number of clients; a client that wants a display for itself
drives the others off, unless the display is told not to let it.

See ui/vnc.c: vnc_display_open(), vnc_connect(), vnc_client_cache_addr() and qmp_query_vnc().
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import rfb
from fakeqemu.formats.image import Picture
from fakeqemu.model.guarded_stream import GuardedStream
from fakeqemu.model.host import NetListener, Stream
from fakeqemu.model.host_files import keymap_error
from fakeqemu.model.qom.secrets import lookup_utf8
from fakeqemu.model.ui import vnc_address as vncaddress
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.configuration import Configuration, OptionString
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.user_creatable import Objects
    from fakeqemu.model.ui.console import Console, Display

Json = dict[str, Any]

_AUTH_NAMES = {rfb.NONE: "none", rfb.PASSWORD: "vnc", 20: "sasl"}
_SASL = 20
_KEY_SIZE = 8
_SHARING = ("ignore", "allow-exclusive", "force-shared")
_ON = ("on", "yes", "true", "y")
#: what xvp can ask for; there is a reboot between them, which QEMU does not do
_XVP_SHUTDOWN, _XVP_RESET = 2, 4
_SECOND = 10**9
_CONNECTIONS = 32
#: bytes that may wait for a client before no more is read of what it says
_MOST_QUEUED = 1 << 20


class Displays:
    """All VNC displays of one machine, in order of their options."""

    def __init__(
        self,
        process: Process,
        lifecycle: Lifecycle,
        configuration: Configuration,
        display: Display,
        objects: Objects,
    ) -> None:
        self._process = process
        self._configuration = configuration
        self._display = display
        self._objects = objects
        self.all: list[VncDisplay] = []
        self._lifecycle = lifecycle
        lifecycle.on_state_change.append(self._state_changed)

    def find(self, id: str | None = None) -> VncDisplay | None:
        """The display of that id, or the first."""
        return next((display for display in self.all if id in (None, display.id)), None)

    def open(self, entry: OptionString) -> None:
        """What a -vnc asks for. Raises QapiError."""
        process = self._process
        error = keymap_error(process.host, self._configuration, process.profile)
        if error is not None:
            raise QapiError(error)
        taken = {each.id for each in self._configuration.vnc} | {d.id for d in self.all}
        names = ["default", *(f"vnc{number}" for number in range(2, len(taken) + 3))]
        id = entry.id or next(name for name in names if name not in taken)
        display = VncDisplay(
            id, self._process, self._lifecycle, self._configuration,
            display=self._display, objects=self._objects,
        )  # fmt: skip
        self.all.append(display)
        display.open(entry)

    def _state_changed(self, _running: bool, _state: str) -> None:
        self._process.call_later(0, self._refresh)

    def _refresh(self) -> None:
        for display in self.all:
            for client in display.clients:
                client.session.refresh()


class VncClient:
    """One connection to a display."""

    def __init__(self, stream: Stream, peer: Json) -> None:
        self.stream = stream
        self.info: Json = {**address_info(peer), "websocket": False}
        self.session: rfb.RfbClient
        #: whether it has the display for itself; None before it is let in
        self.exclusive: bool | None = None


class VncDisplay:
    """One display. Serves the protocol's sessions as `rfb.RfbServer`."""

    def __init__(
        self,
        id: str,
        process: Process,
        lifecycle: Lifecycle,
        configuration: Configuration,
        *,
        display: Display,
        objects: Objects,
    ) -> None:
        self.id = id
        self._process = process
        self._configuration = configuration
        self._display = display
        self._objects = objects
        self._lifecycle = lifecycle
        self.auth = rfb.NONE
        self.power_control = False
        self.password: str | None = None
        #: seconds since 1970 after which the password is no good; None: never
        self.expires: int | None = None
        self.clients: list[VncClient] = []
        self._listeners: list[NetListener] = []
        self._console: Console | None = None
        self._sharing = "allow-exclusive"
        self._limit = _CONNECTIONS
        self._challenges = 0

    # -- opening -----------------------------------------------------------------------------

    def open(self, entry: OptionString) -> None:
        """Judge the options in QEMU's order, then listen. Raises QapiError."""
        values = entry.values
        addresses = vncaddress.parse(entry.pairs, values)
        secret = values.get("password-secret")
        if secret is not None:
            if "password" in values:
                raise QapiError("'password' flag is redundant with 'password-secret'")
            self.password = lookup_utf8(self._objects, secret)
        sasl = _is_on(values, "sasl")
        self._check_tls(values, sasl=sasl)
        sharing = values.get("share", self._sharing)
        if sharing not in _SHARING:
            raise QapiError("unknown vnc share= option")
        self._sharing = sharing
        self._limit = int(values.get("connections", _CONNECTIONS))
        if secret is not None or _is_on(values, "password"):
            self.auth = rfb.PASSWORD
        if sasl:
            self.auth = _SASL
        self._check_audio(values.get("audiodev"))
        if values.get("display"):
            self._console = self._display.console(values["display"], int(values.get("head", 0)))
        self.power_control = _is_on(values, "power-control")
        reverse = addresses and _is_on(values, "reverse")
        if addresses and values.get("websocket") not in (None, "off", "no", "false", "n"):
            if reverse:
                raise QapiError("Cannot use websockets in reverse mode")
            raise NotModelledError("vnc with websocket")
        if reverse:
            self._connect_out(addresses)
            return
        self.listen(addresses)
        if "to" in values and self._listeners and self._listeners[0].address["type"] == "inet":
            where = self._listeners[0].address
            self._process.host.say(f"VNC server running on {where['host']}:{where['port']}")

    def _check_tls(self, values: Json, *, sasl: bool) -> None:
        creds = values.get("tls-creds")
        if creds is not None:
            self._objects.check_tls_credentials(creds, "server")
            raise NotModelledError("VNC over TLS")
        if "tls-authz" in values:
            raise QapiError("'tls-authz' provided but TLS is not enabled")
        if "sasl-authz" in values and not sasl:
            raise QapiError("'sasl-authz' provided but SASL auth is not enabled")

    def _check_audio(self, name: str | None) -> None:
        if name is not None and all(each.id != name for each in self._configuration.audiodevs):
            raise QapiError(self._process.profile.traits.vnc_audiodev_text.format(name))

    def _connect_out(self, addresses: Sequence[Json]) -> None:
        """Go to the one who wants to see the desktop. See ui/vnc.c: vnc_display_connect()."""
        if len(addresses) > 1:
            raise QapiError("Expected a single address in reverse mode")
        self.connect(*self._process.host.connect_to_client(dict(addresses[0])))

    def listen(self, addresses: Sequence[Json]) -> None:
        """Listen at these addresses. Raises QapiError."""
        leave = self._process.profile.traits.vnc_socket_left
        for address in addresses:
            self._listeners += self._process.host.serve_clients(
                address, self.connect, leave_file=leave
            )

    def update(self, addresses: Sequence[Json]) -> None:
        """Listen there instead; clients stay. Raises QapiError."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        self.listen(addresses)

    # -- clients -----------------------------------------------------------------------------

    def connect(self, stream: Stream, peer: Json, *, skip_auth: bool = False) -> None:
        """A client has come."""
        guarded = GuardedStream(stream, self._process.guard, lambda _: self.disconnect(client))
        client = VncClient(guarded, peer)
        client.session = rfb.RfbClient(
            self, guarded.write, lambda: self.disconnect(client), skip_auth=skip_auth,
            is_full=lambda: guarded.queued > 0,
        )  # fmt: skip
        guarded.limit_queue(_MOST_QUEUED, client.session.refresh)
        guarded.on_close = lambda _error: self._gone(client)
        guarded.on_data = client.session.receive
        self._emit("VNC_CONNECTED", client)
        self.clients.append(client)
        client.session.start()
        connecting = [each for each in self.clients if each.exclusive is None]
        if len(connecting) > self._limit:
            self.disconnect(connecting[0])

    def disconnect(self, client: VncClient) -> None:
        """Drop a client."""
        if client in self.clients:
            client.stream.close()
            self._gone(client)

    def _gone(self, client: VncClient) -> None:
        if client in self.clients:
            self.clients.remove(client)
            self._emit("VNC_DISCONNECTED", client)

    def _emit(self, event: str, client: VncClient) -> None:
        if self._listeners:
            server = {**self._servers()[0], "auth": self.auth_name}
            self._process.events.emit(event, {"server": server, "client": client.info})

    # -- what sessions ask -------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What the desktop is called."""
        name = self._configuration.name.guest
        return f"QEMU ({name})" if name else "QEMU"

    def picture(self) -> Picture:
        """What the console shows."""
        console = self._console or next(iter(self._display.consoles()), None)
        return self._display.picture(console)

    def challenge(self) -> bytes:
        """Different each time, but predictable: no protection."""
        self._challenges += 1
        seed = f"{self._process.clock.realtime()} {self.id} {self._challenges}"
        return hashlib.sha256(seed.encode()).digest()[:16]

    def key(self) -> bytes | None:
        """The password, if it is set and still good."""
        now = self._process.clock.realtime() // _SECOND
        if self.password is None or (self.expires is not None and self.expires < now):
            return None
        return c_bytes(self.password)[:_KEY_SIZE].ljust(_KEY_SIZE, b"\0")

    def initialized(self, session: rfb.RfbClient, *, shared: bool) -> bool:
        """Let a client in, if those who are there allow it."""
        client = next(each for each in self.clients if each.session is session)
        present = [c for c in self.clients if c is not client and c.exclusive is not None]
        if self._sharing == "allow-exclusive":
            if not shared:
                for each in present:
                    self.disconnect(each)
            elif any(each.exclusive for each in present):
                return False
        elif self._sharing == "force-shared" and not shared:
            return False
        client.exclusive = not shared
        if sum(not c.exclusive for c in self.clients if c.exclusive is not None) > self._limit:
            return False
        session.welcome()
        self._emit("VNC_INITIALIZED", client)
        return True

    def input(self, kind: str, data: bytes) -> None:
        """Keys and pointers go to no guest; they are noted."""
        self._process.journal.note("input", kind, data=data.hex())

    def switch_power(self, action: int) -> bool:
        """See ui/vnc.c: protocol_client_msg(), VNC_MSG_CLIENT_XVP."""
        if action == _XVP_SHUTDOWN:
            self._lifecycle.powerdown()
        elif action == _XVP_RESET:
            self._lifecycle.reset("host-qmp-system-reset")
        return action in (_XVP_SHUTDOWN, _XVP_RESET)

    # -- queries -----------------------------------------------------------------------------

    @property
    def auth_name(self) -> str:
        """How clients prove themselves, in QAPI's words."""
        return _AUTH_NAMES[self.auth]

    def info(self) -> Json:
        """VncInfo, which shows the first address only."""
        if not self._listeners:
            return {"enabled": False}
        first = {k: v for k, v in self._servers()[0].items() if k != "websocket"}
        return {"enabled": True, **first, "auth": self.auth_name, "clients": self._client_list()}

    def info2(self) -> Json:
        """VncInfo2."""
        servers = [{**server, "auth": self.auth_name} for server in reversed(self._servers())]
        info: Json = {"id": self.id, "server": servers, "clients": self._client_list()}
        info["auth"] = self.auth_name
        device = self._console.device if self._console is not None else None
        return {**info, "display": device.name} if device is not None else info

    def _servers(self) -> list[Json]:
        return [{**address_info(each.address), "websocket": False} for each in self._listeners]

    def _client_list(self) -> list[Json]:
        return [client.info for client in reversed(self.clients)]


def address_info(address: Json) -> Json:
    """Host, service and family of a flat SocketAddress."""
    if address["type"] != "inet":
        return {"host": "", "service": address.get("path", ""), "family": "unix"}
    family = "ipv6" if ":" in address["host"] else "ipv4"
    return {"host": address["host"], "service": address["port"], "family": family}


def _is_on(values: Json, name: str) -> bool:
    return values.get(name) in _ON
