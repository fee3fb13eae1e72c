"""A tester's view of a machine's faults, the same wherever the machine runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.testing.faults.build import named
from fakeqemu.testing.faults.model import Fault

if TYPE_CHECKING:
    from fakeqemu.testing.faults.typed import TypedFaults
    from fakeqemu.testing.machine.verification import Verifier
else:

    class TypedFaults:
        """What type checkers see of it is not imported."""

        def add(self, what: Any, /, *more: Any, **parameters: Any) -> list[int]:
            """Add a fault; see `typed`."""
            if more or not isinstance(what, str | Fault):
                raise TypeError(
                    "a fault is its name, then parameters by name: "
                    f"faults.add('late', command='query-status'), not {what!r}"
                    + (f" and {more[0]!r}" if more else "")
                )
            return self._add(what, parameters)


class FaultsApi(TypedFaults):
    """`machine.faults`; each method is a verb of `testing.verbs.table`."""

    def __init__(self, call: Callable[..., Any], verifier: Verifier) -> None:
        self._call = call
        self._verifier = verifier

    def __repr__(self) -> str:
        try:
            names = ", ".join(fault["name"] for fault in self.list())
        except (RuntimeError, ConnectionError):
            return "<Faults of a machine that does not run>"
        return f"<Faults: {names or 'none'}>"

    def _add(self, what: str | Fault, parameters: dict[str, Any]) -> list[int]:
        name, given = (what, parameters) if isinstance(what, str) else named(what, parameters)
        faults: list[dict[str, Any]] = self._call("fault", name=name, parameters=given)
        for fault in faults:
            # what is left to chance may never happen; what happens at once has happened
            if fault.get("probability", 1) == 1 and not fault["hits"]:
                self._verifier.arm("fault", fault["number"], fault["name"])
        return [fault["number"] for fault in faults]

    def remove(self, *numbers: int) -> None:
        """Remove faults, and resume what they hold. Raises LookupError."""
        for number in numbers:
            self._call("remove-fault", number=number)
            self._verifier.disarm("fault", number)

    def clear(self) -> None:
        """Take all away."""
        self.remove(*(fault["number"] for fault in self.list()))

    def list(self) -> list[dict[str, Any]]:
        """Those there are: number, name, hits, and what differs from the default."""
        faults: list[dict[str, Any]] = self._call("query-faults")
        return faults

    def stop_process(self, seconds: float | None = None) -> None:
        """Stop the process as SIGSTOP does; after `seconds` of wall time it continues."""
        self._call("stop-process", seconds=seconds)

    def continue_process(self) -> None:
        """Continue the process, with the input that arrived meanwhile."""
        self._call("continue-process")

    def drop_channels(self) -> int:
        """Break the migration channels that are open; how many."""
        number: int = self._call("drop-channels")
        return number

    def drop_connections(self) -> None:
        """Hang up on the clients of all monitors."""
        self._call("drop-connections")

    def remove_socket(self) -> None:
        """Delete the socket files of the character devices."""
        self._call("remove-socket")

    def exit(self, code: int = 1, signal: str | int | None = None) -> None:
        """End the process with an exit status, or by a signal ("KILL" or its number)."""
        self._call("exit", code=code, signal=signal)
