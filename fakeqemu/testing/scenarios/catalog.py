"""The known hangs and surprises by name, each made of faults; docs/scenarios tells the stories.

A name may be a fault's or a scenario's. Parameters given with a scenario's name go to each of
its faults that has such a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from fakeqemu.testing.faults.model import (
    FAULTS,
    Coalesce,
    Delay,
    Exit,
    Fault,
    Ignore,
    IgnoreSigterm,
    NeverAnswer,
    RemoveSocket,
    Reorder,
    Split,
    StaleEvent,
    StopProcess,
    WrongId,
    make_fault,
)
from fakeqemu.testing.names import check_name


@dataclass(frozen=True, slots=True)
class Scenario:
    """A situation with a name."""

    #: what a client meets, in one line
    symptom: str
    faults: tuple[Fault, ...]


#: every named scenario
SCENARIOS: Mapping[str, Scenario] = {
    "silent": Scenario(
        "the socket takes connections and nobody ever says anything", (StopProcess(),)
    ),
    "vanish": Scenario(
        "the socket file is gone while the process lives on", (RemoveSocket(),)
    ),
    "late": Scenario("a reply comes after three minutes", (Delay(seconds=180.0),)),
    "exit-before-socket": Scenario(
        "the process ends before its socket is there", (Exit(at="before-socket"),)
    ),
    "exit-after-greeting": Scenario(
        "the process greets and ends", (Exit(at="after-greeting"),)
    ),
    "split": Scenario("one message comes in many reads", (Split(),)),
    "coalesce": Scenario("several messages come in one read", (Coalesce(),)),
    "interleave": Scenario(
        "an event comes between a command and its reply", (StaleEvent(before="reply"),)
    ),
    "wrong-id": Scenario("a reply carries the id of another command", (WrongId(),)),
    "reorder": Scenario("a message comes after the one that follows it", (Reorder(),)),
    "stale-events": Scenario(
        "events come before negotiation is over",
        (StaleEvent(before="greeting"), StaleEvent(before="negotiation")),
    ),
    "unplug-never": Scenario(
        "device_del succeeds and DEVICE_DELETED never comes", (Ignore(command="device_del"),)
    ),
    "postcopy-paused-stop-hangs": Scenario(
        "stop hangs the monitor while postcopy is paused",
        (NeverAnswer(command="stop", migration="postcopy-paused"),),
    ),
    "cancel-at-last-moment": Scenario(
        "migrate_cancel takes effect when the guest has been stopped already",
        (Delay(command="migrate_cancel", until_runstate="finish-migrate", converge=True),),
    ),
    "ignore-sigterm": Scenario("the process does not heed SIGTERM", (IgnoreSigterm(),)),
}


def faults_named(name: str, parameters: Mapping[str, Any]) -> list[Fault]:
    """The faults that a fault's or scenario's name stands for. Raises UnknownNameError."""
    if name in SCENARIOS and (name not in FAULTS or not parameters):
        return [_adapted(name, fault, parameters) for fault in SCENARIOS[name].faults]
    check_name("fault or scenario", name, {*FAULTS, *SCENARIOS})
    return [make_fault(name, parameters)]


def _adapted(name: str, fault: Fault, parameters: Mapping[str, Any]) -> Fault:
    given = {key.replace("-", "_"): value for key, value in parameters.items()}
    everywhere = {field.name for each in SCENARIOS[name].faults for field in fields(each)}
    for key in given:
        check_name(f"parameter of scenario {name!r} called", key, everywhere)
    own = {field.name for field in fields(fault)}
    if not given:
        return fault
    # through make_fault, for its checks
    checked = make_fault(fault.name, {key: v for key, v in given.items() if key in own})
    return replace(fault, **{key: getattr(checked, key) for key in given if key in own})
