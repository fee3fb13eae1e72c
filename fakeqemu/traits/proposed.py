"""What proposals change in behaviour, by name; the defaults are what released versions do.

Which proposal sets which is said in `fakeqemu.proposals`.
"""

from __future__ import annotations

from fakeqemu.dataclass import dataclass


@dataclass(frozen=True, eq=False, repr=False)
class ProposedTraits:
    """Behaviour that no released version has."""

    @property
    def tap_has_local(self) -> bool:
        """Whether TAPs take part in local migration, and read `local`."""
        return self.tap_local_since is not None

    #: there is a store of parameters that are read before the migration object exists
    early_parameters: bool = False
    #: `-incoming config:...` fills it
    incoming_config: bool = False
    #: `-incoming` takes parameters as a JSON object that is no channel
    incoming_json: bool = False
    #: `-incoming` takes a JSON object that has an address, parameters, or both
    incoming_json_with_address: bool = False
    #: an `-incoming` that only has parameters makes the machine wait
    lone_parameters_wait: bool = False
    #: what a parameter that nobody has given reads as before the migration object exists:
    #: "null" (no value), "zeroed" (zero, off, the first of an enumeration) or "defaults"
    unset_early_reads: str = "null"
    #: a cpr channel, and state left by an exec, say which mode this is
    cpr_channel_implies_mode: bool = True
    #: `local` cannot be changed while incoming is awaited once a TAP has read it
    local_immutable_while_incoming: bool = False
    #: the version from which on a machine type's TAPs take part in local migration by default;
    #: None: there is no such thing
    tap_local_since: tuple[int, int] | None = None
    #: capabilities are parameters too
    capabilities_are_parameters: bool = False
    #: they may be set while a migration runs
    capabilities_in_running_migration: bool = False
    #: inline parameters of a migration stay in force and are shown afterwards
    inline_parameters_stored: bool = False
    #: parameters are properties of another type than the migration object, or of none ("none");
    #: empty: of the migration object
    parameters_type: str = ""
    #: a TAP may take its descriptors along in the CPR modes (`cpr=on`)
    tap_cpr: bool = False
    #: -preconfig waits, with its monitors, before any backend but theirs is made; so does a
    #: command line of nothing but -qmp
    monitor_before_backends: bool = False
    #: users can make a migration object
    migration_object_creatable: bool = False
    #: a second one takes the place of the first, rather than be refused
    second_migration_object_current: bool = False
    #: migrate_prepare takes the address, not migrate_run
    prepare_takes_address: bool = False
    #: an outgoing migration can be prepared too
    prepare_outgoing: bool = False
    #: a prepared migration is a job
    prepare_jobs: bool = False
