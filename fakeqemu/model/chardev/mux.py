"""One client for several frontends (`mux`, `mon:`), and several backends for one (`hub`).

A multiplexer is itself a character device that many frontends may sit on; one of them has
the focus. Ctrl-A, then a letter, speaks to the multiplexer instead of to the frontend.

See chardev/char-mux.c: mux_proc_byte(), mux_chr_read() and mux_set_focus(); chardev/char-hub.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions, Frontend
from fakeqemu.model.chardev.ringbuf import NullTransport
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.process import Process
    from fakeqemu.traits import Traits

_MAXIMUM = 4
_HELP = (
    "\n\r"
    "C-a h    print this help\n\r"
    "C-a x    exit emulator\n\r"
    "C-a s    save disk data back to file (if -snapshot)\n\r"
    "C-a t    toggle console timestamps\n\r"
    "C-a b    send break (magic sysrq)\n\r"
    "C-a c    switch between console and monitor\n\r"
    "C-a C-a  sends C-a\n\r"
)


class MuxChardev(Chardev):
    """A multiplexer over `base`; it is the frontend of `base` and a device of its own."""

    can_hotswap = False

    def __init__(
        self,
        options: ChardevOptions,
        base: Chardev,
        process: Process,
        escape: int,
        quit: Callable[[], None],
    ) -> None:
        """`escape`: the byte that speaks to the multiplexer; `quit`: what its key `x` does."""
        super().__init__(options, process.profile.traits)
        self._quit = quit
        self._base = base
        self._frontends: list[Frontend] = []
        self._escaped = False
        self._escape = escape
        self.transport = NullTransport()
        #: whether frontends hear of the client; not before all that start with the machine are
        #: there, so that only the one with the focus greets
        self._opened = process.main_loop_running
        if not self._opened:
            process.on_main_loop.append(self._open)
        base.attach(self)

    @property
    def busy(self) -> bool:
        """Whether any frontend sits on it."""
        return bool(self._frontends)

    def attach(
        self, frontend: Frontend, *, fe_open: bool = True, paused: bool = False
    ) -> None:
        """Add a frontend; the newest has the focus. Raises QapiError when it is full."""
        if len(self._frontends) == _MAXIMUM:
            raise QapiError(
                f"too many uses of multiplexed chardev '{self.id}' (maximum is {_MAXIMUM})"
            )
        self._frontends.append(frontend)
        self._focus(frontend)
        self._fe_open = fe_open
        if self._base.connected and self._opened:
            frontend.chr_opened()
        if paused:
            self.pause(True)

    def detach(self) -> None:
        """Take the frontend with the focus away; the next one gets it."""
        if self.frontend is not None:
            self._frontends.remove(self.frontend)
        self.frontend = self._frontends[-1] if self._frontends else None

    def write(self, data: bytes) -> None:
        """Send to the client, whichever frontend of the mux has the focus."""
        if self.log is not None:
            self.log(data)
        self._base.write(data)

    def pause(self, paused: bool) -> None:
        """The frontend with the focus takes no input for now."""
        self._base.pause(paused)

    # -- as the base's frontend --------------------------------------------------------------

    def chr_opened(self) -> None:
        """A client came to the base."""
        self.connected = True
        if self._opened:
            for frontend in tuple(self._frontends):
                frontend.chr_opened()

    def chr_closed(self) -> None:
        """The base's client has gone."""
        self.connected = False
        for frontend in tuple(self._frontends):
            frontend.chr_closed()

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Input: the multiplexer's own keys out, the rest to the focus."""
        plain = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == self._escape:
                    plain.append(byte)
                    continue
                self._flush(plain, fds)
                self._key(chr(byte))
            elif byte == self._escape:
                self._escaped = True
            else:
                plain.append(byte)
        self._flush(plain, fds)

    def _open(self) -> None:
        self._opened = True
        if self.connected:
            self.chr_opened()

    def _flush(self, plain: bytearray, fds: Sequence[int]) -> None:
        if plain and self.frontend is not None:
            data = bytes(plain)
            plain.clear()
            self.frontend.chr_received(data, fds)

    def _key(self, key: str) -> None:
        if key in "?h":
            self.write(_HELP.encode())
        elif key == "x":
            self.write(b"QEMU: Terminated\n\r")
            self._quit()
        elif key == "c" and self.frontend is not None:
            at = self._frontends.index(self.frontend)
            self._focus(self._frontends[(at + 1) % len(self._frontends)])

    def _focus(self, frontend: Frontend) -> None:
        # also when it comes back to itself: a monitor then shows its prompt again
        if self.frontend is not None:
            _tell(self.frontend, focus=False)
        self.frontend = frontend
        _tell(frontend, focus=True)


def _tell(frontend: Frontend, *, focus: bool) -> None:
    """A frontend may have `chr_focus(bool)`; most do not care."""
    if (notify := getattr(frontend, "chr_focus", None)) is not None:
        notify(focus)


class HubChardev(Chardev):
    """One frontend over several backends: output goes to each, input comes from any."""

    def __init__(
        self, options: ChardevOptions, backends: list[Chardev], traits: Traits
    ) -> None:
        super().__init__(options, traits)
        self._backends = backends
        self.transport = NullTransport()
        for index, backend in enumerate(backends):
            backend.attach(_HubEnd(self, index))

    def write(self, data: bytes) -> None:
        """Send to every backend that has a client."""
        if self.log is not None:
            self.log(data)
        for backend in self._backends:
            backend.write(data)

    def pause(self, paused: bool) -> None:
        """No input from any of them for now."""
        for backend in self._backends:
            backend.pause(paused)


class _HubEnd:
    can_hotswap = False

    def __init__(self, hub: HubChardev, index: int) -> None:
        self._hub = hub
        self._open = False
        self._index = index

    def chr_opened(self) -> None:
        self._open = True
        if not self._hub.connected:
            self._hub.opened()

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        self._hub.received(data, fds)

    def chr_closed(self) -> None:
        self._open = False
        if not any(backend.connected for backend in self._hub._backends):
            self._hub.closed()
