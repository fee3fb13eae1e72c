"""What a test holds: a machine in its own event loop, and helpers around it.

    async with FakeQemu("-machine", "none", profile="10.0") as vm:
        assert (await vm.qmp("query-status"))["status"] == "running"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeqemu.testing.errors import QmpError
    from fakeqemu.testing.fleet import Fleet
    from fakeqemu.testing.group_clock import GroupClock
    from fakeqemu.testing.handle import FakeQemu
    from fakeqemu.testing.nearest import UnknownNameError
    from fakeqemu.testing.strict import StrictnessError
    from fakeqemu.testing.sync import SyncFakeQemu

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
    "FakeQemu": "handle",
    "Fleet": "fleet",
    "GroupClock": "group_clock",
    "QmpError": "errors",
    "StrictnessError": "strict",
    "SyncFakeQemu": "sync",
    "UnknownNameError": "nearest",
}


def __getattr__(name: str) -> Any:
    # The pytest plugin imports this package in every run; the machine only comes when used.
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"fakeqemu.testing.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
