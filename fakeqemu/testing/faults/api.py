"""A tester's view of a machine's faults, the same wherever the machine runs.

Names are checked here, where the tester's own line is in the traceback, and again by the
machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fakeqemu.testing.faults.injector import Faults
from fakeqemu.testing.faults.model import Fault, check_fault, make_fault
from fakeqemu.testing.scenarios.catalog import faults_named

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import Profile
    from fakeqemu.testing.machine.verification import Verifier


class FaultsApi:
    """`machine.faults`."""

    def __init__(
        self,
        profile: Profile,
        call: Callable[..., Any],
        seed: int = 0,
        verifier: Verifier | None = None,
    ) -> None:
        self._verifier = verifier
        self._profile = profile
        self._seed = seed
        self._call = call

    def add(self, what: str | Fault, /, **parameters: Any) -> list[int]:
        """Add a fault, by name or ready made, or those of a named scenario; their numbers.

        Raises ValueError (UnknownNameError for names, with the nearest right one).
        """
        if isinstance(what, Fault):
            if parameters:
                raise ValueError("a fault that is ready made takes no parameters")
            faults = [what]
        else:
            faults = faults_named(what, parameters)
        for fault in faults:
            check_fault(fault, self._profile)
        plain = [{"name": fault.name, **asdict(fault)} for fault in faults]
        numbers: list[int] = self._call("fault-add", faults=plain, seed=self._seed)
        for number, fault in zip(numbers, faults, strict=True):
            # what is left to chance may never happen; what happens at once has happened
            if self._verifier is not None and fault.probability == 1 and not fault.at_once:
                self._verifier.arm("fault", number, fault.name)
        return numbers

    def remove(self, *numbers: int) -> None:
        """Take faults away; what they hold goes on."""
        for number in numbers:
            self._call("fault-do", what="remove", value=number)
            if self._verifier is not None:
                self._verifier.disarm("fault", number)

    def clear(self) -> None:
        """Take all away."""
        self.remove(*(fault["number"] for fault in self.list()))

    def list(self) -> list[dict[str, Any]]:
        """Those there are: number, name, hits, and what differs from the default."""
        faults: list[dict[str, Any]] = self._call("fault-do", what="list")
        return faults

    def stop_process(self, seconds: float | None = None) -> None:
        """The process stands still; after `seconds` it goes on."""
        self._call("fault-do", what="stop", value=seconds)

    def continue_process(self) -> None:
        """The process goes on, with what has come meanwhile."""
        self._call("fault-do", what="resume")

    def drop_channels(self) -> int:
        """Break the migration channels that are open; how many."""
        number: int = self._call("fault-do", what="drop-channels")
        return number

    def drop_connections(self) -> None:
        """Hang up on the clients of all monitors."""
        self._call("fault-do", what="drop-connections")


def add_plain(vm: Machine, faults: list[dict[str, Any]], seed: int) -> list[int]:
    """The machine's half of `FaultsApi.add`."""
    Faults.of(vm).seed = seed
    numbers = []
    for members in faults:
        parameters = {key: value for key, value in members.items() if key != "name"}
        added = Faults.of(vm).add(make_fault(members["name"], parameters))
        numbers += [active.number for active in added]
    return numbers


def do(vm: Machine, what: str, value: Any = None) -> Any:
    """The machine's half of the rest. Raises LookupError for a verb that is none."""
    faults = Faults.of(vm)
    verbs: Mapping[str, Callable[[], Any]] = {
        "remove": lambda: _remove(faults, value),
        "clear": faults.clear,
        "list": lambda: listed(faults),
        "stop": lambda: faults.stop(value),
        "resume": faults.resume,
        "drop-channels": faults.drop_channels,
        "drop-connections": faults.drop_connections,
    }
    return verbs[what]()


def listed(faults: Faults) -> list[dict[str, Any]]:
    """Each fault as plain data."""
    found = []
    for active in faults:
        default = asdict(type(active.fault)())
        said = {key: each for key, each in asdict(active.fault).items() if each != default[key]}
        found.append(
            {"number": active.number, "name": active.fault.name, "hits": active.hits, **said}
        )
    return found


def _remove(faults: Faults, number: int) -> None:
    for active in faults:
        if active.number == number:
            faults.remove(active)
            return
    raise LookupError(f"no fault with number {number}")
