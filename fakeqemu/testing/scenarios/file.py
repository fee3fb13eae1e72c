"""Scenario files: a situation written down, for the command line, the API and a marker.

    profile = "10.0"
    options = ["-machine", "none"]
    seed = 1

    [guest]
    memory = "4G"
    dirty-rate = "100M/s"

    [[faults]]
    name = "late"
    command = "query-migrate"

    [[stages]]
    when = { migration-pass = 3 }
    then = ["drop-channel", { event = "WATCHDOG", data = { action = "none" } }]

What is wrong is told with the file, the place in it and the nearest name that would be right,
before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakeqemu.migration.transfer.model import Workload
from fakeqemu.profile import Profile
from fakeqemu.testing.faults.injector import Faults
from fakeqemu.testing.faults.model import Fault, check_fault
from fakeqemu.testing.machine.guest import guest_does, manners_of, workload_members
from fakeqemu.testing.names import check_name
from fakeqemu.testing.read_file import read_toml
from fakeqemu.testing.scenarios.catalog import SCENARIOS, faults_named
from fakeqemu.testing.scenarios.stages import Stage, Stages, check_stage
from fakeqemu.testing.scenarios.toml_lines import located

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

_KEYS = ("profile", "options", "seed", "guest", "faults", "stages")


class ScenarioError(ValueError):
    """A scenario file is wrong; the text begins with file, line and place."""

    def __init__(self, text: str) -> None:
        super().__init__(located(text))


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """What a file says, checked as far as it can be without a profile."""

    path: str
    profile: str | None = None
    #: QEMU options that come before those given elsewhere
    options: tuple[str, ...] = ()
    seed: int = 0
    #: each with its place in the file
    faults: tuple[tuple[str, Fault], ...] = ()
    stages: tuple[Stage, ...] = ()
    #: what a migration has to carry, as members of Workload
    guest: Mapping[str, int] = field(default_factory=dict)
    #: how the guest reacts to what the host asks
    manners: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def load(path: str | Path) -> ScenarioFile:
        """Read a file. Raises ScenarioError. A scenario's name will do as well."""
        if str(path) in SCENARIOS:
            return parse({"faults": [{"name": str(path)}]}, f"scenario {path}")
        try:
            data = read_toml(path)
        except ValueError as error:
            raise ScenarioError(str(error)) from None
        return parse(data, str(path))

    def seeded(self, seed: int | None) -> ScenarioFile:
        """With another seed; None: with its own."""
        return self if seed is None else replace(self, seed=seed)

    def check(self, profile: Profile) -> None:
        """Whether the version has all it names. Raises ScenarioError."""
        for place, fault in self.faults:
            with _at(self.path, place):
                check_fault(fault, profile)
        for stage in self.stages:
            with _at(self.path, stage.place):
                check_stage(stage, profile)

    def apply(self, vm: Machine) -> None:
        """Make it happen to a machine that has not booted. Raises ScenarioError."""
        self.check(vm.profile)
        if self.guest:
            # read when a migration begins
            setattr(vm, "guest_workload", Workload(**self.guest))  # noqa: B010
        if self.manners:
            guest_does(vm, "behave", self.manners)
        faults = Faults.of(vm)
        faults.seed = self.seed
        for place, fault in self.faults:
            with _at(self.path, place):
                faults.add(fault)
        stages = Stages(faults)
        for stage in self.stages:
            with _at(self.path, stage.place):
                stages.lay(stage)


def load_scenario(path: str | Path, seed: int | None = None) -> ScenarioFile:
    """A file or a scenario's name, with another seed if one is given. Raises ScenarioError."""
    return ScenarioFile.load(path).seeded(seed)


def parse(data: Mapping[str, Any], path: str) -> ScenarioFile:
    """A scenario from TOML's values. Raises ScenarioError."""
    for key in data:
        with _at(path, key):
            check_name("key", key, _KEYS)
    faults: list[tuple[str, Fault]] = []
    for number, table in enumerate(tables(data, "faults", path), 1):
        place = f"faults[{number}]"
        with _at(path, place):
            if "name" not in table:
                raise ValueError("a fault needs a name")
            parameters = {key: value for key, value in table.items() if key != "name"}
            faults += [(place, each) for each in faults_named(table["name"], parameters)]
    stages: list[Stage] = []
    for number, table in enumerate(tables(data, "stages", path), 1):
        place = f"stages[{number}]"
        with _at(path, place):
            stages.append(_stage(table, place))
    with _at(path, "guest"):
        if not isinstance(data.get("guest", {}), dict):
            raise ValueError("must be a table")
        guest = workload_members(data.get("guest"))
        manners = manners_of(data.get("guest"))
    with _at(path, "options"):
        options = strings(data.get("options", []))
    profile = data.get("profile")
    if profile is not None:
        with _at(path, "profile"):
            check_name("profile", profile, Profile.names())
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ScenarioError(f"{path}: seed: not a whole number: {seed!r}")
    return ScenarioFile(
        path, profile, tuple(options), seed, tuple(faults), tuple(stages), guest, manners
    )


def parse_stage(table: Mapping[str, Any], path: str, place: str) -> Stage:
    """A stage from TOML's values. Raises ScenarioError."""
    with _at(path, place):
        return _stage(table, place)


def _stage(table: Mapping[str, Any], place: str) -> Stage:
    for key in table:
        check_name("key", key, ("when", "then", "skip", "times"))
    when, then = table.get("when"), table.get("then")
    if not isinstance(when, dict):
        raise ValueError("when must be a table such as { migration-pass = 3 }")
    if isinstance(then, str | dict):
        then = [then]
    if not isinstance(then, list):
        raise ValueError("then must be a list of actions")
    times = table.get("times", 1)
    # 0 stands for "each time": TOML has no null
    return Stage(when, tuple(then), int(table.get("skip", 0)), times or None, place)


def strings(value: Any) -> list[str]:
    """A list of strings. Raises ValueError."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("options must be a list of strings")
    return value


def tables(data: Mapping[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    """A list of tables, empty if there is none. Raises ScenarioError."""
    found = data.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ScenarioError(f"{path}: {key}: must be a list of tables ([[{key}]])")
    return found


@contextmanager
def _at(path: str, place: str) -> Iterator[None]:
    """Errors from within, with their place."""
    try:
        yield
    except ScenarioError:
        raise
    except (ValueError, TypeError) as error:
        raise ScenarioError(f"{path}: {place}: {error}") from None
