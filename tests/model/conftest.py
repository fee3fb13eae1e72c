"""A booted machine without a world, for tests of the model and of commands."""

from typing import Any

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.validate import check_reply
from fakeqemu.qmp.dispatch import dispatcher_of


class Running:
    """One machine and what it said."""

    def __init__(self, *argv: str, profile: str = "11.1") -> None:
        self.profile = Profile.load(profile)
        configuration = parse_command_line(
            ["-nodefaults", "-display", "none", "-accel", "tcg", *argv], self.profile
        )
        boot = Boot.of(configuration, self.profile, VirtualClock(), NullHost())
        for _request in boot.run():
            pass
        boot.finish()
        self.vm: Machine = boot.vm
        self.events: list[tuple[str, Any]] = []
        self.vm.events.listen(lambda event: self.events.append((event.name, event.data)))
        self._human = HmpMonitor()

    def ask(self, command: str, **arguments: Any) -> Any:
        """The reply, checked against the schema; keywords spell `-` as `__`."""
        members = {name.replace("__", "-"): value for name, value in arguments.items()}
        value = dispatcher_of(self.vm).execute(command, members)
        check_reply(self.profile.schema, command, value)
        return value

    def error(self, command: str, **arguments: Any) -> tuple[str, str]:
        """Class and text of the refusal."""
        try:
            value = self.ask(command, **arguments)
        except QapiError as error:
            return error.error_class, error.desc
        raise AssertionError(f"{command} succeeded: {value}")

    def hmp(self, line: str) -> str:
        """What the human monitor prints."""
        return run_hmp(self.vm, self._human, line)

    def names(self) -> list[str]:
        """The events' names since the last time."""
        names = [name for name, _data in self.events]
        self.events.clear()
        return names


@pytest.fixture
def start() -> type[Running]:
    """Starts machines: `start("-machine", "q35", profile="10.0")`."""
    return Running


@pytest.fixture
def q35() -> Running:
    """A q35 with two root ports, not running."""
    ports = [a for n in (1, 2) for a in ("-device", f"pcie-root-port,id=rp{n},chassis={n}")]
    return Running("-machine", "q35", "-S", *ports)
