"""What may differ between versions, by name; the defaults are the newest version's."""

from __future__ import annotations

from collections.abc import Mapping

from fakeqemu.dataclass import dataclass, field
from fakeqemu.traits.command_line import CommandLineTraits


# One instance a version: identity is equality, and what is not generated need not be compiled
# at every start.
@dataclass(frozen=True, eq=False, repr=False)
class Traits(CommandLineTraits):
    """Behaviour of one QEMU version; the defaults are those of 11.1."""

    # -- boot ------------------------------------------------------------------------------
    #: that the late backends are there is a phase of its own (10.0; hw/core/qdev.c:
    #: phase_advance(), PHASE_LATE_BACKENDS_CREATED)
    late_backends_phase: bool = True
    #: an unknown machine type is named in the error (10.0 on)
    unknown_machine_named: bool = True
    #: a zero in -smp is an error, not a warning (10.0 on)
    smp_zero_refused: bool = True
    #: -smp with a level the machine lacks: `dies > 1 not supported`, not `dies not supported`
    smp_unsupported_names_limit: bool = True
    #: -no-fd-bootchk is a machine property (10.0 on)
    fd_bootchk_is_property: bool = True
    #: -xen-domid needs KVM only, not Xen (10.0 on)
    xen_domid_with_kvm: bool = True
    #: what is wrong with another argument of HMP's sync-profile
    hmp_sync_profile_refusal: str = "invalid parameter '{}', expecting 'on', 'off', or 'reset'"
    #: an object has the name of the machine's own memory, {0}; what follows the text
    memory_name_taken: tuple[str, str] = (
        "object's id '{0}' is reserved for the default RAM backend, it can't be used for any "
        "other purposes",
        "Change the object's 'id' to something else or disable automatic creation of the default "
        "RAM backend by setting 'memory-backend={0}' with '-machine'.",
    )
    #: short names of character device backends (7.2)
    chardev_aliases: Mapping[str, str] = field(default_factory=dict)
    #: the largest number of APIC ids there may be without KVM (7.2)
    apic_id_limit: int | None = None
    #: only a vc takes sizes (11.1)
    chardev_sizes_checked: bool = True
    #: an SMBIOS structure's PCI device has to be there, and isapc takes all types (7.2)
    smbios_device_missed: bool = False
    #: `info ramblock` tells where a block lies in the process, and whether it is read-only
    ramblock_shows_host: bool = True
    #: of threads that an AMD CPU does not have; {}: how many there are in a core
    hyperthreading_warning: str = (
        "This family of AMD CPU doesn't support hyperthreading({}). Please configure -smp options "
        "properly or try enabling topoext feature."
    )
    #: oldest machine version in which a 32-bit CPU has to reach all memory; None: in none (7.2)
    memory_of_32_bit_cpus_checked_since: tuple[int, int] | None = (8, 2)
    #: how many entries virtio-net's queues for sending may have depends on the backend (10.0 on)
    tx_queue_by_backend: bool = True
    #: virtio-gpu's blob=on on a host without shared buffers
    blob_refusal: str = "need rutabaga or udmabuf for blob resources"
    #: what is said of a block driver's module that is not installed, besides
    block_module_missing: str = (
        "Unable to load module {}. Perhaps you want to install qemu-block-extra or "
        "qemu-block-supplemental package?"
    )
    #: a TPM emulator's failures come with the system's words (up to 10.0)
    tpm_errors_have_errno: bool = False
    #: of a TPM emulator's answer the result is read first, and the rest only if that is 0 (10.0 on)
    tpm_result_read_first: bool = True
    #: a TPM's storage is locked again when a guest goes on that was suspended, too (10.0 on)
    tpm_relocks_suspended: bool = True
    #: the protocol features of vhost-user that it knows, bit by bit
    vhost_user_protocol_features: int = 0x6FFFFF
    #: the largest payload of one of its messages, in bytes
    vhost_user_payload: int = 1072
    #: a back end is told of a reset, where it can be (10.0 on)
    vhost_user_resets_device: bool = True
    #: it consents to each queue that is enabled (10.0 on) and to each descriptor of one (11.1 on)
    vhost_user_enable_acked: bool = True
    vhost_user_vring_fds_acked: bool = True
    #: events say when the back end of a netdev comes and goes (10.0 on)
    vhost_user_netdev_events: bool = True

    # -- gdb server ------------------------------------------------------------------------
    #: the longest packet: 4096 up to 10.0
    gdb_packet_size: int = 0x20020
    #: single registers are read and written only once a client has read the features (7.2)
    gdb_registers_need_features: bool = False
    #: a stop is reported only to a client that waits for it (10.0 on)
    gdb_stop_reply_awaited: bool = True
    #: the answers to `?` and vAttach name a core, not a thread (11.1)
    gdb_halt_names_core: bool = True
    #: kill is a shutdown by the guest, not an exit (10.0 on)
    gdb_kill_is_shutdown: bool = True
    #: the signal reported for an I/O error: SIGSTOP, SIGIO in 7.2
    gdb_io_error_signal: int = 17
    #: writing where no memory is is refused (10.0 on)
    gdb_write_refused: bool = True
    #: the same for physical memory, and reading (11.1)
    gdb_physical_refused: bool = True
    #: a step backwards is refused once, not twice (11.1)
    gdb_reverse_refused_once: bool = True
    #: the CPU that vCont resumes is the current one from then on (10.0 on)
    gdb_resumed_is_current: bool = True
    #: x87 registers are read from the top of the stack on (10.0 on)
    gdb_fpu_from_top: bool = True
    #: a character device that cannot be made is missed in the server's own words, too (10.0 on)
    gdb_chardev_missed: bool = True
    #: what `gdbserver` prints when it fails, of the reason and the device
    hmp_gdbserver_failure: tuple[str, ...] = ("{0}",)

    # -- wire ------------------------------------------------------------------------------
    #: JSON errors carry `LINE:COL: ` and the newer parser's words (11.1)
    json_positions: bool = True

    # -- run state -------------------------------------------------------------------------
    #: query-status has `singlestep` (7.2)
    status_singlestep: bool = False
    #: a suspended guest that is stopped and started again is still suspended (10.0 on)
    suspend_survives_stop: bool = True

    # -- the guest and its ports -----------------------------------------------------------
    #: isa-debug-exit asks for a shutdown instead of ending the process at once (10.0 on)
    debug_exit_is_shutdown: bool = True
    #: a qtest server says FAIL where it cannot move the clock or intercept lines (10.0 on)
    qtest_reports_failure: bool = True

    # -- devices and objects ---------------------------------------------------------------
    #: device_add turns its arguments into an option string's texts first (7.2)
    device_add_as_options: bool = False
    #: a device id that is no identifier is refused by the device itself (11.1)
    qdev_id_checked: bool = True
    #: a PCIe root bus, too, takes devices later, as it says until the first reset (7.2)
    root_bus_takes_devices_until_reset: bool = False
    #: device_add refuses a bus without hotplug even before a running migration (7.2)
    device_add_asks_bus_first: bool = False
    #: a hot-plugged PCI device is refused once its port has one (10.0 on)
    port_takes_one_hotplug: bool = True
    #: device_del of a CPU is taken before the guest enabled CPU hotplug (11.1)
    cpu_unplug_without_guest: bool = True
    #: a PCI address given as a number is checked for its range (10.0 on)
    devfn_checked: bool = True
    #: what filter-dump says of a file that it cannot make
    net_dump_text: str = "Could not open '{0}': {1}"
    #: info pci says of a region that nobody has placed that it is not mapped (10.0 on)
    hmp_pci_unmapped: bool = True
    #: what inject-nmi says on a machine that has none
    no_nmi_text: str = "machine does not provide NMIs"
    #: what virtio-rng asks of max-bytes
    rng_max_bytes: str = "positive"
    #: how device_del says that a path leads to something else
    not_a_device: str = "{} is not a device"
    #: object-del of an object in use says what kind of object it is (11.1)
    object_in_use_names_kind: bool = True
    #: tap looks at fd, fds, helper and queues together (11.1)
    tap_exclusive_text: bool = True
    #: a stdio device is made on a closed descriptor (11.1: an earlier file has got the number)
    stdio_may_be_closed: bool = True
    #: what the guest agent says of an unknown process (10.0 on: a format without its percent sign)
    agent_unknown_pid: str = "PID ld does not exist"
    #: before what the guest's system says of a program that it cannot run (7.2)
    agent_exec_prefix: str = ""
    #: the guest agent can be asked for one of a program's outputs alone, or for both in one
    agent_capture_modes: bool = True
    #: what tap and dgram say of a descriptor that is none
    tap_bad_fd: str = "Can't set file descriptor {fd} non-blocking: {error}: {error}"
    #: the object tree has its container of user-creatable objects before the machine (10.0 on)
    objects_container_first: bool = True
    #: the human monitor's registers have gdb's names (11.1)
    hmp_registers_by_gdb_name: bool = True
    #: it prints zero in C's `%#x` as other numbers (11.1)
    hmp_zero_prefixed: bool = True
    #: machine type microvm has a device tree for `dumpdtb` (11.1)
    microvm_has_device_tree: bool = True
    #: what the human monitor adds to `no_device_tree`
    no_device_tree_hint: str = (
        "(Perhaps it doesn't support FDT at all, or perhaps you need to provide an FDT with the"
        " -fdt option?)"
    )
    #: recording of sound is deprecated, and says so (11.1)
    hmp_capture_warning: str = "warning: '{}' is deprecated since v10.2, to be removed\n"
    #: what a passed-through device says before the fault of its `fd`
    vfio_fd_prefix: str = "Could not parse object fd {}:"
    #: it says where a device's number should have been that the kernel may lack (11.1)
    vfio_cdev_hint: str = " (is your kernel config missing CONFIG_VFIO_DEVICE_CDEV?)"
    #: `x-balloon-allowed` is checked before its group is opened (10.0 on)
    vfio_balloon_first: bool = True
    #: what it says of a group that cannot be opened: path, reason
    vfio_group_text: str = "Could not open '{}': {}"
    #: a PCIe port warns of devices in other slots than the first (10.0 on)
    pcie_slot_warning: bool = True
    #: what a memory device is told where there is no address space for any
    no_device_memory: str = (
        "the configuration is not prepared for memory devices (e.g., for memory hotplug),"
        " consider specifying the maxmem option"
    )
    #: a memory device's size is a multiple of its memory's alignment, not of its own (10.0 on)
    memory_size_aligned_to_memory: bool = True
    #: a virtio-mem that the guest has nothing of can be unplugged (10.0 on)
    virtio_mem_unplug: bool = True
    #: what the others say to that
    virtio_md_unplug_text: str = "this virtio based memory devices cannot be unplugged"
    #: a virtio-mem takes no memory backend that allocates beforehand (10.0 on)
    virtio_mem_own_prealloc: bool = True
    #: a bus that is full is told from one that is not there (11.1)
    full_bus_named: bool = True
    #: what balloon calls its argument
    balloon_parameter: str = "value"
    #: expire_password refuses a time that is none (10.0 on)
    expire_time_checked: bool = True
    #: how set_password refuses to do with VNC what only SPICE does
    vnc_connected_text: str = "parameter 'connected' must be 'keep' when 'protocol' is 'vnc'"
    #: a backend that is deleted under its NIC keeps its sockets until the NIC goes (10.0 on)
    deleted_backend_lives_on: bool = True
    #: a host forwarding rule without a host port means port 0 (until 10.0)
    forward_port_may_be_empty: bool = False
    #: a memory backend that may only read its file makes it if it is missing (until 10.0)
    readonly_memory_file_made: bool = False
    #: info network tells what netdev stream is doing, and its error (10.0 on)
    netdev_stream_states: bool = True
    #: a board refuses to start for a NIC model it does not know (7.2)
    unknown_nic_model_refused: bool = False
    #: the port of VMware's mouse is refused without a keyboard controller
    vmport_needs_i8042: bool = True
    #: a board puts a NIC at the addr= of -net nic (7.2); others read it and forget it
    net_nic_addr_used: bool = False
    #: a board with PCI makes one NIC of each model to see what it is, which -global concerns
    nic_models_made: bool = True
    #: -acpitable: a file that cannot be opened
    acpi_file_text: str = "Could not open '{}': {}"
    #: what is said of files of the host by the name that the user gave: path, strerror
    host_open_text: str = "Could not open '{}': {}"
    #: what vhost-vsock says of a descriptor that is none (11.1)
    vhost_vsock_fd_text: str = "Can't set file descriptor {fd} non-blocking: {error}: {error}"
    #: the same of the devices of vhost (11.1)
    vhost_vsock_open_text: str = "Could not open '{}': {}"
    vhost_scsi_open_text: str = "Could not open '{}': {}"
    #: -object that preallocates memory is waited for once net backends are made
    prealloc_wait: bool = True
    #: -cpu family=, model= or stepping= out of range: name, value, largest
    cpu_version_text: str = "parameter '{0}' can be at most {2}"
    #: what those take
    cpu_version_type: str = "uint64"
    #: CPU model max has a family only once it is realized (10.0 on)
    max_cpu_version_at_realize: bool = True
    #: -cpu vendor= of another length
    cpu_vendor_text: str = "value of property 'vendor' must consist of exactly 12 characters"
    #: ISA NICs of -nic and -net are made before all others
    isa_nics_first: bool = True
    #: netdev user's ipv6-net with a length that is no number
    ipv6_net_length_text: str = "parameter 'ipv6-net' expects a number after '/'"
    #: netdev socket looks at the kind of a descriptor before it uses it (10.0 on)
    socket_fd_type_first: bool = True
    #: a listening netdev stream that is to reconnect
    stream_server_reconnect_text: str = (
        "'reconnect-ms' option is incompatible with socket in server mode"
    )
    #: memory-backend-ram that is shared is a nameless file (10.0 on)
    shared_ram_is_file: bool = True
    #: a memory backend's file has to be of whole pages (10.0 on)
    memory_file_size_checked: bool = True
    #: shared memory that is shorter than the pages to be mapped
    backing_store_too_small: str = (
        "{name} backing store size 0x{file:x} is too small for 'size' option 0x{size:x} plus"
        " 'offset' option 0x{offset:x}"
    )

    #: what a VNC password is refused with when there is no VNC display
    no_vnc_for_password: str = "No VNC display is present"

    #: info cpus names each CPU's model (11.1)
    hmp_cpus_model: bool = True

    #: how dump-guest-memory refuses while an incoming migration is awaited
    dump_incoming_text: str = "Dump not allowed during migration."
    #: why there can be no Windows dump
    win_dump_refusal: str = "win-dump: no vmcoreinfo note from the guest"
    #: how dump-guest-memory says that its protocol is wrong
    dump_protocol_text: str = "parameter 'protocol' must start with 'file:' or 'fd:'"
    #: how it refuses to dump nothing
    dump_zero_length_text: str = "parameter 'length' expects a non-zero size"
    #: what kind of machine the header of a kdump names
    kdump_machine: str = "Unknown"
    #: what screendump says of a file that cannot be written
    screendump_open_text: str = "Could not create '{}': {}"
    #: commands of the human monitor that are there for other targets, which it cannot tell from
    #: those that come too early (11.1)
    hmp_commands_of_other_targets: tuple[str, ...] = (
        "dump-skeys", "info cmma", "info skeys", "migration_mode",
    )
    #: who walks all nodes begins with those of the monitor behind the last backend's (10.0)
    monitor_nodes_behind_last_root: bool = False
    #: what is said of a size of blocks that an export cannot have
    export_block_size_text: tuple[str, str] = (
        "parameter logical-block-size must be a power of 2 between 512 and 2097152",
    ) * 2
    #: version of the files that -icount rr= makes (11.1)
    replay_version: int = 0xE0200E
    #: what -icount rr= says of several CPUs, of -rtc base=localtime, of -snapshot
    replay_blockers: tuple[str, str, str] = (
        "Record/replay is not supported with multiple CPUs",
        "Record/replay is not supported with -rtc base=localtime",
        "Record/replay is not supported with -snapshot",
    )
    #: kinds of character devices in modules: the module, and which kind is listed behind them
    chardev_modules: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: {"braille": ("baum", "socket")}
    )
    #: whether the files of VNC's UNIX sockets stay when the process ends
    vnc_socket_left: bool = False
    #: add_client looks whether it was given a socket (10.0 on)
    client_must_be_socket: bool = True
    #: a VNC password that cannot be set comes with advice after the error, not before (11.1)
    vnc_password_hints: bool = True
    #: the human monitor's `change vnc` without a password is marked as an error (10.0 on)
    change_vnc_error_marked: bool = True
    #: digits at least that the human monitor gives a physical address it prints memory from
    hmp_physical_digits: int = 8
    #: octal values there have the prefix before the padding (11.1)
    hmp_octal_prefix_padded: bool = True
    #: why there is no device tree to write out
    no_device_tree: str = "This machine doesn't have an FDT"
    #: x-query-virtio looks for devices in the object tree and fails where there is none (10.0 on);
    #: it had a list of its own before
    virtio_found_in_tree: bool = True
    #: what x-query-virtio-status misses at a path
    not_a_virtio_device: str = "realized VirtIODevice"
    #: how -vnc names an audio device that is not there
    vnc_audiodev_text: str = "audiodev '{}' not found"
    #: why a VNC password cannot be set where none is asked for
    vnc_without_password: str = "VNC password authentication is disabled"
    #: what memsave says when its file takes no more
    memsave_write_text: str = "writing memory to '{}' failed"
    #: what dump-guest-memory could not do with its file
    dump_open_verb: str = "create"

    # -- character devices -----------------------------------------------------------------
    #: query-chardev shows a UNIX client's peer path, not its own (10.0 on)
    chardev_names_unix_peer: bool = True
    #: a listening socket, and one on a descriptor, refuses reconnect-ms (11.1)
    chardev_checks_reconnect_ms: bool = True
    #: what a second user of a character device is told; `{}` is its id
    chardev_in_use_text: str = "chardev '{}' is already in use"

    # -- CPU models ------------------------------------------------------------------------
    #: props of a CPU model are checked as part of the argument: path and range texts (10.0 on)
    cpu_props_checked_as_argument: bool = True

    # -- block -----------------------------------------------------------------------------
    #: a mirror's dirty bitmap is on its filter node, not on the source (10.0 on)
    mirror_bitmap_on_filter: bool = True
    #: so is the bitmap of what a backup has still to copy (10.0 on)
    copy_bitmap_on_filter: bool = True
    #: a transaction's last action takes effect first (10.0 on)
    transaction_commits_backwards: bool = True
    #: persistent bitmaps of a read-only or inactive node are left alone by name (11.1)
    bitmaps_need_writable_node: bool = True
    #: what the human monitor says of a drive that cannot be begins with `Error:` (11.1)
    hmp_drive_errors_marked: bool = True
    #: it is said in which step a descriptor of a set could not be had (10.0 on)
    fdset_failures_named: bool = True
    #: descriptors of unused sets are closed only while the guest runs (7.2); see `Fdsets`
    fdsets_follow_monitors: bool = False
    #: a warning that a command causes names the program (11.1)
    command_warnings_name_program: bool = True
    #: a latency histogram may be given no boundaries: all requests count as one (7.2)
    histogram_without_boundaries: bool = False
    #: what block_resize says of a node that a job uses; None: who uses it (7.2)
    resize_in_use: str | None = None
    #: what completion-mode is called where an action cannot have it
    transaction_property: str = "transaction property"
    #: a mirror looks whether its target reads as zeros, and then copies less (11.1)
    mirror_sees_zero_target: bool = True
    #: `info blockstats` in columns (11.1)
    hmp_blockstats_as_table: bool = True
    #: `info snapshots` has room for more hours (10.0 on)
    hmp_snapshot_long_clock: bool = True
    #: what a backup says on standard error of a target whose cluster size cannot be told
    backup_block_size_warning: str = (
        "The target block device doesn't provide information about the block size and it"
        " doesn't have a backing file. The (default) block size of %d bytes is used. If the"
        " actual block size of the target exceeds this value, the backup may be unusable"
    )
