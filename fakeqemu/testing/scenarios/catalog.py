"""The known hangs and surprises by name, each made of faults; docs/scenarios tells the stories."""

from __future__ import annotations

from collections.abc import Mapping

from fakeqemu.dataclass import dataclass
from fakeqemu.testing.faults.model import (
    Coalesce,
    Delay,
    ExitFault,
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
)


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
        "the process ends before its socket is there", (ExitFault(at="before-socket"),)
    ),
    "exit-after-greeting": Scenario(
        "the process greets and ends", (ExitFault(at="after-greeting"),)
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
