"""`Profile`: the one door to the recorded data of a version.

A profile never changes and is shared by all machines of a process, so `load` gives the same
object for the same name and every value handed out is to be treated as read-only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache, cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import replace
from fakeqemu.profile import machine_types, store
from fakeqemu.profile.facts import (
    MachineType,
    MigrationDefaults,
    Option,
    QomType,
    TreeObject,
    Version,
)
from fakeqemu.profile.packing import Packed
from fakeqemu.qapi.json.writer import Fixed, FixedReplies
from fakeqemu.qapi.schema import Naming, Schema
from fakeqemu.traits import Traits, traits_of

if TYPE_CHECKING:
    from pathlib import Path

    from fakeqemu import proposals
    from fakeqemu.profile import overlay

#: the QOM type of the migration object
_MIGRATION = "migration"


class Profile:
    """What one QEMU version has. Make it with `Profile.load`."""

    def __init__(
        self,
        name: str,
        folder: str | PathLike[str],
        base: Profile | None = None,
        chosen: tuple[proposals.Chosen, ...] = (),
    ) -> None:
        """`chosen`: proposals laid over `base`, in place of what is in `folder`."""
        self.name = name
        self._folder = os.fspath(folder)
        #: the proposals that are in it, those of its base included
        self.proposals: tuple[proposals.Chosen, ...] = ()
        self._parts: dict[str, Any] = {}
        self._trees: dict[tuple[str, str], TreeObject] = {}
        self._descents: dict[tuple[str, str], bool] = {}
        self.replies = FixedReplies()
        self._base = base
        self._rules: list[overlay.OverlayRule] = []
        self._own: tuple[proposals.Chosen, ...] = ()
        self._added: machine_types.Added = {}
        if base is not None:
            from fakeqemu import proposals
            from fakeqemu.profile import overlay

            self._added = base._added
            self.proposals = proposals.combine((*base.proposals, *chosen))
            self._own = tuple(each for each in self.proposals if each not in base.proposals)
            for each in self._own:
                rules = proposals.rules_of(store.read_proposal(each.proposal.name), each)
                self._rules += overlay.parse_rules(rules)
        elif store.is_overlay(self._folder):
            from fakeqemu.profile import overlay

            described = overlay.read_overlay(self.folder / store.OVERLAY)
            self._base = Profile.load(described.base, described.proposals)
            self._rules = described.rules
            self._added = described.machine_types
            self.proposals = self._base.proposals

    @staticmethod
    def names(*, composed: bool = True) -> list[str]:
        """The profiles that come along, by version; without `composed` those of a real program."""
        return store.profile_names(composed=composed)

    @staticmethod
    def load(name: str | Path | Profile, proposals: Iterable[str] = ()) -> Profile:
        """The profile called `name` (`10.0`, `10.0/aarch64`), or the one in the folder `name`.

        Proposals (`local`, `config-argument:stored=on`) are laid over it; as part of the name
        they stand behind a plus sign each: `11.1+local`. LookupError names the known ones;
        ProposalError, a LookupError, is about proposals, OverlayError about an overlay's file.
        """
        added = ",".join(proposals)
        if isinstance(name, Profile):
            return _load(name.name, added) if added else name
        return _load(str(name), added)

    @property
    def folder(self) -> Path:
        """Where its parts lie, or those of its base."""
        from pathlib import Path

        return Path(self._folder)

    @property
    def base(self) -> Profile | None:
        """The profile this one is laid over; None for a recorded one."""
        return self._base

    # -- identity --------------------------------------------------------------------------

    @cached_property
    def version(self) -> Version:
        """Which QEMU this is."""
        reply = self.part("version")
        return Version(**reply["qemu"], package=reply["package"])

    @cached_property
    def traits(self) -> Traits:
        """How this version behaves where data cannot tell."""
        if self._base is not None:
            from fakeqemu import proposals

            return proposals.changed(self._base.traits, self._own)
        return traits_of(self.name, (self.version.major, self.version.minor))

    @property
    def schema_reply(self) -> Fixed:
        """What query-qmp-schema returns: SchemaInfo, as recorded."""
        return self.replies.once(lambda: self.part("schema"), "query-qmp-schema")

    @cached_property
    def schema(self) -> Schema:
        """The QAPI schema, with the names and widths that introspection hides."""
        naming = Naming.from_json(self.overlay_data("qapi-names"))
        if self.proposals:
            from fakeqemu.profile import proposed

            naming = replace(naming, integers=proposed.integer_types(self, naming.integers))
        return Schema(self.part("schema"), naming)

    def overlay_data(self, name: str) -> dict[str, Any]:
        """This version's part of the hand-made or scripted data `schemas/overlays/NAME.json`.

        See `store.overlay_data`; that of the base where it has none of its own.
        """
        found = store.overlay_data(name, self.name, self._folder)
        if found is not None:
            return found
        return {} if self._base is None else self._base.overlay_data(name)

    @property
    def target(self) -> str:
        """What it runs: "x86_64"."""
        return str(self.query("query-target")["return"]["arch"])

    @property
    def missing(self) -> dict[str, str]:
        """Parts that its recording could not get: part -> reason."""
        return self._base.missing if self._base is not None else store.missing_parts(self._folder)

    # -- commands --------------------------------------------------------------------------

    @cached_property
    def commands(self) -> tuple[str, ...]:
        """Every QMP command in the order of `query-commands`."""
        return tuple(self.part("commands")["commands"])

    @cached_property
    def preconfig_commands(self) -> frozenset[str]:
        """Those that may run before the machine is initialised (`-preconfig`)."""
        return frozenset(self.part("commands")["preconfig"])

    @property
    def foreign_commands(self) -> dict[str, str]:
        """Commands that a binary for several targets lists and this one refuses, with the text."""
        texts: dict[str, str] = self.part("commands").get("foreign", {})
        return texts

    def query(self, command: str) -> dict[str, Any]:
        """The recorded reply of a query command: `{"return": ...}` or `{"error": ...}`.

        Asked of `-machine none -accel tcg`; KeyError if it was not recorded.
        """
        reply: dict[str, Any] = self.part("queries")[command]
        return reply

    # -- command line ----------------------------------------------------------------------

    @property
    def option_groups(self) -> list[dict[str, Any]]:
        """The reply of `query-command-line-options`."""
        groups: list[dict[str, Any]] = self.part("option-groups")
        return groups

    @cached_property
    def command_line_options(self) -> tuple[Option, ...]:
        """Every option the binary knows, undocumented ones too, by name."""
        return tuple(Option(*entry) for entry in self.part("options"))

    def help(self, request: str) -> str:
        """What QEMU prints for `request`, such as `-machine help`; KeyError if not recorded."""
        text: str = self.part("help")[request]
        return machine_types.help_with_added(text, self._added) if self._added else text

    # -- machines --------------------------------------------------------------------------

    @cached_property
    def machines(self) -> tuple[MachineType, ...]:
        """Every machine type, in the order of `query-machines`."""
        packed: Packed = self.part("machines")
        about = packed.get("about")
        recorded = [
            MachineType.of(entry, about.get(entry["name"], {})) for entry in packed.get("entries")
        ]
        return tuple(machine_types.with_added(recorded, self._added))

    def machine(self, name: str) -> MachineType:
        """The machine type of that name or alias; KeyError if there is none."""
        for machine in self.machines:
            if name in (machine.name, machine.alias):
                return machine
        raise KeyError(name)

    @cached_property
    def default_machine(self) -> MachineType | None:
        """What runs when the command line names no machine."""
        return next((m for m in self.machines if m.is_default), None)

    def recorded_machine(self, name: str) -> str:
        """The name under which parts have what was recorded of machine type `name`."""
        return self._added.get(name, name)

    def per_machine(self, name: str) -> dict[str, Any]:
        """What was seen on a fresh machine of type `name` (not an alias), `-S -nodefaults`.

        The replies that fakeqemu/recorder/board/machines.py names; with default devices under
        names that end in `-defaults`; `globals` of the migration object; `warnings`, lines on
        standard error. KeyError for a machine that could not be started.
        """
        data: dict[str, Any] = self.part("machine-data").get(self.recorded_machine(name))
        return data

    def object_tree(self, machine: str, *, defaults: bool) -> TreeObject:
        """The QOM tree from `/` down of a fresh machine of type `machine`, `-S`, no display.

        With its default devices, or without (`-nodefaults`). KeyError as `per_machine`.
        """
        path = ("defaults" if defaults else "nodefaults", machine)
        if path not in self._trees:
            packed: Packed = self.part("trees")
            like = self.recorded_machine(machine)
            root = machine_types.tree_renamed(packed.get(path[0], like), machine, like)
            self._trees[path] = TreeObject.of(root)
        return self._trees[path]

    # -- types -----------------------------------------------------------------------------

    @cached_property
    def qom_types(self) -> dict[str, QomType]:
        """Every QOM type, in the order of `qom-list-types` with `abstract`."""
        recorded = {
            name: QomType(name, parent, abstract)
            for name, parent, abstract in self.part("types")["types"]
        }
        if not self._added:
            return recorded
        like = {name: machine_types.typename_like(name, self._added)
                for name in machine_types.types_with_added(recorded, self._added)}
        return {name: replace(recorded[old], name=name) for name, old in like.items()}

    def implementors(self, name: str) -> list[str]:
        """The types that are, descend from or implement type or interface `name`, in order."""
        recorded = self.part("types")["interfaces"].get(name)
        if recorded is not None:
            return machine_types.types_with_added(recorded, self._added)
        return [t for t in self.qom_types if self.is_a(t, name)]

    def is_a(self, name: str, ancestor: str) -> bool:
        """Whether type `name` is, descends from or implements `ancestor`."""
        if (name, ancestor) not in self._descents:
            self._descents[name, ancestor] = self._descends(name, ancestor)
        return self._descents[name, ancestor]

    def _descends(self, name: str, ancestor: str) -> bool:
        interface = self.part("types")["interfaces"].get(ancestor)
        if interface is not None:
            return machine_types.typename_like(name, self._added) in interface
        here: str | None = name
        while here is not None and here != ancestor:
            known = self.qom_types.get(here)
            here = known.parent if known is not None else None
        return here is not None

    def root_of(self, name: str) -> str:
        """The last ancestor of type `name`; KeyError for an unknown type."""
        here = self.qom_types[name]
        while here.parent is not None:
            here = self.qom_types[here.parent]
        return here.name

    def device_properties(self, typename: str) -> list[dict[str, Any]]:
        """`device-list-properties` of a device type; KeyError for anything else."""
        if self.traits.parameters_type:
            from fakeqemu.profile import proposed

            return proposed.device_properties(self, typename, _MIGRATION)
        recorded: list[dict[str, Any]] = self.part("properties").get("device", typename)
        return recorded

    def qom_properties(self, typename: str) -> list[dict[str, Any]]:
        """`qom-list-properties` of any type; KeyError if it was not recorded."""
        like = machine_types.typename_like(typename, self._added)
        properties: list[dict[str, Any]] = self.part("properties").get("qom", like)
        return properties

    def machine_properties(self, machine: MachineType) -> list[dict[str, Any]]:
        """What a machine of that type has before its board is there, as qom-list-properties.

        Of a type that QEMU dies of listing (7.2's microvm): what the running machine shows.
        """
        try:
            return self.qom_properties(machine.typename)
        except KeyError:
            node = self.object_tree(machine.name, defaults=True).at("machine")
            return machine_types.properties_shown(node)

    # -- CPUs ------------------------------------------------------------------------------

    @property
    def cpu_definitions(self) -> list[dict[str, Any]]:
        """The reply of `query-cpu-definitions`."""
        return list(self.part("cpus"))

    def cpu_model_expansion(self, model: str, kind: str) -> dict[str, Any]:
        """`query-cpu-model-expansion`'s reply as `query` gives one; `kind` static or full.

        KeyError for an unknown model.
        """
        reply: dict[str, Any] = self.part("expansions").get(kind, model)
        return reply

    # -- migration -------------------------------------------------------------------------

    @cached_property
    def migration_defaults(self) -> MigrationDefaults:
        """Parameters and capabilities before machine types and options touch them."""
        properties = self.part("properties").get("device", _MIGRATION)
        return MigrationDefaults.of(self.per_machine("none"), properties)

    # -- parts -----------------------------------------------------------------------------

    def part(self, name: str) -> Any:
        """One part's value, read (and overlaid) once. Raises MissingPartError if not recorded."""
        if name not in self._parts:
            if self._base is None:
                self._parts[name] = store.read_part(self._folder, name)
            else:
                from fakeqemu.profile import overlay

                self._parts[name] = overlay.apply(self._rules, name, self._base.part(name))
        return self._parts[name]

    def __repr__(self) -> str:
        return f"Profile({self.name!r})"


@cache
def _load(name: str, added: str) -> Profile:
    if "/" not in name and "+" in name:
        name, _, named = name.partition("+")
        added = ",".join((named.replace("+", ","), added))
    if added.strip(","):
        from fakeqemu.profile.proposed import with_proposals

        return with_proposals(_load(name, ""), added)
    own = "/" in name and name not in store.target_profile_names()
    folder = name if own else f"{store.schemas_path()}/{name}"
    if "\0" in name or not store.is_profile(folder):
        raise LookupError(f"no profile '{name}' (there are {', '.join(Profile.names())})")
    if name in _under_way:
        from fakeqemu.profile import overlay

        raise overlay.OverlayError(f"{folder.rstrip('/')}/{store.OVERLAY}: it is its own base")
    _under_way.append(name)
    try:
        profile = Profile(folder.rstrip("/").rpartition("/")[2] if own else name, folder)
        if own and profile.base is not None:
            from fakeqemu.profile.proposed import check_rules

            check_rules(profile, {rule.part for rule in profile._rules})
    finally:
        _under_way.remove(name)
    return profile


#: profiles whose bases are being loaded
_under_way: list[str] = []
