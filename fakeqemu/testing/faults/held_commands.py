"""Commands that a fault holds back, and how they go on when it lets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.registry import Deferred
from fakeqemu.qapi.errors import AbortError, QapiError
from fakeqemu.testing.faults.model import Fault

if TYPE_CHECKING:
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

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._held) + self._delayed

    def delay(self, nanoseconds: int, proceed: Callable[[], Any]) -> Deferred:
        """Carry it out later, by the machine's clock."""
        outer = Deferred()
        self._delayed += 1

        def due() -> None:
            self._delayed -= 1
            self._go_on(outer, proceed)

        self._vm.call_later(nanoseconds, due)
        return outer

    def hold(self, active: Active, until: Condition, proceed: Callable[[], Any]) -> Deferred:
        """Carry it out when the condition holds, or when the fault is taken away."""
        outer = Deferred()
        self._held.append((active, until, lambda: self._go_on(outer, proceed)))
        return outer

    def let_go(self, active: Active) -> None:
        """The fault is gone."""
        self._free([each for each in self._held if each[0] is active])

    def look(self) -> None:
        """The machine has changed."""
        if self._held:
            self._free([each for each in self._held if each[1]()])

    def _free(self, free: list[tuple[Active, Condition, Callable[[], None]]]) -> None:
        self._held = [each for each in self._held if each not in free]
        for _, _, go_on in free:
            self._soon(go_on)

    def _go_on(self, outer: Deferred, proceed: Callable[[], Any]) -> None:
        try:
            value = proceed()
        except AbortError as abort:
            self._vm.exit(abort.status)
            return
        except QapiError as error:
            outer.fail(error)
            return
        if not isinstance(value, Deferred):
            outer.resolve(value)
            return

        def finished(done: Deferred) -> None:
            if done.error is not None:
                outer.fail(done.error)
            else:
                outer.resolve(done.value)

        value.then(finished)
