"""A machine, started once, and all that several parts want to know of it.

Starting a QEMU costs more than most questions: so whoever needs one of these machines first asks
for everybody, and the others find the answers here. What disturbs a machine comes last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fakeqemu.recorder.board.blockers import what_is_sent
from fakeqemu.recorder.board.ports import Ports
from fakeqemu.recorder.qemu import Emulator, Gone, Qemu

KINDS = ("nodefaults", "defaults")
#: targets whose PCI configuration space is behind I/O ports
_WITH_PORTS = ("x86_64", "i386")
#: machine types whose ports nobody answers
_WITHOUT = ("none", "x-remote")


class Seen(NamedTuple):
    """What every machine is asked."""

    #: the text of `info qtree`
    qtree: str
    #: as `what_is_sent` gives it
    sent: dict[str, list[Any]]
    #: what the caller asked besides
    own: Any
    #: PCI configuration space by function; empty where it cannot be read
    space: dict[str, list[str]]
    #: lines on standard error, without the program's name
    warnings: list[str]


class Visits:
    """The machines of one program that were looked at."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._machines: dict[tuple[str, str], Seen | None] = {}
        self._bare: dict[tuple[str, ...], dict[str, list[Any]]] = {}
        #: device type -> what was seen with it; filled by `devices`
        self.devices: dict[str, Seen] = {}
        self._lock = threading.Lock()

    def machine(self, name: str, kind: str, ask: Callable[[Qemu], Any]) -> Seen | None:
        """A fresh machine of a type; `kind`: one of KINDS. None if it cannot start.

        `ask` is asked of it if nobody has asked yet.
        """
        if (name, kind) not in self._machines:
            options = ["-nodefaults"] if kind == "nodefaults" else []
            argv = self.emulator.machine(name, *options)
            try:
                found: Seen | None = self.look(
                    argv, ask, functions=lambda _: -1, ports=name not in _WITHOUT
                )
            except Gone:
                found = None
            self._machines[name, kind] = found
        return self._machines[name, kind]

    def bare(
        self, key: tuple[str, ...], argv: Callable[[], Sequence[str]]
    ) -> dict[str, list[Any]]:
        """What a machine sends, as `what_is_sent` tells it; {} if it cannot start.

        `argv` is asked once for each `key`.
        """
        with self._lock:
            if key not in self._bare:
                try:
                    with Qemu(self.emulator, *argv()) as qemu:
                        self._bare[key] = what_is_sent(qemu)
                except Gone:
                    self._bare[key] = {}
            return self._bare[key]

    def look(
        self,
        argv: Sequence[str],
        ask: Callable[[Qemu], Any],
        *,
        functions: Callable[[Any], int | None] = lambda _: None,
        then: Callable[[Qemu, Any], None] = lambda _qemu, _own: None,
        ports: bool = True,
    ) -> Seen:
        """Start a machine and ask; Gone if it cannot start.

        `functions`: the one on the first PCI bus that is to be read, from what `ask` found; -1:
        all. `then`: what may end the process is asked when everything else is known.
        """
        ports = ports and self.emulator.target in _WITH_PORTS
        with Qemu(self.emulator, *argv, ports=ports) as qemu:
            own = ask(qemu)
            qtree = qemu.hmp("info qtree")
            sent = what_is_sent(qemu)
            number = functions(own)
            try:
                space = _space(Ports(qemu.ports), number) if ports and number is not None else {}
            except EOFError:
                return self.look(argv, ask, then=then, ports=False)
            then(qemu, own)
        warnings = [line for line in qemu.warnings() if "recorder" not in line]
        return Seen(qtree, sent, own, space, warnings)


def _space(ports: Ports, number: int) -> dict[str, list[str]]:
    numbers = ports.functions() if number < 0 else [number]
    return {f"{n >> 3:x}.{n & 7:x}": ports.function(n) for n in numbers}
