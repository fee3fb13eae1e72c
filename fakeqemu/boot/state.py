"""What a step of the boot gets: the machine so far, and what the steps before have found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fakeqemu.boot.checks.machine_properties import MachineSettings
from fakeqemu.boot.checks.options import CpuModel
from fakeqemu.boot.error_report import Messages
from fakeqemu.configuration import Configuration
from fakeqemu.dataclass import dataclass, field
from fakeqemu.migration.parameters.early import EarlyParameters
from fakeqemu.migration.parameters.reader import ParameterReader
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


@dataclass(slots=True)
class BootState:
    """One start of one machine, as its steps share it."""

    vm: Machine
    #: what the machine options came to; set by their step
    settings: MachineSettings = field(default_factory=MachineSettings)
    #: -cpu or the machine's own; set by its step
    cpu_model: CpuModel | None = None
    #: reads migration parameters: those of -incoming, then those of the migration object
    parameters: ParameterReader = field(init=False)
    #: what the step under way has to say on standard error
    messages: Messages = field(default_factory=Messages)
    #: what the step under way has read, for the journal
    reads: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vm = self.vm
        self.parameters = ParameterReader(vm.runstate, vm.journal, EarlyParameters())

    @property
    def configuration(self) -> Configuration:
        """The command line."""
        return self.vm.configuration

    @property
    def profile(self) -> Profile:
        """The version that boots."""
        return self.vm.profile

    def read(self, **values: Any) -> None:
        """Note for the journal what the step under way has looked at; JSON values only."""
        self.reads.update(values)

    def warn(self, text: str) -> None:
        """A warning on standard error, which does not end the boot."""
        self.messages.warn(text)


@contextmanager
def error_location(location: str) -> Iterator[None]:
    """What goes wrong inside is the fault of the option at `location`."""
    try:
        yield
    except QapiError as exc:
        error = StartupError(exc.desc, location=location, hint=exc.hint)
        error.earlier = tuple(f"{location}: {line}" for line in exc.earlier)
        raise error from exc
