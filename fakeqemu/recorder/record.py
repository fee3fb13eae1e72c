"""`fakeqemu record-profile`: make a profile of a real QEMU, part by part.

What a binary cannot be asked is left out: the profile's part `missing` says which part, and why.
A recording that was interrupted goes on with the parts that are not there yet.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from fakeqemu.profile import Profile, store
from fakeqemu.profile.inferred import infer
from fakeqemu.qapi.errors import QapiError
from fakeqemu.recorder import options, parts
from fakeqemu.recorder.board import machines
from fakeqemu.recorder.board.devices import record_devices
from fakeqemu.recorder.board.migration import record_blockers, record_fixed_types, record_vmstates
from fakeqemu.recorder.board.pciconfig import record_pci_config
from fakeqemu.recorder.board.qtree import record_qtree
from fakeqemu.recorder.board.variants import record_variants
from fakeqemu.recorder.board.visits import Visits
from fakeqemu.recorder.monitors import record_gdb_features, record_hmp
from fakeqemu.recorder.objects import record_objects
from fakeqemu.recorder.qemu import Emulator, Gone, Qemu

#: what may go wrong with one part while the others can still be had
_FAILURES = (
    *(Gone, QapiError, subprocess.SubprocessError),
    *(RuntimeError, LookupError, ValueError, OSError),
)


class Step(NamedTuple):
    """What is recorded together."""

    parts: tuple[str, ...]
    record: Callable[[Visits, Callable[[], Profile]], dict[str, Any]]
    #: seconds that it takes beside the others, roughly, for the share that is done
    weight: int = 1
    #: the targets that have it; empty: all
    targets: tuple[str, ...] = ()
    #: the targets that do without it
    others: tuple[str, ...] = ()
    #: whether the others cannot do without it
    first: bool = False


def record(
    program: str,
    folder: Path,
    *,
    only: Collection[str] = (),
    resume: bool = False,
    out: TextIO,
) -> int:
    """Record into `folder`, with a line on `out` for each step; 1 if parts are missing.

    `only`: these parts. `resume`: none that is there already. Raises LookupError for a part that
    does not exist, OSError for a program or a folder that cannot be used.
    """
    known = [part for step in STEPS for part in step.parts]
    if unknown := sorted(set(only) - set(known)):
        raise LookupError(f"no part {unknown[0]!r}; there are {', '.join(sorted(known))}")
    try:
        emulator = Emulator(program)
    except (Gone, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        raise OSError(f"{program} does not answer as a QEMU: {_reason(error)}") from None
    visits = Visits(emulator)
    missing = store.missing_parts(folder)
    steps = [
        step
        for step in STEPS
        if (not step.targets or emulator.target in step.targets)
        and emulator.target not in step.others
    ]
    wanted = [
        step
        for step in steps
        if not (resume and all(_recorded(folder, part) for part in step.parts))
        and (not only or set(step.parts) & set(only) or _needed(step, folder))
    ]
    done, total = 0, sum(step.weight for step in wanted)
    for step in wanted:
        print(f"{100 * done // total:3}%  {', '.join(step.parts)}", end="", file=out, flush=True)
        begun = time.monotonic()
        for part in step.parts:
            missing.pop(part, None)
        try:
            found = step.record(visits, lambda: Profile(str(folder), folder))
        except _FAILURES as error:
            reason = _reason(error)
            missing.update((part, reason) for part in step.parts)
            for part in step.parts:
                # what an earlier recording has left would pass for this program's
                Path(store.part_path(folder, part)).unlink(missing_ok=True)
            print(f": not recorded: {reason}", file=out, flush=True)
        else:
            for part, value in found.items():
                store.write_part(folder, part, value)
            print(f" ({time.monotonic() - begun:.0f} s)", file=out, flush=True)
        store.write_part(folder, store.MISSING, dict(sorted(missing.items())))
        done += step.weight
    print(f"100%  {folder}", file=out)
    return 1 if missing else 0


def _needed(step: Step, folder: Path) -> bool:
    """Whether others look at its parts, and they are not there."""
    return step.first and not all(_recorded(folder, part) for part in step.parts)


def _recorded(folder: Path, part: str) -> bool:
    return Path(store.part_path(folder, part)).is_file()


def _reason(error: BaseException) -> str:
    """One line."""
    if isinstance(error, Gone):
        return "the program ended"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {error.timeout:.0f} s"
    if isinstance(error, KeyError):
        return f"no {error}"
    return str(error).split("\n")[0] or type(error).__name__


# -- the steps -----------------------------------------------------------------------------------


def _basics(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    with Qemu(visits.emulator, *visits.emulator.none) as qemu:
        schema = qemu.value("query-qmp-schema")
        found = {
            "version": qemu.value("query-version"),
            "schema": schema,
            "option-groups": qemu.value("query-command-line-options"),
        }
    return {
        **found,
        "commands": parts.record_commands(visits.emulator),
        "queries": parts.record_queries(visits.emulator, schema),
        "help": parts.record_help(visits.emulator),
    }


def _inferred(visits: Visits, profile: Callable[[], Profile]) -> dict[str, Any]:
    return {store.INFERRED: infer(profile().part("schema"), visits.emulator.version)}


def _options(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    known: dict[str, bool] = {}
    for profile in store.profile_names():
        if Path(store.part_path(store.schemas_dir() / profile, "options")).is_file():
            for name, _, works in store.read_part(store.schemas_dir() / profile, "options"):
                known[name] = known.get(name, True) and works
    return {"options": options.record_options(visits.emulator, known)}


def _types(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    types = parts.record_types(visits.emulator)
    names = [name for name, *_ in types["types"]]
    return {"types": types, "properties": parts.record_properties(visits.emulator, names)}


def _cpus(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    definitions, expansions = parts.record_cpus(visits.emulator)
    return {"cpus": definitions, "expansions": expansions}


def _cpu_features(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    return parts.record_cpu_features(visits.emulator)


def _machines(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    entries = parts.record_compat(visits.emulator)
    names = [entry["name"] for entry in entries]
    about = machines.describe_machines(visits.emulator, names)
    data, trees = machines.record_machines(visits, names)
    most = {entry["name"]: entry["cpu-max"] for entry in entries}
    machines.record_topologies(visits.emulator, data, most)
    machines.add_deprecations(about, data)
    machines.add_migration_compat(entries, data)
    return {
        "machines": {"entries": entries, "about": about},
        "machine-data": data,
        "trees": trees,
    }


def _monitor(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    return {"hmp-commands": record_hmp(visits.emulator)}


def _devices(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    return record_devices(visits)


def _objects(visits: Visits, profile: Callable[[], Profile]) -> dict[str, Any]:
    entries = {entry["name"]: entry for entry in profile().part("schema")}
    variants = entries[entries["object-add"]["arg-type"]]
    if "variants" not in variants:
        # object-add took any members before 6.0
        types = [name for name in profile().qom_types if profile().is_a(name, "user-creatable")]
        return {"objects": record_objects(visits.emulator, types)}
    tag = next(m["type"] for m in variants["members"] if m["name"] == variants["tag"])
    return {"objects": record_objects(visits.emulator, entries[tag]["values"])}


def _trace_events(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    return {"trace-events": parts.record_trace_events(visits.emulator)}


def _gdb_features(visits: Visits, _: Callable[[], Profile]) -> dict[str, Any]:
    return {"gdb-features": record_gdb_features(visits.emulator)}


def _block_drivers(visits: Visits, profile: Callable[[], Profile]) -> dict[str, Any]:
    return parts.record_block_drivers(visits.emulator, profile())


#: about the program itself
_ABOUT = ("version", "schema", "option-groups", "commands", "queries", "help")
#: in their order: later ones look at what earlier ones have written
STEPS: tuple[Step, ...] = (
    Step(_ABOUT, _basics, 4, first=True),
    Step((store.INFERRED,), _inferred, first=True),
    Step(("options",), _options, 6),
    Step(("types", "properties"), _types, 3),
    Step(("cpus", "expansions"), _cpus, 2),
    Step(("cpu-features",), _cpu_features, targets=("x86_64", "i386")),
    Step(("machines", "machine-data", "trees"), _machines, 20),
    Step(("variants",), lambda v, p: record_variants(v, p()), 5, others=("x86_64", "i386")),
    Step(("hmp-commands",), _monitor),
    Step(("devices",), _devices, 20),
    Step(("objects",), _objects, 4),
    Step(("trace-events",), _trace_events),
    Step(("gdb-features",), _gdb_features),
    Step(("migratability",), lambda v, p: record_blockers(v, p()), 30),
    Step(("fixed-types",), lambda v, p: record_fixed_types(v.emulator, p())),
    Step(("pci-config",), lambda v, p: record_pci_config(v, p()), 10, targets=("x86_64", "i386")),
    Step(("qtree",), lambda v, p: record_qtree(v, p()), 15),
    Step(("vmstates",), lambda v, _: record_vmstates(v.emulator)),
    Step(("block-drivers",), _block_drivers),
)
