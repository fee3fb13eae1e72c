"""How versions *behave* differently: named traits, decided here and nowhere else.

What a version *has* (commands, types, machines, properties) is data in `schemas/`. A trait is
for what introspection cannot show. Code asks `profile.traits.NAME`; no module compares
version numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Traits:
    """Behaviour of one QEMU version; the defaults are those of 11.1."""

    # -- boot ------------------------------------------------------------------------------
    #: the migration object exists before netdevs, late objects and monitors (7.2)
    migration_object_before_late_backends: bool = False
    #: `-incoming` is parsed, and refused, while options are parsed (10.0 on)
    incoming_parsed_with_options: bool = True
    #: `-incoming config:...` and the early parameter store exist (the design thread)
    early_parameters: bool = False

    # -- wire ------------------------------------------------------------------------------
    #: JSON errors carry `LINE:COL: ` and the newer parser's words (11.1)
    json_positions: bool = True

    # -- run state -------------------------------------------------------------------------
    #: query-status has `singlestep` (7.2)
    status_singlestep: bool = False

    # -- migration -------------------------------------------------------------------------


_NEWEST = Traits()

#: profile name -> traits; an overlay profile without an entry has those of its base
TRAITS: dict[str, Traits] = {
    "7.2": replace(
        _NEWEST,
        migration_object_before_late_backends=True,
        incoming_parsed_with_options=False,
        json_positions=False,
        status_singlestep=True,
    ),
    "10.0": replace(_NEWEST, json_positions=False),
    "11.1": _NEWEST,
    "next": replace(_NEWEST, early_parameters=True),
}
