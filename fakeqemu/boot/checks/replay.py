"""-icount rr=: a guest's run as a record in a file, up to where the guest would begin to run.

A run without -icount's clock is refused once the machine is there; all that its file has by then is
written, but for what 7.2 notes of the host's clock. A run with it is not modelled.

See replay/replay.c: replay_configure(), replay_enable() and replay_start().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.host_files import is_file
from fakeqemu.qapi.errors import NotModelledError, StartupError

if TYPE_CHECKING:
    from fakeqemu.configuration import OptionString
    from fakeqemu.model.machine import Machine

#: the version, and how many instructions there are
_HEADER = 4 + 8
#: the first checkpoint, the end of the machine, the end of the file
_EVENTS = bytes([0x25, 0x0E, 0x27])


def open_record(vm: Machine, entry: OptionString) -> None:
    """Make the file, or look whether it is one. Raises StartupError."""
    mode, path = entry.values.get("rr"), entry.values.get("rrfile")
    if mode is None:
        return
    if mode not in ("record", "replay"):
        raise StartupError(f"Invalid icount rr option: {mode}", location=entry.location)
    if path is None:
        raise StartupError("File name not specified for replay", location=entry.location)
    version = vm.profile.traits.replay_version.to_bytes(4, "big")
    if mode == "record":
        try:
            output = vm.host.create_output(path, fdsets=False)
        except OSError as error:
            raise _not_opened(path, error.strerror or "") from None
        output.write([version + bytes(_HEADER - len(version)) + _EVENTS])
        output.close()
        return
    if (why := vm.host.file_error(path)) is not None:
        raise _not_opened(path, why)
    content = vm.host.read_file(path) if is_file(vm.host, path) else b""
    if len(content) >= len(version) and not content.startswith(version):
        raise StartupError("Replay: invalid input log file version", own_line=True)
    if len(content) <= _HEADER:
        raise StartupError("error reading the replay data", location=entry.location)


def _not_opened(path: str, why: str) -> StartupError:
    return StartupError(f"Replay: open {path}: {why}", own_line=True)


def check_modelled(entry: OptionString) -> None:
    """Raise NotModelledError if the guest's run is to be recorded, or repeated."""
    if (mode := entry.values.get("rr")) is not None and "shift" in entry.values:
        raise NotModelledError(f"-icount rr={mode}")


def start(vm: Machine) -> None:
    """The machine is there, and has no clock that could be recorded. Raises StartupError."""
    entry = vm.configuration.icount
    if entry is None or entry.values.get("rr") is None:
        return
    cpus, rtc, snapshot = vm.profile.traits.replay_blockers
    blockers = (
        (len(vm.cpus) > 1, cpus),
        (vm.configuration.rtc.get("base") == "localtime", rtc),
        (vm.configuration.snapshot, snapshot),
    )
    for there, text in blockers:
        if there:
            raise StartupError(f"Record/replay: {text}")
    raise StartupError("Please enable icount to use record/replay")
