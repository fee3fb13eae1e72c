"""What proposals change in behaviour, by name; the defaults are what released versions do.

Which proposal sets which is said in `fakeqemu.proposals`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False, repr=False)
class ProposedTraits:
    """Behaviour that no released version has."""

    #: there is a store of parameters that are read before the migration object exists
    early_parameters: bool = False
    #: `-incoming config:...` fills it
    incoming_config: bool = False
