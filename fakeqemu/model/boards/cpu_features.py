"""Features of a CPU as they were asked for, and what of them TCG does not have.

See target/i386/cpu.c: x86_cpu_expand_features(), x86_cpu_filter_features() and
x86_cpu_get_unavailable_features(). What one feature needs of another is not worked out, but for
those of VMX.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Topology
    from fakeqemu.profile import Profile

_LEVELS = {"socket-id": "sockets", "die-id": "dies", "core-id": "cores", "thread-id": "threads"}
_LONG_MODE = "lm"
_MAX = "max-x86_64-cpu"
#: what `max` says it is, with and without long mode
_VERSION_64 = {"family": 15, "model": 107, "stepping": 1}
_VERSION_32 = {"family": 6, "model": 6, "stepping": 3}
_CHECK, _ENFORCE = "check", "enforce"
_VMX, _SECONDARY = "vmx-", "vmx-secondary-ctls"
#: the register of features that need those controls
_OF_SECONDARY = "MSR(48B"
_DEPENDS = "This feature depends on other features that were not requested: "
_WARNING = "TCG doesn't support requested feature: "


@dataclass(slots=True)
class CpuFeatures:
    """What -cpu says of one model."""

    #: property -> value, for each property that shows it
    values: dict[str, Any] = field(default_factory=dict)
    #: features that were asked for and are not there, in the order of QEMU's words of bits
    unavailable: list[str] = field(default_factory=list)
    #: what is said of each CPU when it is made
    warnings: list[str] = field(default_factory=list)
    #: whether a CPU without all that was asked for is refused
    enforced: bool = False


def work_out(
    profile: Profile, type: str, given: Mapping[str, Any], accelerator: str
) -> CpuFeatures:
    """The features of model `type` with the properties `given`, by their names on -cpu."""
    table = _unsupported(profile)
    missing = set(_of_model(profile, type))
    values: dict[str, Any] = {}
    for name, value in given.items():
        feature = next((each for each in _spellings(profile, type, name) if each in table), None)
        if feature is not None:
            (missing.add if value is True else missing.discard)(feature)
        for each in _spellings(profile, type, name):
            values[each] = value if feature is None or value is not True else False
    # other accelerators ask the host, or nobody
    if accelerator != "tcg":
        return CpuFeatures(dict(given))
    unavailable = [name for name in table if name in missing]
    asked = given.get(_CHECK, True) or given.get(_ENFORCE, False)
    # those of virtualization need it to be asked for first
    lone = [
        name
        for name in unavailable
        if name.startswith(_VMX)
        and (_SECONDARY if table[name].startswith(_OF_SECONDARY) else "vmx") not in missing
    ]
    warnings = [_DEPENDS + table[name] for name in lone]
    if asked:
        warnings += [_WARNING + table[name] for name in unavailable if name not in lone]
    enforced = bool(given.get(_ENFORCE, False)) and bool(unavailable)
    return CpuFeatures(values, unavailable, warnings, enforced)


def version_of_max(profile: Profile, type: str, given: Mapping[str, Any]) -> dict[str, int]:
    """Family, model and stepping that model `max` gives itself where `given` has no family.

    It does so before it knows its features: of long mode it knows as `lm=on` in `given`, not as
    `+lm`. See target/i386/cpu.c: max_x86_cpu_realize().
    """
    if (
        not profile.traits.max_cpu_version_at_realize
        or not profile.is_a(type, _MAX)
        or given.get("family")
    ):
        return {}
    return dict(_VERSION_64 if given.get(_LONG_MODE) else _VERSION_32)


def check_numbers(given: Mapping[str, Any], topology: Topology) -> None:
    """Raise QapiError for an id that the first CPU does not have.

    See hw/i386/x86-common.c: x86_cpu_pre_plug().
    """
    for name, level in _LEVELS.items():
        here = topology.ids(0)[level]
        if given.get(name, here) != here:
            apic_id = topology.apic_id(0)
            raise QapiError(
                f"property {name}: {given[name]} doesn't match set apic-id: {apic_id:#x} "
                f"({name}: {here})"
            )


def _unsupported(profile: Profile) -> dict[str, str]:
    return {name: text for name, text in profile.part("cpu-features")["unsupported"] if name}


def _of_model(profile: Profile, type: str) -> list[str]:
    for definition in profile.cpu_definitions:
        if definition["typename"] == type:
            found: list[str] = definition["unavailable-features"]
            return found
    return []


def _spellings(profile: Profile, type: str, name: str) -> list[str]:
    """A feature's properties: aliases differ in punctuation only."""
    plain = _plain(name)
    names = (entry["name"] for entry in profile.device_properties(type))
    return [each for each in names if _plain(each) == plain]


def _plain(name: str) -> str:
    return name.replace("_", "-").replace(".", "-")
