"""What a test holds: a machine in its own event loop, and helpers around it.

    async with FakeQemu("-machine", "none", profile="10.0") as vm:
        assert (await vm.qmp("query-status"))["status"] == "running"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeqemu.testing.clock.group_clock import GroupClock
    from fakeqemu.testing.errors import QmpError
    from fakeqemu.testing.fleet.fleet import Fleet
    from fakeqemu.testing.machine.fake import FakeQemu
    from fakeqemu.testing.machine.sync import SyncFakeQemu
    from fakeqemu.testing.machine.verification import StrictnessError
    from fakeqemu.testing.names import UnknownNameError

__all__ = [
    "FakeQemu",
    "Fleet",
    "GroupClock",
    "QmpError",
    "StrictnessError",
    "SyncFakeQemu",
    "UnknownNameError",
]

#: name -> module of this package
_PLACES = {
    "FakeQemu": "machine.fake",
    "Fleet": "fleet.fleet",
    "GroupClock": "clock.group_clock",
    "QmpError": "errors",
    "StrictnessError": "machine.verification",
    "SyncFakeQemu": "machine.sync",
    "UnknownNameError": "names",
}


def __getattr__(name: str) -> Any:
    # The pytest plugin imports this package in every run; the machine only comes when used.
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"fakeqemu.testing.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
