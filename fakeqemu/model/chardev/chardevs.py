"""All character devices of a machine: made, changed and removed, by their labels.

See chardev/char.c: qemu_chardev_new(), qmp_chardev_remove() and qmp_chardev_change();
chardev/char-mux.c: qemu_chr_open_mux(); chardev/char-hub.c: qemu_chr_open_hub().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.qdict import NameTable

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import ChardevOptions
    from fakeqemu.model.chardev.ringbuf import RingBuffer
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.process import Process

#: backends that nobody can ask for by name
_INTERNAL = ("gdb",)


class Chardevs(Mapping[str, Chardev]):
    """The devices by id, in order of creation."""

    def __init__(self, process: Process, lifecycle: Lifecycle, escape: int) -> None:
        """`escape`: the byte that speaks to multiplexers (-echr)."""
        self._process = process
        self._lifecycle = lifecycle
        self._escape = escape
        self._devices: dict[str, Chardev] = {}
        #: their labels, and in what order QEMU walks them
        self._labels = NameTable()
        #: modules with further kinds that have been loaded
        self._modules: set[str] = set()
        #: set by the machine once there are objects: whether TLS credentials fit an endpoint
        self.check_tls_credentials: Callable[[str, str], None] = _no_credentials
        #: makes a device (its label, its address as -serial takes it); set by the boot, which
        #: knows how option strings are written
        self.open_legacy: Callable[[str, str], None] = _no_legacy

    def __getitem__(self, id: str) -> Chardev:
        return self._devices[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)

    def walked(self) -> list[Chardev]:
        """The devices in the order in which QEMU walks them."""
        return [self._devices[label] for label in self._labels.walked()]

    def add(self, options: ChardevOptions) -> Chardev:
        """Make a device of a kind that can be asked for by name, and open its backend.

        Raises QapiError in the backend's words; the caller says what it was for.
        """
        if options.id in self:
            raise QapiError(f"Chardev with id '{options.id}' already exists")
        modules = self._process.profile.traits.chardev_modules
        if options.backend not in (*_INTERNAL, *modules, *self.backends):
            raise QapiError(f"'{options.backend}' is not a valid char driver name")
        return self.open(options)

    @property
    def backends(self) -> list[str]:
        """The kinds there are: built in, or in a module that somebody has asked for."""
        recorded = self._process.profile.query("query-chardev-backends")["return"]
        names = [each["name"] for each in recorded]
        for name, (module, behind) in self._process.profile.traits.chardev_modules.items():
            if module in self._modules:
                names.insert(names.index(behind), name)
        return names

    def load_modules(self) -> None:
        """Somebody lists all types there are, for which every module is loaded.

        See util/module.c: module_load_qom_all().
        """
        modules = self._process.profile.traits.chardev_modules
        self._modules.update(module for module, _ in modules.values())

    def open(self, options: ChardevOptions) -> Chardev:
        """Make a device and open its backend. Raises QapiError."""
        modules = self._process.profile.traits.chardev_modules
        if options.backend in modules:
            # few ask for one
            from fakeqemu.model.chardev.modules import refuse

            self._modules.add(modules[options.backend][0])
            refuse(options)
        if options.backend in ("mux", "hub"):
            chardev = self._open_with_log(options)
        else:
            chardev = self._made(options)
            self._process.host.open_chardev(chardev)
        self.insert(chardev)
        return chardev

    def check(self, options: ChardevOptions) -> None:
        """Raise QapiError for options that do not fit each other."""
        self._made(options)

    def _made(self, options: ChardevOptions) -> Chardev:
        """A device that is not open. See chardev/char-socket.c: qmp_chardev_open_socket()."""
        given = options.options
        if options.backend == "socket" and "tls-creds" in given:
            endpoint = "server" if given.get("server", True) else "client"
            self.check_tls_credentials(given["tls-creds"], endpoint)
        chardev = Chardev(options, self._process.profile.traits)
        if options.backend == "socket":
            chardev.check_socket()
        return chardev

    def insert(self, chardev: Chardev) -> None:
        """Add a device that was created elsewhere."""
        self._labels.discard(chardev.id)
        self._labels.add(chardev.id)
        self._devices[chardev.id] = chardev

    def remove(self, id: str) -> None:
        """What chardev-remove does. Raises QapiError if there is none, or it is busy."""
        chardev = self.get(id)
        if chardev is None:
            raise QapiError(f"Chardev '{id}' not found")
        if chardev.busy:
            raise QapiError(f"Chardev '{id}' is busy")
        self.drop(chardev)

    def drop(self, chardev: Chardev) -> None:
        """Close a device and forget it, busy or not."""
        self._devices.pop(chardev.id, None)
        self._labels.discard(chardev.id)
        if chardev.transport is not None:
            self._process.host.close_chardev(chardev)
            if chardev.transport is not None:
                chardev.transport.close()
                chardev.transport = None

    def change(self, id: str, make_options: Callable[[], ChardevOptions]) -> Chardev:
        """What chardev-change does: another backend under the same id and frontend.

        An unused device is destroyed before the new one is opened, so a failure leaves none.
        """
        old = self.get(id)
        if old is None:
            raise QapiError(f"Chardev '{id}' does not exist")
        if old.backend in ("mux", "hub"):
            raise QapiError("For mux or hub device hotswap is not supported yet")
        frontend = old.frontend
        if frontend is None:
            self.drop(old)
            try:
                return self.add(make_options())
            except QapiError as error:
                raise error.prefixed(f"Failed to add chardev '{id}': ") from None
        if not frontend.can_hotswap:
            raise QapiError("Chardev user does not support chardev hotswap")
        fe_open = old.frontend_open
        options = make_options()
        del self._devices[id]
        try:
            new = self.add(options)
        except BaseException:
            self.insert(old)
            raise
        if old.connected and not new.connected:
            old.closed()
        old.detach()
        self._process.host.close_chardev(old)
        new.attach(frontend, fe_open=fe_open, paused=old.paused)
        return new

    def ringbuf(self, device: str) -> RingBuffer:
        """The buffer of ringbuf device `device`. Raises QapiError if it is none."""
        from fakeqemu.model.chardev.ringbuf import RingBuffer

        chardev = self.get(device)
        if chardev is None:
            raise QapiError(f"Device '{device}' not found")
        if chardev.backend not in ("ringbuf", "memory") or not isinstance(
            chardev.transport, RingBuffer
        ):
            raise QapiError(f"{device} is not a ringbuf device")
        return chardev.transport

    def _open_with_log(self, options: ChardevOptions) -> Chardev:
        """As `_open_mux`, after its log. Raises QapiError. See chardev/char.c: chardev_new()."""
        host = self._process.host
        first = Chardev(options, self._process.profile.traits)
        host.open_chardev_log(first)
        try:
            chardev = self._open_mux(options)
        except QapiError:
            host.close_chardev(first)
            raise
        chardev.log = first.log
        return chardev

    def _open_mux(self, options: ChardevOptions) -> Chardev:
        """Make a mux or a hub. Raises QapiError for a base that is missing or in use."""
        from fakeqemu.model.chardev.mux import HubChardev, MuxChardev

        if options.backend == "mux":
            name = options.options["chardev"]
            base = self.get(name)
            if base is None:
                raise QapiError(f"mux: base chardev {name} not found")
            return MuxChardev(
                options,
                base,
                self._process,
                self._escape,
                lambda: self._lifecycle.shutdown("host-qmp-quit"),
            )
        names = options.options["chardevs"]
        if not names:
            raise QapiError("hub: 'chardevs' list is not defined")
        backends = []
        for name in names:
            backend = self.get(name)
            if backend is None:
                raise QapiError(f"hub: chardev can't be found by id '{name}'")
            if backend.backend in ("mux", "hub"):
                raise QapiError(
                    f"hub: multiplexers and hub devices can't be stacked, check chardev '{name}',"
                    " chardev should not be a hub device or have 'mux=on' enabled"
                )
            if backend.busy:
                raise QapiError(f"chardev '{name}' is already in use")
            backends.append(backend)
        return HubChardev(options, backends, self._process.profile.traits)


def _no_credentials(id: str, _endpoint: str) -> None:
    raise QapiError(f"No TLS credentials with id '{id}'")


def _no_legacy(_label: str, text: str) -> None:
    raise QapiError(f"'{text}' is not a valid char driver")
