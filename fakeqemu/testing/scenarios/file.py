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
    then = ["drop-channels", { event = "WATCHDOG", data = { action = "none" } }]

What is wrong is told with the file, the place in it and the nearest name that would be right,
before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field, replace
from fakeqemu.profile import Profile
from fakeqemu.testing.machine.guest import check_guest
from fakeqemu.testing.names import check_name, nearest
from fakeqemu.testing.read_file import read_toml
from fakeqemu.testing.scenarios.catalog import SCENARIOS
from fakeqemu.testing.scenarios.stages import Stage, build_stage
from fakeqemu.testing.scenarios.toml_lines import located
from fakeqemu.testing.verbs.table import Prepared, prepare

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

_KEYS = ("profile", "options", "seed", "guest", "faults", "stages")


class ScenarioError(ValueError):
    """A scenario file is wrong; the text begins with file, line and place."""

    def __init__(self, text: str) -> None:
        super().__init__(located(text))


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """What a file says; names are checked once it is known which version they are for."""

    path: str
    profile: str | None = None
    #: QEMU options that come before those given elsewhere
    options: tuple[str, ...] = ()
    seed: int = 0
    #: verbs for the guest and for faults: place in the file, verb, arguments
    verbs: tuple[tuple[str, str, Mapping[str, Any]], ...] = ()
    stages: tuple[Stage, ...] = ()
    #: by profile, the verbs with their arguments built
    _prepared: dict[Profile, list[Prepared]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @staticmethod
    def load(path: str | Path) -> ScenarioFile:
        """Read a file. Raises ScenarioError. A scenario's name will do as well."""
        if str(path) in SCENARIOS:
            return parse({"faults": [{"name": str(path)}]}, f"scenario {path}")
        try:
            data = read_toml(path)
        except ValueError as error:
            near = nearest(str(path), SCENARIOS) if Path(path).name == str(path) else None
            hint = f"; did you mean the scenario {near!r}?" if near is not None else ""
            raise ScenarioError(f"{error}{hint}") from None
        return parse(data, str(path))

    def seeded(self, seed: int | None) -> ScenarioFile:
        """With another seed; None: with its own."""
        return self if seed is None else replace(self, seed=seed)

    def check(self, profile: Profile) -> None:
        """Whether the version has all it names. Raises ScenarioError."""
        if profile in self._prepared:
            return
        prepared = []
        for place, verb, arguments in self.verbs:
            with _at(self.path, place):
                prepared.append(prepare(verb, arguments, profile))
        for stage in self.stages:
            with _at(self.path, stage.place):
                stage.actions(profile)
        self._prepared[profile] = prepared

    def apply(self, vm: Machine) -> None:
        """Make it happen to a machine that has not booted. Raises ScenarioError."""
        from fakeqemu.testing.verbs.controller import MachineController

        self.check(vm.profile)
        controller = MachineController(vm)
        controller.set_seed(self.seed)
        for prepared in self._prepared[vm.profile]:
            controller.carry_out(prepared)
        for stage in self.stages:
            controller.stage(stage)


def load_scenario(path: str | Path, seed: int | None = None) -> ScenarioFile:
    """A file or a scenario's name, with another seed if one is given. Raises ScenarioError."""
    return ScenarioFile.load(path).seeded(seed)


def parse(data: Mapping[str, Any], path: str) -> ScenarioFile:
    """A scenario from TOML's values. Raises ScenarioError."""
    for key in data:
        with _at(path, key):
            check_name("key", key, _KEYS)
    verbs: list[tuple[str, str, Mapping[str, Any]]] = []
    with _at(path, "guest"):
        if not isinstance(data.get("guest", {}), dict):
            raise ValueError("must be a table")
        verbs += [("guest", *each) for each in check_guest(data.get("guest")).items()]
    for number, table in enumerate(tables(data, "faults", path), 1):
        place = f"faults[{number}]"
        with _at(path, place):
            if "name" not in table:
                raise ValueError("a fault needs a name")
            parameters = {key: value for key, value in table.items() if key != "name"}
            verbs.append((place, "fault", {"name": table["name"], "parameters": parameters}))
    stages: list[Stage] = []
    for number, table in enumerate(tables(data, "stages", path), 1):
        stages.append(parse_stage(table, path, f"stages[{number}]"))
    with _at(path, "options"):
        options = strings(data.get("options", []))
    profile = data.get("profile")
    if profile is not None:
        with _at(path, "profile"):
            _check_profile(profile)
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ScenarioError(f"{path}: seed: not a whole number: {seed!r}")
    return ScenarioFile(path, profile, tuple(options), seed, tuple(verbs), tuple(stages))


def _check_profile(name: object) -> None:
    """Raise ValueError unless a profile is called so, proposals included."""
    try:
        Profile.load(check_name("profile", str(name).partition("+")[0], Profile.names()))
        Profile.load(str(name))
    except LookupError as error:
        raise ValueError(str(error)) from None


def parse_stage(table: Mapping[str, Any], path: str, place: str) -> Stage:
    """A stage from TOML's values. Raises ScenarioError."""
    with _at(path, place):
        return build_stage(table, place)


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
