"""`fakeqemu record-profile --replies`: a profile without a program.

Each part is what the file says, or what the nearest recorded version has, cut to what the file's
schema and types allow; a device, machine type or object that the nearest lacks is taken from the
next one that has it. The part `composed` says which part came from where. A part that is the same
as a bundled version's is not stored again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from fakeqemu.profile import store
from fakeqemu.profile.inferred import NAMES, infer
from fakeqemu.profile.packing import Packed
from fakeqemu.recorder.composed import machines, texts
from fakeqemu.recorder.composed.bases import Bases
from fakeqemu.recorder.composed.cut import Cut, UnfitError
from fakeqemu.recorder.composed.options import options
from fakeqemu.recorder.composed.replies import Replies
from fakeqemu.recorder.composed.trees import TreeCut
from fakeqemu.recorder.composed.types import Types

FILE = "file"
#: parts that are never another profile's
_OWN = ("version", store.INFERRED)
#: replies that the file has of the machine without a guest, under TCG
_QUERIES = ("query-version", "query-target", "query-tpm-models", "query-tpm-types")


def compose(file: Path, folder: Path, nearest: str, out: TextIO) -> int:
    """Write the profile of the version that answered in `file` into `folder`.

    `nearest` names the recorded version that the rest comes from. Raises OSError, ValueError for
    a file that is no such recording, LookupError for a base that will not do.
    """
    replies = Replies(file)
    bases = Bases.beside(nearest, replies.target)
    composer = Composer(replies, bases)
    made: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for part, (source, make) in composer.parts().items():
        try:
            value = make()
        except store.MissingPartError:
            continue
        if value is not None:
            made[part], sources[part] = value, source
    bundled = bases.nearest.folder.parent == store.schemas_dir()
    shared = [
        part
        for part, value in sorted(made.items())
        if bundled and part not in _OWN and _same(bases.nearest.part(part), value)
    ]
    for old in folder.glob("*.gz") if folder.is_dir() else ():
        old.unlink()
    for part, value in made.items():
        if part not in shared:
            store.write_part(folder, part, value)
    told = {
        "file": replies.name,
        "bases": [profile.name for profile in bases.profiles],
        "parts": sources,
        "others": composer.others(),
        "shared": shared,
    }
    store.write_part(folder, store.COMPOSED, told)
    print(f"{folder}: {len(made)} parts, {len(shared)} of them those of {nearest}", file=out)
    return 0


def _same(known: Any, value: Any) -> bool:
    return bool((known.get() if isinstance(known, Packed) else known) == value)


class Composer:
    """What each part of one composed profile is."""

    def __init__(self, replies: Replies, bases: Bases) -> None:
        self.replies = replies
        self.bases = bases
        self.cut = Cut(replies.value("query-qmp-schema"))
        self.types = Types(replies, bases, self.cut)
        self._inferred = infer(replies.value("query-qmp-schema"), replies.release)
        self.trees = TreeCut(self.types.names, self.types.changes)

    def parts(self) -> dict[str, tuple[str, Callable[[], Any]]]:
        """Part -> where it comes from, and what makes it."""
        said, both, known = FILE, f"{FILE}, recorded versions", "recorded versions"
        value = self.replies.value
        of_machines = machines.Machines(self.replies, self.bases, self)
        return {
            "version": (said, lambda: value("query-version")),
            "schema": (said, lambda: value("query-qmp-schema")),
            store.INFERRED: (known, lambda: self._inferred),
            "commands": (both, self._commands),
            "queries": (both, self._queries),
            "option-groups": (said, lambda: value("query-command-line-options")),
            "options": (known, self._options),
            "help": (both, self._help),
            "hmp-commands": (known, self._hmp_commands),
            "gdb-features": (known, lambda: self.bases.part("gdb-features")),
            "types": (both, lambda: self.types.part),
            "properties": (both, lambda: {"device": self.types.device, "qom": self.types.qom}),
            "cpus": (said, lambda: value("query-cpu-definitions")),
            "expansions": (both, self._expansions),
            "cpu-features": (known, self._cpu_features),
            "machines": (both, of_machines.machines),
            "machine-data": (both, of_machines.data),
            "trees": (both, of_machines.trees),
            "devices": (known, lambda: self._with_trees("devices")),
            "objects": (known, self._objects),
            "trace-events": (known, lambda: self.bases.part("trace-events")),
            "migratability": (known, of_machines.migratability),
            "fixed-types": (known, lambda: self._only(self.bases.part("fixed-types"))),
            "pci-config": (known, of_machines.pci_config),
            "qtree": (known, lambda: self._of_types("qtree")),
            "vmstates": (known, lambda: self._of_types("vmstates")),
            "block-drivers": (known, self._block_drivers),
        }

    def others(self) -> dict[str, dict[str, list[str]]]:
        """Part -> version other than the nearest -> what is of that version."""
        values = self.replies.value
        machines = {entry["name"] for entry in values("query-machines")}
        there = self.types.names | machines | {e["name"] for e in values("query-cpu-definitions")}
        found = {
            part: {name: sorted(things & there) for name, things in sorted(versions.items())}
            for part, versions in sorted(self.bases.taken.items())
        }
        return {
            part: {name: things for name, things in versions.items() if things}
            for part, versions in found.items()
            if any(versions.values())
        }

    # -- commands, options, texts ----------------------------------------------------------

    def _commands(self) -> dict[str, Any]:
        there = {
            entry["name"]
            for entry in self.replies.value("query-qmp-schema")
            if entry["meta-type"] == "command"
        }
        orders = [profile.part("commands") for profile in self.bases.profiles]
        names = [name for name in orders[0]["commands"] if name in there]
        names += sorted(there.difference(names))
        early = {
            name
            for name in names
            for order in (next((o for o in orders if name in o["commands"]), orders[0]),)
            if name in order["preconfig"]
        }
        foreign = orders[0].get("foreign", {})
        return {
            "commands": names,
            "preconfig": sorted(early),
            "foreign": {name: text for name, text in foreign.items() if name in there},
        }

    def _queries(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, reply in self.bases.filled("queries").items():
            if not self.cut.has(name):
                continue
            try:
                found[name] = (
                    {"return": self.cut.reply(name, reply["return"])}
                    if "return" in reply
                    else reply
                )
            except UnfitError:
                continue
        said = {name: self.replies.last(name) for name in _QUERIES}
        found |= {name: reply for name, reply in said.items() if "return" in reply}
        return dict(sorted(found.items()))

    def _options(self) -> list[Any]:
        had = {group["option"] for group in self.bases.part("option-groups")}
        has = {group["option"] for group in self.replies.value("query-command-line-options")}
        others = [row for profile in self.bases.profiles for row in profile.part("options")]
        return options(self.bases.part("options"), others, had, has, self.replies.release)

    def _help(self) -> dict[str, str]:
        found: dict[str, str] = dict(self.bases.part("help"))
        gone = self._gone_values()
        models = {each["name"] for each in self.replies.value("query-cpu-definitions")}
        flags = self._features()
        for request in ("-device help", texts.DEVICES):
            if request in found:
                found[request] = texts.devices(found[request], self.types.names)
        if "-object help" in found:
            known = {row[0] for row in self.bases.part("types")["types"]}
            found["-object help"] = texts.words(found["-object help"], known - self.types.names)
        for request, enum in (
            ("-chardev help", "ChardevBackendKind"),
            ("-netdev help", "NetClientDriver"),
            ("-nic help", "NetClientDriver"),
            ("-display help", "DisplayType"),
            ("-audiodev help", "AudiodevDriver"),
        ):
            if request in found:
                found[request] = texts.words(found[request], gone(enum))
        if "-drive format=help" in found:
            text = found["-drive format=help"]
            found["-drive format=help"] = texts.words_in_line(text, gone("BlockdevDriver"))
        if "-cpu help" in found:
            found["-cpu help"] = texts.cpus(found["-cpu help"], models, flags)
        found["-version"] = texts.version(found["-version"], self.replies.version)
        descs: dict[str, str] = {}
        for profile in reversed(self.bases.profiles):
            descs |= texts.descriptions(profile.help("-machine help"))
        entries = self.replies.value("query-machines")
        found["-machine help"] = texts.machine_help(found["-machine help"], entries, descs)
        return found

    def _gone_values(self) -> Callable[[str], set[str]]:
        """Gives, for the name of an enum, the values that the nearest version has more."""
        naming = self.bases.nearest.overlay_data(NAMES)["names"]
        base = _enums(self.bases.part("schema"), naming)
        own = _enums(self.replies.value("query-qmp-schema"), self._inferred[NAMES]["names"])

        def gone(name: str) -> set[str]:
            return base[name] - own[name] if name in base and name in own else set()

        return gone

    def _hmp_commands(self) -> dict[str, Any]:
        """Without those whose QMP command is not there."""
        base = Cut(self.bases.nearest.part("schema"))

        def there(name: str, *, info: bool) -> bool:
            of_qmp = name.replace("_", "-")
            names = [f"query-{of_qmp}", f"x-query-{of_qmp}"] if info else [of_qmp, name]
            having = [each for each in names if base.has(each)]
            return not having or any(self.cut.has(each) for each in having)

        known = self.bases.part("hmp-commands")
        return {
            **known,
            "commands": [row for row in known["commands"] if there(row["name"], info=False)],
            "info": [row for row in known["info"] if there(row["name"], info=True)],
        }

    # -- CPUs ------------------------------------------------------------------------------

    def _features(self) -> set[str] | None:
        """The features that a CPU has as properties; None if the file does not say."""
        listed = self.replies.value(
            "qom-list-properties", {"typename": f"max-{self.replies.target}-cpu"}
        )
        return None if listed is None else {entry["name"] for entry in listed}

    def _expansions(self) -> dict[str, Any]:
        models = {each["name"] for each in self.replies.value("query-cpu-definitions")}
        said = self.replies.value(
            "query-cpu-model-expansion", {"type": "static", "model": {"name": "max"}}
        )
        maximum = said["model"]["props"] if said is not None else None
        features = self._features()

        def expansion(kind: str, name: str, reply: dict[str, Any]) -> dict[str, Any]:
            if "return" not in reply or maximum is None:
                return reply
            has = features if kind == "full" and features is not None else maximum
            props = reply["return"]["model"].get("props", {})
            props = {each: value for each, value in props.items() if each in has}
            if kind == "static":
                props = {**dict.fromkeys(maximum, False), **props}
            if name == "max":
                props |= {n: v for n, v in maximum.items() if kind == "static" or n in props}
            model = {**reply["return"]["model"], "props": props}
            return {"return": {**reply["return"], "model": model}}

        return {
            kind: {
                name: expansion(kind, name, reply)
                for name, reply in self.bases.filled("expansions", kind).items()
                if name in models
            }
            for kind in ("static", "full")
        }

    def _cpu_features(self) -> dict[str, Any]:
        known = self.bases.part("cpu-features")
        features = self._features()
        if features is None:
            return dict(known)
        return {"unsupported": [row for row in known["unsupported"] if row[0] in features]}

    # -- devices and objects ---------------------------------------------------------------

    def _only(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self.types.names]

    def _of_types(self, part: str) -> dict[str, Any]:
        found = self.bases.filled(part)
        return {name: found[name] for name in sorted(found) if name in self.types.names}

    def _with_trees(self, part: str) -> dict[str, Any]:
        return {name: self._cut_tree(facts) for name, facts in self._of_types(part).items()}

    def _cut_tree(self, facts: dict[str, Any]) -> dict[str, Any]:
        tree = facts.get("tree")
        return facts if tree is None else {**facts, "tree": self.trees.cut(tree)}

    def _objects(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for profile in self.bases.profiles:
            for name, facts in profile.part("objects").get().items():
                # an object that another build lacks is known by the next version
                if not str(facts["error"]).startswith("invalid object type"):
                    found.setdefault(name, self._cut_tree(facts))
        return {name: found[name] for name in sorted(found) if name in self.types.names}

    def _block_drivers(self) -> dict[str, Any]:
        gone = self._gone_values()("BlockdevDriver")
        known = self.bases.part("block-drivers")["unknown"]
        return {"unknown": [name for name in known if name not in gone]}


def _enums(schema: list[dict[str, Any]], names: dict[str, str]) -> dict[str, set[str]]:
    return {
        names[entry["name"]]: set(entry["values"])
        for entry in schema
        if entry["meta-type"] == "enum" and entry["name"] in names
    }
