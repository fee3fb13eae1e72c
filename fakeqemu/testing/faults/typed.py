"""Made by scripts/make_testing_api from the faults and scenarios; not edited by hand.

What `faults.add` takes, as a type checker sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict, Unpack, overload

from fakeqemu.testing.faults.model import Fault


class Scope(TypedDict, total=False):
    """Where, and how often; see `Fault`."""

    command: str | None
    event: str | None
    greeting: bool
    connection: str | None
    channel: bool
    migration: str | None
    runstate: str | None
    skip: int
    count: int | None
    probability: float
    seed: int | None


class DelayKeywords(Scope, total=False):
    """Of the fault `delay`."""

    seconds: float
    until_migration: str | None
    until_runstate: str | None
    converge: bool


class ErrorKeywords(Scope, total=False):
    """Of the fault `error`."""

    desc: str
    error_class: str


class DropKeywords(Scope, total=False):
    """Of the fault `drop`."""

    place: Literal["before", "middle", "after"]


class SplitKeywords(Scope, total=False):
    """Of the fault `split`."""

    size: int
    gap: float


class CoalesceKeywords(Scope, total=False):
    """Of the fault `coalesce`."""

    messages: int
    wait: float


class ReorderKeywords(Scope, total=False):
    """Of the fault `reorder`."""

    wait: float


class WrongIdKeywords(Scope, total=False):
    """Of the fault `wrong-id`."""

    id: Any


class DuplicateEventKeywords(Scope, total=False):
    """Of the fault `duplicate-event`."""

    copies: int


class StaleEventKeywords(Scope, total=False):
    """Of the fault `stale-event`."""

    before: Literal["greeting", "negotiation", "reply"]
    stale: str
    data: Mapping[str, Any] | None


class JunkBytesKeywords(Scope, total=False):
    """Of the fault `junk-bytes`."""

    size: int
    place: Literal["before", "middle", "after"]


class SlowReadingKeywords(Scope, total=False):
    """Of the fault `slow-reading`."""

    size: int
    gap: float


class StopProcessKeywords(Scope, total=False):
    """Of the fault `stop-process`."""

    seconds: float | None


class ExitKeywords(Scope, total=False):
    """Of the fault `exit`."""

    at: Literal["now", "before-socket", "after-greeting", "mid-migration"]
    code: int
    signal: str | int | None
    text: str


class LateSocketKeywords(Scope, total=False):
    """Of the fault `late-socket`."""

    seconds: float
    file: bool


class LateExitKeywords(Scope, total=False):
    """Of the fault `late-exit`."""

    seconds: float


class DiskErrorKeywords(Scope, total=False):
    """Of the fault `io-error`."""

    device: str | None
    operation: Literal["read", "write"] | None
    errno: Literal["EIO", "ENOSPC"]
    access: bool


class JobErrorKeywords(Scope, total=False):
    """Of the fault `job-error`."""

    job: str | None
    desc: str
    percent: float


class LoadFailsKeywords(Scope, total=False):
    """Of the fault `load-fails`."""

    section: str | None
    desc: str


#: scenarios, whose keywords go to each of their faults that has such a one
ScenarioName = Literal[
    "silent",
    "vanish",
    "late",
    "exit-before-socket",
    "exit-after-greeting",
    "interleave",
    "stale-events",
    "unplug-never",
    "postcopy-paused-stop-hangs",
    "cancel-at-last-moment",
]


class TypedFaults:
    """`add` for each name."""

    @overload
    def add(self, what: Literal["delay"], /, **parameters: Unpack[DelayKeywords]) -> list[int]: ...

    @overload
    def add(self, what: Literal["never-answer"], /, **parameters: Unpack[Scope]) -> list[int]: ...

    @overload
    def add(self, what: Literal["error"], /, **parameters: Unpack[ErrorKeywords]) -> list[int]: ...

    @overload
    def add(self, what: Literal["ignore"], /, **parameters: Unpack[Scope]) -> list[int]: ...

    @overload
    def add(self, what: Literal["drop"], /, **parameters: Unpack[DropKeywords]) -> list[int]: ...

    @overload
    def add(self, what: Literal["split"], /, **parameters: Unpack[SplitKeywords]) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["coalesce"], /, **parameters: Unpack[CoalesceKeywords]
    ) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["reorder"], /, **parameters: Unpack[ReorderKeywords]
    ) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["wrong-id"], /, **parameters: Unpack[WrongIdKeywords]
    ) -> list[int]: ...

    @overload
    def add(self, what: Literal["missing-id"], /, **parameters: Unpack[Scope]) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["duplicate-event"], /, **parameters: Unpack[DuplicateEventKeywords]
    ) -> list[int]: ...

    @overload
    def add(self, what: Literal["lost-event"], /, **parameters: Unpack[Scope]) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["stale-event"], /, **parameters: Unpack[StaleEventKeywords]
    ) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["junk-bytes"], /, **parameters: Unpack[JunkBytesKeywords]
    ) -> list[int]: ...

    @overload
    def add(self, what: Literal["partial-utf8"], /, **parameters: Unpack[Scope]) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["slow-reading"], /, **parameters: Unpack[SlowReadingKeywords]
    ) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["stop-process"], /, **parameters: Unpack[StopProcessKeywords]
    ) -> list[int]: ...

    @overload
    def add(self, what: Literal["exit"], /, **parameters: Unpack[ExitKeywords]) -> list[int]: ...

    @overload
    def add(self, what: Literal["ignore-sigterm"], /, **parameters: Unpack[Scope]) -> list[int]: ...

    @overload
    def add(self, what: Literal["remove-socket"], /, **parameters: Unpack[Scope]) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["late-socket"], /, **parameters: Unpack[LateSocketKeywords]
    ) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["late-exit"], /, **parameters: Unpack[LateExitKeywords]
    ) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["io-error"], /, **parameters: Unpack[DiskErrorKeywords]
    ) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["job-error"], /, **parameters: Unpack[JobErrorKeywords]
    ) -> list[int]: ...

    @overload
    def add(
        self, what: Literal["load-fails"], /, **parameters: Unpack[LoadFailsKeywords]
    ) -> list[int]: ...

    @overload
    def add(self, what: ScenarioName, /, **parameters: Any) -> list[int]: ...

    @overload
    def add(self, what: Fault, /) -> list[int]: ...

    def add(self, what: Any, /, **parameters: Any) -> list[int]:
        """Add a fault, by name or ready made, or those of a named scenario; their numbers.

        Raises ValueError (UnknownNameError for names, with the nearest right one).
        """
        return self._add(what, parameters)

    def _add(self, what: str | Fault, parameters: dict[str, Any]) -> list[int]:
        raise NotImplementedError
