"""Staged behaviour over a fleet: when some machine does this, that happens to many at once.

    [[stages]]
    when = { time = 60 }          # seconds since all run; or any trigger of a scenario
    of = "vm-*"                   # on which machines the trigger counts; all if not said
    machines = "vm-*"             # to which it happens
    pick = 10                     # to so many of them, chosen by the fleet's seed
    then = [{ exit = 1, signal = "KILL" }]

Who is picked does not depend on the shard: each host picks from the whole file, and does it to
those that are here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from random import Random
from typing import TYPE_CHECKING

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass
from fakeqemu.testing.names import check_name
from fakeqemu.testing.scenarios.stages import TRIGGERS, Stage, carry_out
from fakeqemu.testing.verbs.controller import MachineController

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.testing.machine.fake import FakeQemu

#: calls when the machine has done what it is at
Soon = Callable[[Callable[[], None]], None]

@dataclass(frozen=True, slots=True)
class FleetStage:
    """One rule for many machines."""

    stage: Stage
    of: str = "*"
    machines: str = "*"
    #: of how many; None: of all
    pick: int | None = None


def picked(names: Iterable[str], pattern: str, number: int | None, random: Random) -> list[str]:
    """`number` of the names that fit, in their order. Raises UnknownNameError if none does."""
    known = list(names)
    fitting = [name for name in known if fnmatchcase(name, pattern)]
    if not fitting:
        check_name("machine", pattern, known)
    if number is None or number >= len(fitting):
        return fitting
    chosen = set(random.sample(range(len(fitting)), number))
    return [name for index, name in enumerate(fitting) if index in chosen]


class FleetStages:
    """The stages of one fleet, watching the journals of its machines."""

    def __init__(
        self,
        stages: Sequence[FleetStage],
        everyone: Sequence[str],
        machines: Mapping[str, FakeQemu],
        seed: int,
    ) -> None:
        self._machines = machines
        self._done = [0] * len(stages)
        self._seen = [0] * len(stages)
        self._stages = stages
        #: chosen beforehand: who it is does not depend on what happens first
        self._whom = [
            picked(everyone, each.machines, each.pick, Random(seed * 1_000_003 + number))
            for number, each in enumerate(stages)
        ]

    def began(self, call_later: Callable[[int, Callable[[], None]], object]) -> None:
        """All machines run: from now on time counts."""
        for index, each in enumerate(self._stages):
            if "time" in each.stage.when:
                delay = round(each.stage.when["time"] * SECOND)
                call_later(delay, lambda index=index: self._do(index))  # type: ignore[misc]

    def watch(self, name: str, machine: FakeQemu) -> None:
        """A machine runs: what it does may be a trigger."""
        mine = [
            index
            for index, each in enumerate(self._stages)
            if "time" not in each.stage.when and fnmatchcase(name, each.of)
        ]
        if mine:
            soon = MachineController(machine.vm).faults.soon
            machine.journal.listen(lambda entry: self._noted(entry, mine, soon))

    def _noted(self, entry: JournalEntry, mine: list[int], soon: Soon) -> None:
        for index in mine:
            stage = self._stages[index].stage
            (trigger, value), = stage.when.items()
            if TRIGGERS[trigger] != entry.kind or str(value) != entry.name:
                continue
            self._seen[index] += 1
            if self._seen[index] <= stage.skip:
                continue
            if stage.times is None or self._done[index] < stage.times:
                self._done[index] += 1
                soon(lambda index=index: self._do(index))  # type: ignore[misc]

    def _do(self, index: int) -> None:
        for name in self._whom[index]:
            if (machine := self._machines.get(name)) is not None:
                carry_out(MachineController(machine.vm), self._stages[index].stage)
