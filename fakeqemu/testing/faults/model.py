"""What can go wrong, as data: a small closed set of faults that compose.

A fault says where it applies (its scope), how often, and what it does; `injector.Faults`
carries it out, `build` makes one of a name and parameters. Named situations made of several
faults are in `scenarios.catalog`. Amounts of time are seconds: of the machine's clock in
`seconds`, of the wall in `gap` and `wait`, because those are about when bytes reach a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fakeqemu.dataclass import dataclass

PLACES = ("before", "middle", "after")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Where and how often; with nothing said, everywhere and always."""

    #: the fault's name in files and on the control socket
    name: ClassVar[str] = ""
    #: who carries it out: "command", "output", "input", "channel", "process", and parts of the
    #: machine: "disk", "job", "load"
    stages: ClassVar[frozenset[str]] = frozenset()

    #: only this command, or the reply to it
    command: str | None = None
    #: only this event; whoever receives it, it counts once
    event: str | None = None
    #: only the greeting
    greeting: bool = False
    #: only the monitor on the character device of this id
    connection: str | None = None
    #: the migration channels instead of the monitors
    channel: bool = False
    #: only while a migration of this machine has this status
    migration: str | None = None
    #: only while the machine is in this run state
    runstate: str | None = None
    #: let so many pass first
    skip: int = 0
    #: stop after so many; None: never
    count: int | None = None
    #: of how many that match it is carried out, 0 to 1
    probability: float = 1.0
    #: for `probability` and for junk; None: from the machine's seed
    seed: int | None = None


_COMMAND = frozenset({"command"})
_OUTPUT = frozenset({"output"})
_PROCESS = frozenset({"process"})


@dataclass(frozen=True, kw_only=True)
class Delay(Fault):
    """Commands are carried out later; with `event`, `greeting` or `channel`, those come later."""

    name = "delay"
    stages = frozenset({"command", "output", "channel"})

    #: of the machine's clock
    seconds: float = 0.0
    #: or until a migration has this status
    until_migration: str | None = None
    #: or until the machine is in this run state
    until_runstate: str | None = None
    #: a migration that never gets there is made to: its guest writes no more
    converge: bool = False


@dataclass(frozen=True, kw_only=True)
class NeverAnswer(Fault):
    """The command hangs, and with it the monitors; a channel swallows what is sent, and its end."""

    name = "never-answer"
    stages = frozenset({"command", "channel"})


@dataclass(frozen=True, kw_only=True)
class Error(Fault):
    """The command is refused without being carried out."""

    name = "error"
    stages = _COMMAND

    desc: str = "Input/output error"
    error_class: str = "GenericError"


@dataclass(frozen=True, kw_only=True)
class Ignore(Fault):
    """The command succeeds with an empty reply and nothing happens."""

    name = "ignore"
    stages = _COMMAND


@dataclass(frozen=True, kw_only=True)
class Drop(Fault):
    """The connection ends before, in the middle of or after a message."""

    name = "drop"
    stages = frozenset({"output", "channel"})

    place: str = "middle"


@dataclass(frozen=True, kw_only=True)
class Split(Fault):
    """One message comes in many reads."""

    name = "split"
    stages = frozenset({"output", "channel"})

    #: bytes in each piece
    size: int = 16
    #: seconds between two
    gap: float = 0.001


@dataclass(frozen=True, kw_only=True)
class Coalesce(Fault):
    """Several messages come in one read."""

    name = "coalesce"
    stages = _OUTPUT

    messages: int = 2
    #: seconds after which what there is goes out
    wait: float = 0.02


@dataclass(frozen=True, kw_only=True)
class Reorder(Fault):
    """A message comes after the one that follows it."""

    name = "reorder"
    stages = _OUTPUT

    #: seconds after which it goes out anyway
    wait: float = 0.02


@dataclass(frozen=True, kw_only=True)
class WrongId(Fault):
    """A reply carries another id: `id`, or that of the reply before it."""

    name = "wrong-id"
    stages = _OUTPUT

    id: Any = None


@dataclass(frozen=True, kw_only=True)
class MissingId(Fault):
    """A reply carries no id."""

    name = "missing-id"
    stages = _OUTPUT


@dataclass(frozen=True, kw_only=True)
class DuplicateEvent(Fault):
    """An event comes more than once."""

    name = "duplicate-event"
    stages = _OUTPUT

    copies: int = 2


@dataclass(frozen=True, kw_only=True)
class LostEvent(Fault):
    """An event does not come."""

    name = "lost-event"
    stages = _OUTPUT


@dataclass(frozen=True, kw_only=True)
class StaleEvent(Fault):
    """An event of the past comes where none should: before the greeting, during negotiation,
    or between a command and its reply.
    """

    name = "stale-event"
    stages = _OUTPUT

    #: "greeting", "negotiation" or "reply"
    before: str = "negotiation"
    #: which event
    stale: str = "RESUME"
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class JunkBytes(Fault):
    """Bytes that are no JSON come with a message, or into a channel."""

    name = "junk-bytes"
    stages = frozenset({"output", "channel"})

    size: int = 8
    place: str = "before"


@dataclass(frozen=True, kw_only=True)
class PartialUtf8(Fault):
    """Raw UTF-8 in a message ends inside a character."""

    name = "partial-utf8"
    stages = _OUTPUT


@dataclass(frozen=True, kw_only=True)
class SlowReading(Fault):
    """The monitor takes little at a time of what the client sends."""

    name = "slow-reading"
    stages = frozenset({"input"})

    size: int = 8
    gap: float = 0.001


@dataclass(frozen=True, kw_only=True)
class StopProcess(Fault):
    """The process is stopped, as after SIGSTOP: its sockets stay open and nothing is read.

    At once, or when `command` comes; in a test's own loop the monitors and channels stand
    still, the machine's clock does not.
    """

    name = "stop-process"
    stages = frozenset({"process", "command"})

    #: for so long, by the wall; None: for good
    seconds: float | None = None


#: when a process may end
POINTS = ("now", "before-socket", "after-greeting", "mid-migration")


@dataclass(frozen=True, kw_only=True)
class ExitFault(Fault):
    """The process ends: at a point of its life, or when `command` comes."""

    name = "exit"
    stages = frozenset({"process", "command", "output"})

    at: str = "now"
    code: int = 1
    #: end by this signal instead, "KILL" or its number
    signal: str | int | None = None
    #: what it says on standard error when it ends before its socket is there
    text: str = "cannot set up guest memory 'pc.ram': Cannot allocate memory"


@dataclass(frozen=True, kw_only=True)
class IgnoreSigterm(Fault):
    """SIGTERM and SIGINT do not end the process."""

    name = "ignore-sigterm"
    stages = _PROCESS


@dataclass(frozen=True, kw_only=True)
class RemoveSocket(Fault):
    """The monitor's socket file is deleted while the process lives."""

    name = "remove-socket"
    stages = _PROCESS


@dataclass(frozen=True, kw_only=True)
class LateSocket(Fault):
    """The process needs so long, by the wall, until it does anything: its sockets appear late.

    Or their files are there, and nobody listens yet. For machines that have not started.
    """

    name = "late-socket"
    stages = _PROCESS

    seconds: float = 1.0
    #: the files of UNIX sockets are there from the beginning
    file: bool = False


@dataclass(frozen=True, kw_only=True)
class LateExit(Fault):
    """The process stays so long, by the wall, after its end, when its sockets are gone."""

    name = "late-exit"
    stages = _PROCESS

    seconds: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DiskError(Fault):
    """What the guest reads from a disk or writes to it fails, as `rerror` and `werror` say."""

    name = "io-error"
    stages = frozenset({"disk"})

    #: id or name of a device, or a node's name; None: every disk
    device: str | None = None
    #: "read" or "write"; None: both
    operation: str | None = None
    #: "EIO" or "ENOSPC"
    errno: str = "EIO"
    #: whether the guest accesses the disk as soon as it runs, and so meets the error
    access: bool = True


@dataclass(frozen=True, kw_only=True)
class JobError(Fault):
    """A job fails after it has begun."""

    name = "job-error"
    stages = frozenset({"job"})

    #: id; None: every job
    job: str | None = None
    desc: str = "Input/output error"
    #: how much of its work is done by then, 0 to 100
    percent: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LoadFails(Fault):
    """The destination of a migration cannot load a section: it says so, and ends."""

    name = "load-fails"
    stages = frozenset({"load"})

    #: "ram", "0000:00:02.0/virtio-net"; None: the next one that comes
    section: str | None = None
    #: the text of a system error
    desc: str = "Invalid argument"


#: every fault by name
FAULTS: Mapping[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        Delay, NeverAnswer, Error, Ignore, Drop, Split, Coalesce, Reorder, WrongId, MissingId,
        DuplicateEvent, LostEvent, StaleEvent, JunkBytes, PartialUtf8, SlowReading, StopProcess,
        ExitFault, IgnoreSigterm, RemoveSocket, LateSocket, LateExit, DiskError, JobError,
        LoadFails,
    )
}  # fmt: skip
