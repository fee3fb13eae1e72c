"""Fleet files: which machines there are, and which of them run here.

    profile = "10.0"
    options = ["-machine", "none", "-nodefaults", "-display", "none"]

    [[machines]]
    name = "vm-{:04}"
    count = 1000

    [[rules]]
    machines = "vm-00*"
    faults = [{ name = "late", command = "query-status" }]
    stages = [{ when = { time = 60 }, then = [{ guest = "panic" }] }]

    [[stages]]
    when = { time = 60 }
    machines = "vm-*"
    pick = 10
    then = [{ exit = 1, signal = "KILL" }]

`{}` in a name is the machine's number within its group, from 0. A rule holds for all machines
whose names match its pattern; it may say what a scenario file may. A stage happens to many
machines at once (see `fleet_stage`). With `shard` (2, 10) only every tenth machine, from the
third on, is here: the same file serves all hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fakeqemu.dataclass import dataclass, replace
from fakeqemu.profile import Profile
from fakeqemu.testing.fleet.stages import FleetStage
from fakeqemu.testing.names import check_name
from fakeqemu.testing.read_file import read_toml
from fakeqemu.testing.scenarios.file import (
    ScenarioError,
    ScenarioFile,
    parse,
    parse_stage,
    strings,
    tables,
)

_KEYS = (
    *("profile", "options", "directory", "control", "seed", "machines", "rules", "stages"),
)
_GROUP = ("name", "count", "first", "profile", "options", "guest", "faults", "stages", "seed")
_RULE = ("machines", "faults", "stages")
_STAGE = ("when", "of", "machines", "pick", "then", "skip", "times")


@dataclass(frozen=True, slots=True)
class FleetMember:
    """One machine of a fleet."""

    name: str
    profile: str
    options: tuple[str, ...]
    #: what is to happen to it, from its group and from the rules that match
    scenarios: tuple[ScenarioFile, ...] = ()


#: characters that name a shard
_SHARD = 40
#: machines of one entry: more would not find room on a host
_MOST_MACHINES = 100_000


@dataclass(frozen=True, slots=True)
class FleetFile:
    """What a file says."""

    path: str
    members: tuple[FleetMember, ...]
    #: where the sockets are made; None: a temporary directory
    directory: str | None = None
    #: unix:PATH
    control: str | None = None
    #: what happens to many at once
    stages: tuple[FleetStage, ...] = ()
    seed: int = 0
    #: the names of all machines, those of other shards included; empty: there is one shard
    everyone: tuple[str, ...] = ()

    @staticmethod
    def load(path: str | Path) -> FleetFile:
        """Read a file. Raises ScenarioError."""
        try:
            data = read_toml(path)
        except ValueError as error:
            raise ScenarioError(str(error)) from None
        return parse_fleet(data, str(path))

    def shard(self, index: int, count: int) -> FleetFile:
        """The part that shard `index` of `count` runs, from 0. Raises ValueError."""
        if not 0 <= index < count:
            raise ValueError(f"there is no shard {index} of {count}: they count from 0")
        everyone = tuple(member.name for member in self.members)
        return replace(self, members=self.members[index::count], everyone=everyone)


def parse_shard(text: str) -> tuple[int, int]:
    """(index, count) of `I/N`. Raises ValueError."""
    index, slash, count = text.partition("/")
    numbers = index.isascii() and index.isdecimal() and count.isascii() and count.isdecimal()
    if not (slash and numbers and len(text) < _SHARD and int(index) < int(count)):
        raise ValueError(f"a shard is I/N with I from 0 to N-1, not {text[:40]!r}")
    return int(index), int(count)


def parse_fleet(data: Mapping[str, Any], path: str) -> FleetFile:
    """A fleet from TOML's values. Raises ScenarioError."""
    _check_keys(data, _KEYS, path, "")
    rules = []
    for number, table in enumerate(tables(data, "rules", path), 1):
        place = f"rules[{number}]"
        _check_keys(table, _RULE, path, place)
        pattern = table.get("machines")
        if not isinstance(pattern, str):
            raise ScenarioError(f"{path}: {place}: machines must be a pattern such as 'vm-*'")
        said = {key: value for key, value in table.items() if key != "machines"}
        rules.append((place, pattern, parse(said, f"{path}: {place}")))
    members: list[FleetMember] = []
    for number, table in enumerate(tables(data, "machines", path), 1):
        members += _group(table, data, rules, path, f"machines[{number}]")
    names = [member.name for member in members]
    if twice := {name for name in names if names.count(name) > 1} if len(
        set(names)
    ) != len(names) else set():
        raise ScenarioError(f"{path}: two machines are called {sorted(twice)[0]!r}")
    for place, pattern, _ in rules:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ScenarioError(f"{path}: {place}: no machine is called {pattern!r}")
    stages = tuple(
        _fleet_stage(table, names, members, path, f"stages[{number}]")
        for number, table in enumerate(tables(data, "stages", path), 1)
    )
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ScenarioError(f"{path}: seed: not a whole number: {seed!r}")
    for key in ("directory", "control"):
        if not isinstance(data.get(key, ""), str):
            raise ScenarioError(f"{path}: {key}: must be a string, not {data[key]!r}")
    return FleetFile(
        path, tuple(members), data.get("directory"), data.get("control"), stages, seed
    )


def _fleet_stage(
    table: Mapping[str, Any], names: list[str], members: list[FleetMember], path: str, place: str
) -> FleetStage:
    _check_keys(table, _STAGE, path, place)
    pick = table.get("pick")
    if pick is not None and (not isinstance(pick, int) or isinstance(pick, bool) or pick < 1):
        raise ScenarioError(f"{path}: {place}: pick must be at least 1, not {pick!r}")
    of, machines = str(table.get("of", "*")), str(table.get("machines", "*"))
    for pattern in (of, machines):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ScenarioError(f"{path}: {place}: no machine is called {pattern!r}")
    said = {key: value for key, value in table.items() if key not in ("of", "machines", "pick")}
    stage = parse_stage(said, path, place)
    # the trigger in the words of those that pull it, the actions in those of whom they hit
    for profile in {member.profile for member in members if fnmatchcase(member.name, machines)}:
        ScenarioFile(path, stages=(stage,)).check(Profile.load(profile))
    return FleetStage(stage, of, machines, pick)


def _group(
    table: Mapping[str, Any],
    data: Mapping[str, Any],
    rules: list[tuple[str, str, ScenarioFile]],
    path: str,
    place: str,
) -> list[FleetMember]:
    _check_keys(table, _GROUP, path, place)
    pattern, count = table.get("name", "vm-{}"), table.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ScenarioError(f"{path}: {place}: count must be at least 1, not {count!r}")
    if count > _MOST_MACHINES:
        raise ScenarioError(f"{path}: {place}: count must be at most {_MOST_MACHINES}, not {count}")
    said = {
        key: value
        for key, value in {"profile": data.get("profile"), **table}.items()
        if key not in ("name", "count", "first") and value is not None
    }
    told = parse(said, f"{path}: {place}")
    profile = told.profile or "next"
    loaded = Profile.load(profile)
    told.check(loaded)
    try:
        shared = strings(data.get("options", []))
    except ValueError as error:
        raise ScenarioError(f"{path}: options: {error}") from None
    first = table.get("first", 0)
    if not isinstance(first, int) or isinstance(first, bool):
        raise ScenarioError(f"{path}: {place}: first must be a whole number, not {first!r}")
    if not isinstance(pattern, str):
        raise ScenarioError(f"{path}: {place}: name must be a string, not {pattern!r}")
    members = []
    for number in range(first, first + count):
        try:
            name = pattern.format(number)
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            raise ScenarioError(f"{path}: {place}: name: {error}") from None
        if not name or "/" in name:
            raise ScenarioError(f"{path}: {place}: {name!r} cannot be a file's name")
        mine = tuple(rule for _, wanted, rule in rules if fnmatchcase(name, wanted))
        for rule in mine:
            rule.check(loaded)
        options = (*shared, *told.options)
        members.append(FleetMember(name, profile, options, (told, *mine)))
    return members


def _check_keys(table: Any, known: tuple[str, ...], path: str, place: str) -> None:
    if not isinstance(table, dict):
        raise ScenarioError(f"{path}: {place}: must be a table")
    for key in table:
        try:
            check_name("key", key, known)
        except ValueError as error:
            raise ScenarioError(f"{path}: {place}{': ' if place else ''}{error}") from None
