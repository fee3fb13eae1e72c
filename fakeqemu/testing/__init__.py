"""What a test holds: a machine in its own event loop, and helpers around it.

    async with FakeQemu("-machine", "none", profile="10.0") as vm:
        assert (await vm.qmp("query-status"))["status"] == "running"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeqemu.clock import VirtualClock
    from fakeqemu.qapi.errors import StartupError
    from fakeqemu.testing.clock.group_clock import GroupClock
    from fakeqemu.testing.errors import QmpError
    from fakeqemu.testing.fleet.fleet import Fleet
    from fakeqemu.testing.machine.fake import FakeQemu
    from fakeqemu.testing.machine.sync import SyncFakeQemu
    from fakeqemu.testing.machine.verification import StrictnessError
    from fakeqemu.testing.names import UnknownNameError
    from fakeqemu.testing.plugin import Factory
    from fakeqemu.testing.prepared.snapshot import NotCopyableError
    from fakeqemu.testing.prepared.template import Template

__all__ = [
    "Factory",
    "FakeQemu",
    "Fleet",
    "GroupClock",
    "NotCopyableError",
    "QmpError",
    "StartupError",
    "StrictnessError",
    "SyncFakeQemu",
    "Template",
    "UnknownNameError",
    "VirtualClock",
]

#: name -> module, of this package where it begins with a dot
_PLACES = {
    "Factory": ".plugin",
    "FakeQemu": ".machine.fake",
    "Fleet": ".fleet.fleet",
    "GroupClock": ".clock.group_clock",
    "NotCopyableError": ".prepared.snapshot",
    "QmpError": ".errors",
    "StartupError": "fakeqemu.qapi.errors",
    "StrictnessError": ".machine.verification",
    "SyncFakeQemu": ".machine.sync",
    "Template": ".prepared.template",
    "UnknownNameError": ".names",
    "VirtualClock": "fakeqemu.clock",
}


def __getattr__(name: str) -> Any:
    # The pytest plugin imports this package in every run; the machine only comes when used.
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
