"""The steps, in the order in which they are run, and the flows they make up.

Steps of one flow build on each other's domains; flows know nothing of each other and can be
run side by side, each with its own libvirtd. `final` is run at the end of every flow.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accept.lab import Lab

Function = Callable[["Lab"], None]

#: modules of accept.flows in the order in which they are run
FLOWS = (
    "probe",
    "lifecycle",
    "domains",
    "crash",
    "hotplug",
    "unplug",
    "migparams",
    "migrate",
    "migrate_options",
    "migrate_slow",
    "migrate_broken",
    "save",
    "local",
    "block",
    "stress",
)
FINAL = "final"


@dataclass(frozen=True)
class Step:
    """One thing that libvirt must be able to do with the emulator."""

    #: `group.what`, the names under which the steps are known
    name: str
    #: the module of accept.flows it stands in
    flow: str
    run: Function


_STEPS: list[Step] = []


def step(name: str) -> Callable[[Function], Function]:
    """Register a step under its name."""

    def register(function: Function) -> Function:
        _STEPS.append(Step(name, function.__module__.rpartition(".")[2], function))
        return function

    return register


def all_steps() -> list[Step]:
    """Every step, in order."""
    for flow in (*FLOWS, FINAL):
        importlib.import_module(f"accept.flows.{flow}")
    order = {flow: number for number, flow in enumerate((*FLOWS, FINAL))}
    return sorted(_STEPS, key=lambda each: order[each.flow])
