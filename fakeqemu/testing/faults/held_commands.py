"""Commands that a fault holds back, and how they go on when it lets them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.commands.registry import Deferred
from fakeqemu.dataclass import dataclass
from fakeqemu.migration.object import current_migration
from fakeqemu.qapi.errors import AbortError, QapiError
from fakeqemu.testing.faults.model import Delay, Fault

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.model.machine import Machine

#: whether a command may go on; asked again after each change of the machine
Condition = Callable[[], bool]


@dataclass(slots=True, eq=False)
class Active:
    """A fault that has been added; hold on to it to take it away again."""

    fault: Fault
    random: Random
    #: tells it from the others of its machine
    number: int = 0
    #: how often it matched, and how often it was carried out
    matched: int = 0
    hits: int = 0

    def strikes(self) -> bool:
        """Whether it is carried out this time, now that it matches."""
        fault = self.fault
        self.matched += 1
        if self.matched <= fault.skip or (fault.count is not None and self.hits >= fault.count):
            return False
        if fault.probability < 1 and self.random.random() >= fault.probability:
            return False
        self.hits += 1
        return True


class HeldCommands:
    """Those of one machine."""

    def __init__(self, vm: Machine, soon: Callable[[Callable[[], None]], None]) -> None:
        self._vm = vm
        self._soon = soon
        self._held: list[tuple[Active, Condition, Callable[[], None]]] = []
        #: those that wait for their time
        self._delayed = 0
        #: one waits for the switchover of a migration, which is to come soon
        self._converging = False

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._held) + self._delayed

    def statuses(self) -> set[str]:
        """The status of each side's migration; none before the first."""
        migration = current_migration(self._vm)
        if migration is None:
            return set()
        return {migration.outgoing.status, migration.incoming.status} - {"none"}

    def delay(self, active: Active, fault: Delay, proceed: Callable[[], Any]) -> Deferred:
        """Carry it out when the fault says."""
        vm = self._vm
        if fault.until_migration is not None:
            status = fault.until_migration
            return self.hold(active, lambda: status in self.statuses(), proceed)
        if fault.until_runstate is not None:
            held = self.hold(
                active, lambda: vm.runstate.current == fault.until_runstate, proceed
            )
            if fault.converge:
                self._converging = True
                self._soon(self._converge)
            return held
        outer = Deferred()
        self._delayed += 1

        def due() -> None:
            self._delayed -= 1
            self._go_on(outer, proceed)

        vm.process.call_later(round(fault.seconds * SECOND), due)
        return outer

    def hold(self, active: Active, until: Condition, proceed: Callable[[], Any]) -> Deferred:
        """Carry it out when the condition holds, or when the fault is taken away."""
        outer = Deferred()
        self._held.append((active, until, lambda: self._go_on(outer, proceed)))
        return outer

    def let_go(self, active: Active) -> None:
        """The fault is gone."""
        self._free([each for each in self._held if each[0] is active])

    def noted(self, entry: JournalEntry) -> None:
        """The machine may have changed: resume what waits for that."""
        if entry.kind not in ("migration", "runstate"):
            return
        if self._held:
            self._free([each for each in self._held if each[1]()])
        if self._converging and (entry.kind, entry.name) == ("migration", "active"):
            self._soon(self._converge)

    def _converge(self) -> None:
        """Bring about the moment that a command waits for: the guest writes no more."""
        self._converging = self.count > 0
        migration = current_migration(self._vm)
        if self._converging and migration is not None:
            migration.outgoing.force_switchover()

    def _free(self, free: list[tuple[Active, Condition, Callable[[], None]]]) -> None:
        self._held = [each for each in self._held if each not in free]
        for _, _, go_on in free:
            self._soon(go_on)

    def _go_on(self, outer: Deferred, proceed: Callable[[], Any]) -> None:
        try:
            value = proceed()
        except AbortError as abort:
            self._vm.process.exit(abort.status)
            return
        except QapiError as error:
            outer.fail(error)
            return
        outer.follow(value)
