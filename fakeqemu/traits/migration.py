"""What may differ between versions in migration, and what proposals would change, by name.

The defaults are the newest version's.
"""

from __future__ import annotations

from fakeqemu.dataclass import dataclass


@dataclass(frozen=True, eq=False, repr=False)
class ProposedTraits:
    """Behaviour that no released version has; the defaults are what those do.

    Which proposal sets which is said in `fakeqemu.proposals`.
    """

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


@dataclass(frozen=True, eq=False, repr=False)
class MigrationTraits(ProposedTraits):
    """How one version migrates; the defaults are those of 11.1."""

    #: a size below zero given as a bare string is out of range, not malformed (10.0 on)
    negative_size_out_of_range: bool = True
    #: a hexadecimal size may carry a unit: 0x10k (7.2)
    hex_size_suffix: bool = False
    #: faults read `Option multifd-channels expects`, not `Parameter 'multifd_channels' expects`
    range_text_option: bool = True
    #: a size may begin with its dot: .5k (10.0 on)
    size_bare_fraction: bool = True
    #: what x-colo-lost-heartbeat says without COLO
    colo_refusal: str = "VM is not in COLO mode"
    #: parameters that migrate-set-parameters accepts and ignores (7.2)
    inert_parameters: frozenset[str] = frozenset()
    #: postcopy-ram refuses multifd (10.0)
    postcopy_excludes_multifd: bool = False
    #: x-colo needs return-path (11.1)
    colo_needs_return_path: bool = True
    #: multifd refuses xbzrle (10.0 on)
    multifd_excludes_xbzrle: bool = True
    #: multifd and postcopy-preempt must be on before listening; 7.2 asks about the transport
    capabilities_fixed_by_listening: bool = True
    #: migrate and migrate-incoming take channels, and judge addresses before anything (10.0 on)
    migration_channels: bool = True
    #: the incoming side has a `setup` state, which a failed start never leaves (10.0 on)
    incoming_setup_state: bool = True
    #: a tcp: address refuses options it does not know (11.1)
    inet_refuses_unknown_options: bool = True
    #: RDMA errors are printed as well as returned (7.2)
    rdma_prints_errors: bool = False
    #: what a descriptor that is neither socket nor pipe meets: "accept", "warn" or "refuse"
    fd_to_file: str = "refuse"
    #: precopy passes through the state `device` even without pause-before-switchover (10.0 on)
    precopy_device_state: bool = True
    #: whether a snapshot in the background that was broken off leaves the guest's memory
    #: watched, so that no other can be made (7.2)
    snapshot_leaves_memory_watched: bool = False
    #: expected-downtime has no bound while nothing is known of the channel's speed (11.1)
    expected_downtime_unbounded: bool = True
    #: the first MIGRATION_PASS comes before the state `active` (7.2, 10.0)
    pass_before_active: bool = False
    #: the cause of a failed load is part of its error, not a line of its own (11.1)
    load_error_has_cause: bool = True
    #: why the host cannot do postcopy is part of the error (10.0 on)
    postcopy_fault_in_error: bool = True
    #: migrate_cancel is refused once postcopy has begun (10.0 on)
    migrate_cancel_in_postcopy_refused: bool = True
    #: a failed connection of an outgoing migration is also said on standard error (7.2, 10.0)
    reports_connect_failure: bool = False
    #: the section that could not be sent is named on standard error
    reports_failed_section: bool = True
    #: the number that memory's section has; block migration stood before it (up to 9.0)
    ram_section: int = 1
    #: what a channel that closes during setup is reported as; empty: as any other (7.2)
    setup_failure: str = "ram_save_setup failed: Input/output error"
    #: an error in set-up is shown by query-migrate, not only logged (10.0 on)
    setup_error_recorded: bool = True
    #: query-migrate shows a recorded error in every state, not only in `failed` (10.0 on)
    error_shown_always: bool = True
    #: the first bytes of every connection must be those of a channel (11.1)
    incoming_first_bytes_checked: bool = True
    #: a resumption that is refused at once leaves its reason in query-migrate (11.1)
    resume_refusal_recorded: bool = True
    #: what the source says when the other end hangs up instead of shaking hands
    tls_hangup: str = (
        "TLS handshake failed: Error in the pull function.:"
        " Unable to read from socket: Connection reset by peer"
    )
    #: what a channel that breaks during the switchover is reported as, around the cause;
    #: empty: nothing is recorded (7.2)
    switchover_write_error: str = "Failed to save iterable device state: {}"
    #: what is said, and what the error is, where images are still written to at a switchover
    inactivate_failure: tuple[str, str] = (
        "migration_block_inactivate: bdrv_inactivate_all() failed: -1",
        "Block inactivate failed during switchover",
    )
    #: the error that a cancelled switchover leaves behind; empty: none (7.2)
    switchover_interrupted_error: str = "Switchover is interrupted"
    #: a source that stood still is in `postmigrate` even if the migration came to nothing (7.2)
    stopped_source_ends_postmigrate: bool = False
    #: what migrate-pause says outside of postcopy
    migrate_pause_refusal: str = (
        "migrate-pause is currently only supported during postcopy-active or"
        " postcopy-recover state"
    )
    #: capabilities that a stream carries and that must be the same on both sides
    stream_validates: frozenset[str] = frozenset({"x-ignore-shared", "mapped-ram"})
    #: a stream announces that its source has stopped, by a command (10.0 on)
    stream_switchover_start: bool = True
    #: the description at a stream's end has the configuration section too (10.0 on)
    stream_describes_configuration: bool = True
    #: the run state's section tells whether the guest was suspended (10.0 on)
    stream_global_state_suspend: bool = True
    #: marks in the ram section keep multifd channels in step (10.0 on; before, section ends do)
    stream_multifd_flush: bool = True
    #: every machine has an audio section (7.2)
    stream_audio_always: bool = False
    #: the first of the sections that each CPU has (`cpu_common` up to 10.0)
    stream_cpu_section: str = "apic"
    #: RAM records: the end of file is looked for, only zeros make a zero page (10.0 on)
    stream_ram_strict: bool = True
    #: the command that enables COLO: "take" it, ask for the "capability", or "refuse" it
    stream_colo: str = "refuse"
    #: CPR state ends in a list of VFIO devices (11.1)
    cpr_state_has_vfio: bool = True
    #: a descriptor's byte on a cpr channel is read even if no descriptor came (11.1)
    cpr_service_byte_always: bool = True
    #: what a part of CPR state that is not known is refused with; its name, and whose it is
    cpr_unknown_subsection: str = "VM subsection '{}' in '{}' does not exist"
    #: the descriptor of an iommufd object is handed to the next process (11.1)
    iommufd_saved: bool = True
    #: a cpr channel may be a socket by its descriptor (11.1)
    cpr_channel_by_fd: bool = True
    #: a process reads CPR state left by one that executed it (11.1)
    cpr_exec: bool = True
    #: query-yank lists a migration before its main channel is asked for (11.1)
    yankable_while_cpr_waits: bool = True
    #: where `migrate` has a URI, a missing cpr channel is noticed after all else (11.1)
    cpr_channel_missed_last: bool = True
    #: calc-dirty-rate takes units of time, and milliseconds (10.0 on)
    dirty_rate_time_units: bool = True
    #: a measurement's start is told in seconds since 1970, not of the monotonic clock (10.0 on)
    dirty_rate_since_epoch: bool = True
    #: set_vcpu_dirty_limit refuses numbers below zero (10.0 on)
    hmp_dirty_limit_checked: bool = True
    #: a migration that fails is `failing` until its guest is as it was (11.1)
    failing_state: bool = True
    #: a destination takes its disks when its guest starts, never before (10.0 on)
    disks_taken_late: bool = True
    #: a source that goes over to postcopy is `postcopy-active` before its guest stops (7.2)
    postcopy_active_before_stop: bool = False
    #: both sides of a postcopy pass through `postcopy-device` (11.1)
    postcopy_device_state: bool = True
    #: a resumed postcopy passes through `postcopy-recover-setup`, and migrate-pause is taken
    #: in `postcopy-recover` too (10.0 on)
    postcopy_recover_setup_state: bool = True
    #: query-migrate shows the downtime of a postcopy under way (10.0 on)
    postcopy_shows_downtime: bool = True
    #: what migrate-pause leaves behind as error; empty: nothing (7.2)
    migrate_pause_error: str = "Postcopy migration is paused by the user"
    #: the channel of postcopy-preempt is opened, and awaited, at the beginning (7.2)
    preempt_channel_at_setup: bool = False
    #: a destination without devices that ask for it sends the ack of switchover-ack (10.0)
    switchover_ack_from_destination: bool = False
    #: a destination that fails reports it on the return path (10.0 on)
    reports_failed_load: bool = True
    #: a bad return path message is shown by query-migrate, not only logged (10.0 on)
    return_path_error_recorded: bool = True
    #: info migrate in blocks with units, globals only on demand (11.1)
    hmp_info_migrate_grouped: bool = True
    #: -smbios has slots (type 9), and families of processors (10.0 on)
    smbios_slots: bool = True
    #: a missing -option-rom is named as a file that is not there, not as a ROM of the board (7.2)
    option_rom_error_plain: bool = False
    #: the NBD server offers extended headers (8.2 on)
    nbd_extended_headers: bool = True
    #: qemu-io takes -r, which has the buffers of a request registered (10.0 on)
    qemu_io_registered_buffers: bool = True
    #: the monitor prints all that qemu-io's info says of the format, its heading too (10.0 on)
    qemu_io_info_whole: bool = True
    #: qemu-io knows zones, and discards asynchronously (10.0 on)
    qemu_io_zones: bool = True
    #: what a blkdebug without its file of rules says, before the reason; `{}` is the path (11.1)
    blkdebug_no_config: str = "Could not open '{}'"
    #: every job stands still for a moment when the graph of nodes changes (10.0 on)
    graph_change_pauses_jobs: bool = True
    #: a job that is woken while its speed makes it wait goes on waiting (10.0 on)
    jobs_sleep_on: bool = True
    #: an inactive node cannot be a child of an active one, nor be written to (10.0 on)
    inactive_children_checked: bool = True
    #: a disk that cannot go to the thread of its virtio-scsi controller is refused (7.2)
    scsi_iothread_required: bool = False
    #: exports that end together are announced newest first (10.0 on)
    exports_end_newest_first: bool = True
    #: what an NBD request of too many bytes is refused with
    nbd_too_long_text: str = "len ({length}) is larger than max len ({most})"
    #: an NBD request without its magic is answered before the client has to go (7.2)
    nbd_answers_bad_magic: bool = False
    #: -drive if=xen stands for a -device, as if=virtio does (10.0 on)
    xen_drive_is_device: bool = True
    #: the migration object exists before netdevs, late objects and monitors (7.2)
    migration_object_before_late_backends: bool = False
    #: `-incoming` is parsed, and refused, while options are parsed (10.0 on)
    incoming_parsed_with_options: bool = True
    #: a section that cannot be saved is reported at once, besides as the error (to 10.0)
    pre_save_failure_reported: bool = False
    #: query-migrate shows that (10.0 on)
    pre_save_failure_recorded: bool = True
    #: what is said of a channel's file that cannot be made, and of one that cannot be read
    channel_file_create_text: str = "Could not create '{}': {}"
    channel_file_open_text: str = "Could not open '{}': {}"
