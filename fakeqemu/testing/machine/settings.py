"""The settings of a machine, as a type checker and whoever starts one sees them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from fakeqemu.testing.names import check_name

if TYPE_CHECKING:
    from fakeqemu.clock import Clock
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import Profile
    from fakeqemu.testing.clock.group_clock import GroupClock

RunnerName = Literal["loop", "thread", "process", "fork"]
ClockName = Literal["virtual", "real"]

#: what the guest is, and how it reacts; see `fakeqemu.testing.machine.guest`
GuestSettings = TypedDict(
    "GuestSettings",
    {
        "memory": int | str,
        "dirty-rate": int | str,
        "working-set": int | str,
        "link": int | str,
        "bandwidth": int | str,
        "zero-permille": int,
        "device-state": int | str,
        "vcpus": int,
        "powerdown": Literal["ignore", "shutdown"],
        "unplug": Literal["ignore", "acknowledge", "refuse"],
        "balloon": Literal["ignore", "follow"],
        "agent": Literal["off", "on", "silent"],
        "delay": float,
    },
    total=False,
)


class CommonSettings(TypedDict, total=False):
    """Keywords of `FakeQemu` that are as good for one machine as for many; see there."""

    proposals: Sequence[str]
    check_replies: bool
    as_posted: bool
    deadline: float
    guest: GuestSettings | None
    seed: int | None
    strict: bool
    allow: Iterable[str]


class BootSettings(CommonSettings, total=False):
    """Keywords of `FakeQemu` that a prepared machine has too; see there."""

    profile: str | Profile
    name: str
    scenario: str | Path | None
    before_boot: Sequence[Callable[[Machine], None]]


class TemplateSettings(BootSettings, total=False):
    """Keywords of `Template` besides `prepare`."""

    socket: bool


class HandleSettings(BootSettings, total=False):
    """Keywords of `FakeQemu` besides `runner`; see there."""

    clock: Clock | GroupClock | ClockName | None
    speed: float
    socket: bool | str | Path
    tap_directory: str | Path
    client: bool


class FleetSettings(CommonSettings, total=False):
    """What all machines of a fleet have; the fleet names them and has their profiles."""

    #: "virtual" is one clock for all
    clock: Clock | GroupClock | ClockName | None
    speed: float
    #: whether each has a QMP socket, at `Fleet.socket(name)`
    socket: bool
    runner: RunnerName
    tap_directory: str | Path
    client: bool


class SyncCopySettings(TypedDict, total=False):
    """What may differ between copies of one prepared machine where the test does not await."""

    clock: Clock | GroupClock | ClockName | None
    speed: float
    client: bool
    deadline: float
    seed: int | None
    strict: bool
    allow: Iterable[str]
    name: str


class CopySettings(SyncCopySettings, total=False):
    """The same where it does."""

    runner: Literal["loop", "thread"]


class AsyncSettings(HandleSettings, total=False):
    """The same where the test awaits."""

    runner: RunnerName


class SyncSettings(HandleSettings, total=False):
    """The same where it does not."""

    runner: Literal["thread", "process", "fork"]


def check_settings(
    settings: dict[str, Any], known: Any = AsyncSettings, what: str = "setting"
) -> None:
    """Whether there are settings of these names. Raises UnknownNameError."""
    for name in settings:
        check_name(what, name, known.__annotations__)


def check_options(options: Sequence[Any]) -> list[str]:
    """QEMU's options as words. Raises TypeError, ValueError that say what to write."""
    if len(options) == 1 and isinstance(options[0], list | tuple):
        raise TypeError("the options are words, not a list: put a * before it, (*options)")
    words = []
    for option in options:
        if not isinstance(option, str | os.PathLike):
            raise TypeError(f"an option is a string, not {option!r}")
        words.append(os.fspath(option))
    first = words[0] if words else ""
    if first.startswith("-") and " " in first.strip():
        split = ", ".join(repr(word) for word in first.split())
        raise ValueError(f"{first!r} is one word: write {split}")
    return words


def check_clock(clock: Any, speed: Any, seed: Any, runner: str) -> None:
    """Whether they can be meant. Raises UnknownNameError, ValueError, TypeError."""
    if isinstance(clock, str):
        check_name("clock", clock, ("virtual", "real"))
    elif clock is not None and not (hasattr(clock, "now") and hasattr(clock, "advance")):
        raise TypeError(f"clock is 'virtual', 'real', or a clock for several, not {clock!r}")
    elif runner != "loop" and hasattr(clock, "call_later"):
        raise ValueError(
            f"a machine in a {runner} has a clock of its own: clock='virtual', or for several "
            "machines one GroupClock()"
        )
    is_number = isinstance(speed, int | float) and not isinstance(speed, bool)
    if not is_number or not 0 < speed < float("inf"):
        raise ValueError(f"speed is a number above 0, not {speed!r}")
    if speed != 1 and clock not in (None, "real"):
        raise ValueError(f"speed has no effect on clock {clock!r}: only real time runs faster")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"seed is a whole number, not {seed!r}")


#: settings that are on or off
_SWITCHES = ("check_replies", "as_posted", "client", "strict")
_LISTS = {"proposals": "proposals=['local']", "allow": "allow=['query-*']"}


def check_values(given: dict[str, Any]) -> None:
    """Whether values of settings can be meant. Raises UnknownNameError, TypeError, ValueError."""
    clock, speed, seed = given.get("clock"), given.get("speed", 1.0), given.get("seed")
    check_clock(clock, speed, seed, given.get("runner", "loop"))
    for name in _SWITCHES:
        if not isinstance(given.get(name, True), bool):
            raise TypeError(f"{name} is True or False, not {given[name]!r}")
    for name, right in _LISTS.items():
        if isinstance(given.get(name), str):
            raise TypeError(f"{name} is a list: {right}, not {given[name]!r}")
    profile = given.get("profile", "next")
    if not (isinstance(profile, str) or hasattr(profile, "schema")):
        raise TypeError(
            f"profile is one version, such as '10.0', not {profile!r}; machines of two versions "
            "are made one by one, with one GroupClock() as the clock of both"
        )
    deadline = given.get("deadline", 1.0)
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline > 0:
        raise ValueError(f"deadline is seconds, a number above 0, not {deadline!r}")
    if not isinstance(given.get("socket", True), bool | str | os.PathLike):
        raise TypeError(f"socket is True, False or a path, not {given['socket']!r}")
    guest = given.get("guest")
    if guest is not None and not isinstance(guest, dict):
        raise TypeError(f"guest is a dict such as {{'memory': '4G'}}, not {guest!r}")
