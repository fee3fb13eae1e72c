"""The shapes in which a profile hands out what a version has."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from fakeqemu.dataclass import dataclass, field


@dataclass(frozen=True, slots=True)
class Version:
    """Which QEMU it is."""

    major: int
    minor: int
    micro: int
    #: the distribution's addition, empty for a plain build
    package: str

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.micro}"

    def reply(self) -> dict[str, Any]:
        """As `query-version` and the greeting show it."""
        return {
            "qemu": {"micro": self.micro, "minor": self.minor, "major": self.major},
            "package": self.package,
        }

#: a path of the object tree, or a child's name with a number
_PATH = re.compile(r"[/\[]")
_VERSIONED = re.compile(r"-(\d+)\.(\d+)$")


@dataclass(frozen=True, slots=True)
class MachineType:
    """One machine type (`-machine NAME`)."""

    name: str
    #: the short name, such as `q35`; None for most
    alias: str | None
    #: chosen when the command line names none
    is_default: bool
    deprecated: bool
    #: what QEMU warns of when a deprecated type is used, empty if not known
    deprecation_reason: str
    cpu_max: int
    #: QOM type of its CPUs; None where the machine has no usual one
    default_cpu_type: str | None
    #: id of the memory object made for `-m`; None where there is none
    default_ram_id: str | None
    hotpluggable_cpus: bool
    numa_mem_supported: bool
    #: the words after its name in `-machine help`
    desc: str
    #: (QOM type, property, value as a string), in the order QEMU applies them
    compat_props: tuple[tuple[str, str, str], ...]
    #: this machine's entry of `query-machines`, without compat-props
    entry: dict[str, Any] = field(repr=False)
    #: the lines of `-machine NAME,help`
    options: tuple[str, ...] = field(repr=False, default=())

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version in its name; () where it has none."""
        match = re.search(r"-(\d+(?:\.\d+)+)\Z", self.name)
        return tuple(map(int, match[1].split("."))) if match else ()

    @classmethod
    def of(cls, entry: dict[str, Any], about: dict[str, Any]) -> MachineType:
        """Out of its entry in `query-machines` and what else was recorded about it."""
        return cls(
            name=entry["name"],
            alias=entry.get("alias"),
            is_default=entry.get("is-default", False),
            deprecated=entry["deprecated"],
            deprecation_reason=about.get("deprecation", ""),
            cpu_max=entry["cpu-max"],
            default_cpu_type=entry.get("default-cpu-type"),
            default_ram_id=entry.get("default-ram-id"),
            hotpluggable_cpus=entry["hotpluggable-cpus"],
            numa_mem_supported=entry["numa-mem-supported"],
            desc=about.get("desc", ""),
            compat_props=tuple(
                (p["qom-type"], p["property"], p["value"]) for p in entry.get("compat-props", ())
            ),
            entry={k: v for k, v in entry.items() if k != "compat-props"},
            options=tuple(about.get("options", ())),
        )

    @property
    def typename(self) -> str:
        """Its QOM type."""
        return f"{self.name}-machine"

    @property
    def version(self) -> tuple[int, int] | None:
        """The version in its name, which says what it is compatible with; None if it has none."""
        found = _VERSIONED.search(self.name)
        return None if found is None else (int(found[1]), int(found[2]))

    def option_names(self) -> list[str]:
        """What may be set with `-machine NAME,OPTION=...`."""
        return [line.split("=", 1)[0].strip() for line in self.options if "=<" in line]


@dataclass(frozen=True, slots=True)
class QomType:
    """One QOM type."""

    name: str
    #: None at a root
    parent: str | None
    abstract: bool


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the command line, named without its dash."""

    name: str
    takes_argument: bool
    #: False for one QEMU knows but refuses for this target
    supported: bool = True


@dataclass(frozen=True, slots=True)
class MigrationDefaults:
    """Migration parameters and capabilities of a new machine."""

    #: `query-migrate-parameters` of `-machine none`
    parameters: dict[str, Any]
    #: capability names in the order of `query-migrate-capabilities`
    capabilities: tuple[str, ...]
    #: property name -> its entry in `device-list-properties` of the migration object
    properties: dict[str, dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, fresh: dict[str, Any], properties: list[dict[str, Any]]) -> MigrationDefaults:
        """Out of what a fresh machine shows, and `device-list-properties` of its object."""
        return cls(
            parameters=dict(fresh["parameters"]),
            capabilities=tuple(each["capability"] for each in fresh["capabilities"]),
            properties={each["name"]: each for each in properties},
        )

    def property_of(self, name: str) -> str | None:
        """The property (`-global migration.PROPERTY`) of parameter or capability `name`.

        It is called the same, or has `x-` before it; None when there is none.
        """
        return next((p for p in (name, f"x-{name}") if p in self.properties), None)


@dataclass(frozen=True, slots=True)
class TreeObject:
    """One object of a recorded QOM tree.

    Made on demand from packed data and then kept: every machine of the type starts from the
    same objects, which nobody may change.
    """

    type: str
    #: (property name, type as `qom-list` shows it), in its order, `child<...>` included
    properties: tuple[tuple[str, str], ...]
    #: property name -> what `qom-get` returned, None where that tells of the moment (clock
    #: time, thread ids); absent for `type`, for children and for what cannot be read
    values: dict[str, Any] = field(repr=False)
    #: property name -> (class, text) of the error `qom-get` gave
    errors: dict[str, tuple[str, str]] = field(repr=False)
    _children: Callable[[], dict[str, TreeObject]] = field(repr=False, compare=False)
    #: property name -> type, without children
    shapes: dict[str, str] = field(init=False, repr=False, compare=False)
    #: names of the values that are texts with a path or a number of a device in them
    paths: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        children = {name for name, shape in self.properties if shape.startswith("child<")}
        shapes = {"type": "string"}
        shapes.update((name, shape) for name, shape in self.properties if name not in children)
        object.__setattr__(self, "shapes", shapes)
        paths = (n for n, v in self.values.items() if isinstance(v, str) and _PATH.search(v))
        object.__setattr__(self, "paths", tuple(paths))

    @classmethod
    def of(cls, node: dict[str, Any]) -> TreeObject:
        """Out of a recorded tree, its children when somebody looks."""
        return cls(
            type=node["type"],
            properties=tuple((name, kind) for name, kind in node["properties"]),
            values=node["values"],
            errors={name: (e["class"], e["desc"]) for name, e in node["errors"].items()},
            _children=cache(lambda: {n: cls.of(child) for n, child in node["children"].items()}),
        )

    @property
    def children(self) -> dict[str, TreeObject]:
        """Its children by property name."""
        return self._children()

    def at(self, path: str) -> TreeObject:
        """The object at relative `path` (`unattached/device[0]`); KeyError if none."""
        here = self
        for name in filter(None, path.split("/")):
            here = here.children[name]
        return here
