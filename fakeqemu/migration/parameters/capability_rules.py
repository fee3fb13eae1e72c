"""Which capabilities may be on together: one table in the order QEMU checks it.

The check sees the merged set and what was on before; the first rule that is violated gives the
error. A capability that a version lacks is never on, so its rules do not apply; where versions
differ a rule has a trait.

See migration/options.c: migrate_caps_check().
"""

from __future__ import annotations

from collections.abc import Callable, Set

from fakeqemu.dataclass import dataclass
from fakeqemu.migration.parameters.parameter_rules import ZERO_COPY
from fakeqemu.traits import Traits


@dataclass(frozen=True, slots=True)
class Situation:
    """The machine's state that rules depend on."""

    #: names that would be on
    new: Set[str]
    #: names that are on now
    old: Set[str]
    traits: Traits
    #: multifd-compression is not none, or tls-creds is set
    compressed_or_tls: bool = False
    #: the run state is inmigrate
    inmigrate: bool = False
    #: the incoming side listens on a socket
    listening: bool = False
    #: the last address given is of a kind that takes several connections, or none was given yet
    multi_channel: bool = True
    #: why the host does not support postcopy; empty if it does
    postcopy_fault: str = ""
    #: "ok", or why background-snapshot is not available: "kernel" or "memory"
    write_tracking: str = "ok"
    #: KVM runs with its dirty ring
    dirty_ring: bool = False


@dataclass(frozen=True, slots=True)
class CapabilityRule:
    """One reason to refuse."""

    bites: Callable[[Situation], bool]
    text: str
    #: text to append that depends on the machine's state
    detail: Callable[[Situation], str] | None = None


#: capabilities incompatible with background-snapshot, in the order QEMU checks
_SNAPSHOT_EXCLUDES = (
    "postcopy-ram",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "return-path",
    "multifd",
    "pause-before-switchover",
    "auto-converge",
    "release-ram",
    "rdma-pin-all",
    "compress",
    "xbzrle",
    "x-colo",
    "validate-uuid",
    "zero-copy-send",
)


def _both(one: str, other: str) -> Callable[[Situation], bool]:
    return lambda s: one in s.new and other in s.new


def _without(one: str, needed: str) -> Callable[[Situation], bool]:
    return lambda s: one in s.new and needed not in s.new


def _late(name: str) -> Callable[[Situation], bool]:
    return lambda s: (
        s.traits.capabilities_fixed_by_listening
        and s.listening
        and name in s.new
        and name not in s.old
    )


def _zero_copy(s: Situation) -> bool:
    return "zero-copy-send" in s.new and (
        "multifd" not in s.new or bool({"compress", "xbzrle"} & s.new) or s.compressed_or_tls
    )


RULES = (
    CapabilityRule(
        lambda s: s.traits.colo_needs_return_path and _without("x-colo", "return-path")(s),
        "Capability 'x-colo' requires capability 'return-path'",
    ),
    CapabilityRule(
        lambda s: (
            "postcopy-ram" in s.new
            and "postcopy-ram" not in s.old
            and s.inmigrate
            and bool(s.postcopy_fault)
        ),
        "Postcopy is not supported",
        lambda s: f": {s.postcopy_fault}" if s.traits.postcopy_fault_in_error else "",
    ),
    CapabilityRule(
        _both("postcopy-ram", "x-ignore-shared"),
        "Postcopy is not compatible with ignore-shared",
    ),
    CapabilityRule(
        lambda s: s.traits.postcopy_excludes_multifd and _both("postcopy-ram", "multifd")(s),
        "Postcopy is not yet compatible with multifd",
    ),
    CapabilityRule(
        lambda s: "background-snapshot" in s.new and s.write_tracking == "kernel",
        "Background-snapshot is not supported by host kernel",
    ),
    CapabilityRule(
        lambda s: "background-snapshot" in s.new and s.write_tracking == "memory",
        "Background-snapshot is not compatible with guest memory configuration",
    ),
    *(
        CapabilityRule(
            _both("background-snapshot", name),
            f"Background-snapshot is not compatible with {name}",
        )
        for name in _SNAPSHOT_EXCLUDES
    ),
    CapabilityRule(_zero_copy, ZERO_COPY),
    CapabilityRule(
        lambda s: (
            not s.traits.capabilities_fixed_by_listening
            and "multifd" in s.new
            and s.inmigrate
            and not s.multi_channel
        ),
        "multifd is not supported by current protocol",
    ),
    CapabilityRule(
        _without("postcopy-preempt", "postcopy-ram"), "Postcopy preempt requires postcopy-ram"
    ),
    CapabilityRule(
        _late("postcopy-preempt"), "Postcopy preempt must be set before incoming starts"
    ),
    CapabilityRule(
        _both("postcopy-preempt", "compress"), "Postcopy preempt not compatible with compress"
    ),
    CapabilityRule(_late("multifd"), "Multifd must be set before incoming starts"),
    CapabilityRule(
        _without("switchover-ack", "return-path"),
        "Capability 'switchover-ack' requires capability 'return-path'",
    ),
    CapabilityRule(
        _both("dirty-limit", "auto-converge"),
        "dirty-limit conflicts with auto-converge either of then available currently",
    ),
    CapabilityRule(
        lambda s: "dirty-limit" in s.new and not s.dirty_ring,
        "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set",
    ),
    CapabilityRule(_both("multifd", "compress"), "Multifd is not compatible with compress"),
    CapabilityRule(
        lambda s: s.traits.multifd_excludes_xbzrle and _both("multifd", "xbzrle")(s),
        "Multifd is not compatible with xbzrle",
    ),
    CapabilityRule(
        _both("mapped-ram", "xbzrle"), "Mapped-ram migration is incompatible with xbzrle"
    ),
    CapabilityRule(
        _both("mapped-ram", "postcopy-ram"), "Mapped-ram migration is incompatible with postcopy"
    ),
)


def first_fault(situation: Situation) -> str | None:
    """The error text of the first rule that is violated; None if the set is allowed."""
    for rule in RULES:
        if rule.bites(situation):
            return rule.text + (rule.detail(situation) if rule.detail else "")
    return None
