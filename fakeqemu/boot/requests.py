"""Requests of the boot to its runner: moments at which QEMU blocks or touches the process.

`Boot.run()` is a generator; it yields one of these and goes on when the driver resumes it.
`fakeqemu.io` performs them for real, `fakeqemu explain` only notes them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from fakeqemu.configuration import MonitorOptions
from fakeqemu.dataclass import dataclass
from fakeqemu.model.chardev.chardev import Chardev

if TYPE_CHECKING:
    from fakeqemu.migration.cpr_state import CprReader


@dataclass(frozen=True, slots=True)
class WritePidFile:
    """Write and lock the pid file; a refusal is a QapiError."""

    path: str


@dataclass(frozen=True, slots=True)
class WaitForClient:
    """A listening chardev with `wait=on`: continue once a client has connected."""

    chardev: Chardev


@dataclass(frozen=True, slots=True)
class WaitForCprState:
    """The cpr channel of an incoming CPR migration: go on when the state has come.

    The driver sends back a `CprChannel`, to be closed when the main channel is listened for.
    """

    #: QAPI MigrationAddress of the channel
    address: dict[str, Any]
    #: to be fed with what comes
    reader: CprReader


@dataclass(frozen=True, slots=True)
class AttachMonitor:
    """Put a QMP session or an HMP terminal on a chardev; from here it greets clients."""

    options: MonitorOptions
    chardev: Chardev


@dataclass(frozen=True, slots=True)
class SetupPost:
    """Everything has started: a daemonized process lets its parent go here."""


Request = WritePidFile | WaitForClient | WaitForCprState | AttachMonitor | SetupPost

#: what a step that blocks is made of
Work = Generator[Request, Any, None]
