"""Since which release a trait holds, for versions between those that are recorded.

Two neighbours in the table of `versions` tell that a trait changed between them, not when. Where
the release is known, from QEMU's release notes, from the sources of the releases (the first one in
which the text, or the function that the trait is about, is as in the newer) or from a real program
of a version in between, it stands here. Where it is not, a version in between is taken to be as
the older one.
"""

from __future__ import annotations

from collections.abc import Mapping

from fakeqemu.dataclass import dataclass, fields, replace
from fakeqemu.traits.fields import Traits

Release = tuple[int, int]

#: trait -> the first release in which it is as in the next newer version of the table
SINCE: Mapping[str, Release] = {
    # of a real 8.2.2: no later than that
    "dirty_rate_time_units": (8, 2),
    "incoming_setup_state": (8, 2),
    "migrate_pause_refusal": (8, 2),
    "migration_channels": (8, 2),
    "postcopy_excludes_multifd": (8, 2),
    "reports_failed_section": (8, 2),
    "return_path_error_recorded": (8, 2),
    "stopped_source_ends_postmigrate": (8, 2),
    # as release notes and the history of the sources have it
    "change_vnc_error_marked": (8, 0),
    "chardev_aliases": (8, 0),
    "client_must_be_socket": (8, 0),
    "colo_refusal": (8, 0),
    "egl_before_devices": (8, 0),
    "expire_time_checked": (8, 0),
    "gdb_fpu_from_top": (8, 0),
    "cxl_window_size_text": (8, 0),
    "hex_size_suffix": (8, 0),
    "no_nmi_text": (8, 0),
    "preempt_channel_at_setup": (8, 0),
    "qemu_io_registered_buffers": (8, 0),
    "ramblock_shows_host": (8, 0),
    "virtio_mem_own_prealloc": (8, 0),
    "agent_capture_modes": (8, 1),
    "capabilities_fixed_by_listening": (8, 1),
    "gdb_stop_reply_awaited": (8, 1),
    "hmp_dirty_limit_checked": (8, 1),
    "max_cpu_version_at_realize": (8, 1),
    "negative_size_out_of_range": (8, 1),
    "no_device_memory": (8, 1),
    "pcie_slot_warning": (8, 1),
    "postcopy_fault_in_error": (8, 1),
    "qemu_io_zones": (8, 1),
    "size_bare_fraction": (8, 1),
    "stream_multifd_flush": (8, 1),
    "switchover_ack_from_destination": (8, 1),
    "transaction_commits_backwards": (8, 1),
    "virtio_md_unplug_text": (8, 1),
    "virtio_mem_unplug": (8, 1),
    "agent_unknown_pid": (8, 2),
    "apic_id_limit": (8, 2),
    "balloon_parameter": (8, 2),
    "blob_refusal": (8, 2),
    "cpu_vendor_text": (8, 2),
    "dirty_rate_since_epoch": (8, 2),
    "dump_open_verb": (8, 2),
    "dump_protocol_text": (8, 2),
    "dump_zero_length_text": (8, 2),
    "error_shown_always": (8, 2),
    "gdb_io_error_signal": (8, 2),
    "gdb_kill_is_shutdown": (8, 2),
    "gdb_registers_need_features": (8, 2),
    "gdb_resumed_is_current": (8, 2),
    "hmp_sync_profile_refusal": (8, 2),
    "memory_name_taken": (8, 2),
    "memory_of_32_bit_cpus_checked_since": (8, 2),
    "memory_size_aligned_to_memory": (8, 2),
    "migrate_pause_error": (8, 2),
    "mirror_bitmap_on_filter": (8, 2),
    "multifd_excludes_xbzrle": (8, 2),
    "nbd_extended_headers": (8, 2),
    "nbd_too_long_text": (8, 2),
    "pre_save_failure_recorded": (8, 2),
    "rdma_prints_errors": (8, 2),
    "readonly_memory_file_made": (8, 2),
    "stream_describes_configuration": (8, 2),
    "vhost_user_enable_acked": (8, 2),
    "vhost_user_protocol_features": (8, 2),
    "vhost_user_resets_device": (8, 2),
    "virtio_found_in_tree": (8, 2),
    "no_audiodev": (8, 2),
    "vnc_audiodev_text": (8, 2),
    "vnc_connected_text": (8, 2),
    "xen_drive_is_device": (8, 2),
    "chardev_in_use_text": (9, 0),
    "fd_bootchk_is_property": (9, 0),
    "hmp_snapshot_long_clock": (9, 0),
    "isa_nics_first": (9, 0),
    "late_backends_phase": (9, 0),
    "net_nic_addr_used": (9, 0),
    "netdev_stream_states": (9, 0),
    "nic_help": (9, 0),
    "nic_models_made": (9, 0),
    "not_a_device": (9, 0),
    "prealloc_wait": (9, 0),
    "smbios_slots": (9, 0),
    "smp_zero_refused": (9, 0),
    "status_singlestep": (9, 0),
    "stream_global_state_suspend": (9, 0),
    "stream_validates": (9, 0),
    "suspend_survives_stop": (9, 0),
    "unknown_nic_model_refused": (9, 0),
    "agent_exec_prefix": (9, 1),
    "debug_exit_is_shutdown": (9, 1),
    "devfn_checked": (9, 1),
    "fd_to_file": (9, 1),
    "fdset_failures_named": (9, 1),
    "fdsets_follow_monitors": (9, 1),
    "forward_port_may_be_empty": (9, 1),
    "hyperthreading_warning": (9, 1),
    "memsave_write_text": (9, 1),
    "option_rom_error_plain": (9, 1),
    "postcopy_recover_setup_state": (9, 1),
    "ram_section": (9, 1),
    "rng_max_bytes": (9, 1),
    "setup_error_recorded": (9, 1),
    "smp_unsupported_names_limit": (9, 1),
    "unknown_machine_named": (9, 1),
    "vfio_group_text": (9, 1),
    "vmport_needs_i8042": (9, 1),
    "backup_block_size_warning": (9, 2),
    "cpu_version_text": (9, 2),
    "cpu_version_type": (9, 2),
    "device_add_as_options": (9, 2),
    "fsdev_proxy": (9, 2),
    "hmp_pci_unmapped": (9, 2),
    "pty_takes_path": (9, 2),
    "backing_store_too_small": (10, 0),
    "chardev_names_unix_peer": (10, 0),
    "cpr_channel_by_fd": (10, 0),
    "cpr_channel_missed_last": (10, 0),
    "cpr_service_byte_always": (10, 0),
    "cpr_state_has_vfio": (10, 0),
    "cpr_unknown_subsection": (10, 0),
    "deleted_backend_lives_on": (10, 0),
    "disks_taken_late": (10, 0),
    "dumpdtb_needs_tree": (10, 0),
    "gdb_chardev_missed": (10, 0),
    "help_defaults_json": (10, 0),
    "inactivate_failure": (10, 0),
    "inactive_children_checked": (10, 0),
    "incoming_parsed_with_options": (10, 0),
    "iommufd_saved": (10, 0),
    "migrate_cancel_in_postcopy_refused": (10, 0),
    "no_device_tree": (10, 0),
    "no_device_tree_hint": (10, 0),
    "objects_container_first": (10, 0),
    "shared_ram_is_file": (10, 0),
    "stream_switchover_start": (10, 0),
    "vfio_balloon_first": (10, 0),
    "vhost_user_netdev_events": (10, 0),
    "yankable_while_cpr_waits": (10, 0),
    "hmp_info_migrate_grouped": (10, 1),
    "mirror_sees_zero_target": (10, 1),
    "cpr_exec": (10, 2),
    "hmp_capture_warning": (10, 2),
    "hmp_gdbserver_failure": (10, 2),
    "keymap_file_searched": (10, 2),
    "tap_bad_fd": (10, 2),
    "tap_bad_vhost_named": (10, 2),
    "vhost_scsi_open_text": (10, 2),
    "vhost_vsock_open_text": (10, 2),
    "blkdebug_no_config": (11, 0),
    "failing_state": (11, 0),
    "net_dump_text": (11, 0),
    "no_vnc_for_password": (11, 0),
    "screendump_open_text": (11, 0),
    "vfio_cdev_hint": (11, 0),
    "vnc_without_password": (11, 0),
    "qdev_id_checked": (11, 1),
}


@dataclass(frozen=True, slots=True)
class Between:
    """A version between two of the table."""

    traits: Traits
    #: traits that its neighbours differ in and whose release is known, and those that are guessed
    dated: tuple[str, ...]
    guessed: tuple[str, ...]


def between(
    older: tuple[Release, Traits], newer: tuple[Release, Traits], version: Release
) -> Between:
    """The traits of `version`, which lies between those of `older` and `newer`.

    A date counts only where it is of the change between these two: a trait may change again.
    """
    (first, before), (last, behind) = older, newer
    changed = [
        each.name
        for each in fields(Traits)
        if getattr(before, each.name) != getattr(behind, each.name)
    ]
    dated = [name for name in changed if first < SINCE.get(name, first) <= last]
    given = {name: getattr(behind, name) for name in dated if SINCE[name] <= version}
    guessed = tuple(name for name in changed if name not in dated)
    return Between(replace(before, **given), tuple(dated), guessed)
