"""-gdb, -s and the human monitor's `gdbserver`: what they name, checked and opened.

See gdbstub/system.c: gdbserver_start(); monitor/hmp-cmds.c: hmp_gdbserver().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.boot.chardevs import chardev_options, legacy_chardev
from fakeqemu.boot.cmdline.option_groups import Groups
from fakeqemu.boot.error_report import Messages
from fakeqemu.boot.requests import WaitForClient, Work
from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions
from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState
    from fakeqemu.model.machine import Machine

_LABEL = "gdb"
#: what the server's own monitor is a character device of, which query-chardev shows
_MONITOR = ChardevOptions("#chr000", "gdb")
#: what a TCP address is given along
_TCP = ",wait=off,nodelay=on,server=on"
NOTHING = "none"


class GdbServerError(QapiError):
    """The server cannot be started; `reports` are QEMU's lines before the reason.

    The reason itself is empty where 7.2 has no more to say.
    """

    def __init__(self, reason: str, reports: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reports = reports


def start_gdb_servers(boot: BootState) -> Work:
    """Each -gdb and -s; the devices may block. Raises StartupError."""
    for entry in boot.configuration.gdb:
        try:
            made = start(boot.vm, entry.text, entry.location)
        except GdbServerError as error:
            lines = [*error.reports, *([error.desc] if error.desc else [])]
            for line in lines[:-1]:
                boot.messages.report(line, entry.location)
            raise StartupError("".join(lines[-1:]), location=entry.location) from None
        if made is not None and _waits(made) and not boot.vm.process.main_loop_running:
            yield WaitForClient(made)


def _waits(chardev: Chardev) -> bool:
    waits = chardev.is_server and chardev.options.get("wait")
    return chardev.backend == "socket" and bool(waits)


def start(vm: Machine, device: str, location: str = "") -> Chardev | None:
    """Put the server on `device`, and close the one it was on; the new one, None for "none".

    See gdbstub/system.c: gdbserver_start(). Raises GdbServerError.
    """
    if not vm.cpus:
        raise GdbServerError(
            "gdbstub: meaningless to attach gdb to a machine without any CPU."
        )
    if vm.state.accelerator == "qtest":
        raise GdbServerError("gdbstub: current accelerator doesn't support guest debugging")
    if not device and vm.profile.traits.gdb_chardev_missed:
        raise GdbServerError("gdbstub: missing connection string")
    chardev = None
    if device != NOTHING:
        try:
            chardev = _open(vm, device + _TCP if device.startswith("tcp:") else device, location)
        except QapiError as error:
            missed = vm.profile.traits.gdb_chardev_missed
            reason = "gdbstub: couldn't create chardev" if missed else ""
            raise GdbServerError(reason, (error.with_hint,) if error.desc else ()) from None
    if vm.objects.serve_gdb is not None:
        vm.objects.serve_gdb(chardev.id if chardev is not None else None)
    if _MONITOR.id not in vm.chardevs:
        monitor = vm.chardevs.add(_MONITOR)
        monitor.attach(MonitorFrontend())
    return chardev


def _open(vm: Machine, device: str, location: str) -> Chardev:
    """The character device that `device` names, or is made from. Raises QapiError."""
    name = device.removeprefix("chardev:")
    if name != device:
        known = vm.chardevs.get(name)
        if known is None:
            raise QapiError("")
        if known.busy:
            # a real one dies of this
            raise QapiError(vm.profile.traits.chardev_in_use_text.format(name))
        return known
    messages = Messages()
    groups = Groups(vm.profile, messages)
    groups.group("chardev").given.extend(vm.configuration.chardevs)
    try:
        made = chardev_options(legacy_chardev(groups, _LABEL, device, "gdb", ""), vm.profile)
    except StartupError as error:
        raise QapiError(error.text) from None
    for options in made:
        if options.id in vm.chardevs:
            if options.backend == "socket":
                raise QapiError("duplicate yank instance")
            raise QapiError(
                f"attempt to add duplicate property '{options.id}' to object"
                " (type 'container')"
            )
    chardevs = [
        vm.chardevs.add(ChardevOptions(each.id, each.backend, each.options, location))
        for each in made
    ]
    return chardevs[-1]


class MonitorFrontend:
    """The server's monitor, which is only reached through the server."""

    can_hotswap = False

    def chr_opened(self) -> None:
        """It was always there."""

    def chr_received(self, data: bytes, fds: object) -> None:
        """Nothing comes by this way."""

    def chr_closed(self) -> None:
        """It stays."""
