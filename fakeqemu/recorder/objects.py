"""What each kind of object shows when `object-add` has made it with as little as it takes.

Part `objects`: type -> {"options": {...}, "tree": ..., "error": text or null}, tree as in
`machines.walk`; a type that cannot be made here has the error instead of a tree.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fakeqemu.recorder.board.devices import base
from fakeqemu.recorder.board.machines import walk
from fakeqemu.recorder.qemu import Emulator, Gone, Qemu

#: what some of them name
_NAMED = ["-netdev", "hubport,hubid=0,id=h0", "-chardev", "null,id=c0"]

#: what types ask for, tried in this order
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "memory-backend-ram": [{"size": 1048576}],
    "memory-backend-memfd": [{"size": 1048576}],
    "memory-backend-shm": [{"size": 1048576}],
    "memory-backend-file": [{"size": 1048576, "mem-path": "${file}"}],
    "secret": [{"data": "x"}],
    "authz-simple": [{"identity": "x"}],
    "authz-pam": [{"service": "x"}],
    "authz-list-file": [{"filename": "${file}"}],
    "filter-buffer": [{"netdev": "h0", "interval": 1000}],
    "filter-dump": [{"netdev": "h0", "file": "${file}"}],
    "filter-mirror": [{"netdev": "h0", "outdev": "c0"}],
    "filter-redirector": [{"netdev": "h0", "outdev": "c0"}],
    "filter-replay": [{"netdev": "h0"}],
    "filter-rewriter": [{"netdev": "h0"}],
    "rng-egd": [{"chardev": "c0"}],
    "tls-creds-anon": [{"endpoint": "server"}],
    "tls-creds-x509": [{"dir": "/nonexistent"}],
    "tls-creds-psk": [{"dir": "/nonexistent"}],
    "monitor-qmp": [{"chardev": "c0"}],
    "monitor-hmp": [{"chardev": "c0"}],
    "input-linux": [{"evdev": "/nonexistent"}],
    "can-host-socketcan": [{"if": "can0"}],
}


def record_objects(emulator: Emulator, types: list[str]) -> dict[str, Any]:
    """The part's value for the object types of the schema."""
    with ExitStack() as stack:
        asked = _Machines(emulator, stack)
        return {name: _object(asked, name) for name in sorted(types)}


class _Machines:
    """One machine after the other: a new one where the last has not survived a question."""

    def __init__(self, emulator: Emulator, stack: ExitStack) -> None:
        self._emulator = emulator
        self._stack = stack
        self._qemu: Qemu | None = None

    def get(self) -> Qemu:
        """A machine without the object that is asked about."""
        if self._qemu is None:
            self._qemu = Qemu(self._emulator, *base(self._emulator), *_NAMED)
            self._stack.callback(self._qemu.close)
        return self._qemu

    def forget(self) -> None:
        """Go on with another."""
        if self._qemu is not None:
            self._qemu.close()
        self._qemu = None


def _object(asked: _Machines, name: str) -> dict[str, Any]:
    seen: dict[str, Any] = {"options": {}, "tree": None, "error": None}
    for options in [{}, *OPTIONS.get(name, [])]:
        handle, file = tempfile.mkstemp()
        os.close(handle)
        try:
            qemu = asked.get()
            given = {k: file if v == "${file}" else v for k, v in options.items()}
            reply = qemu.ask("object-add", {"qom-type": name, "id": "probe", **given})
            if "error" in reply:
                seen["error"] = reply["error"]["desc"].replace(file, "${file}")
                continue
            tree = walk(qemu, "/objects/probe")
            tree["values"].update((k, v) for k, v in options.items() if v == "${file}")
            # what it has done to others in the machine stays, and it may not go
            asked.forget()
            return {"options": options, "tree": tree, "error": None}
        except Gone:
            asked.forget()
            seen["error"] = ""
        finally:
            Path(file).unlink()
    return seen
