"""Which module registers which commands; made by scripts/make_command_index, not by hand."""

from __future__ import annotations

from collections.abc import Mapping

#: table -> module -> names, one after another with commas between
MODULES: Mapping[str, Mapping[str, str]] = {
    "hmp": {
        "hmp.aliases": (
            "balloon, block_job_cancel, block_job_complete, block_job_pause, block_job_resume, "
            "block_job_set_speed, block_resize, block_stream, chardev-remove, chardev-send-break, "
            "cont, device_del, dumpdtb, eject, exit_preconfig, migrate_pause, "
            "migrate_start_postcopy, nbd_server_stop, netdev_del, nmi, quit, ringbuf_write, "
            "set_link, snapshot_blkdev_internal, snapshot_delete_blkdev_internal, stop, "
            "system_powerdown, system_reset, system_wakeup, x_colo_lost_heartbeat, "
            "xen-event-inject, xen-event-list"
        ),
        "hmp.block.block": (
            "block_set_io_throttle, change, commit, drive_add, drive_backup, drive_del, "
            "drive_mirror, nbd_server_add, nbd_server_remove, nbd_server_start, snapshot_blkdev"
        ),
        "hmp.block.info_block": (
            "delvm, info block, info block-jobs, info blockstats, info snapshots, loadvm, savevm"
        ),
        "hmp.block.qemu_io": "qemu-io",
        "hmp.control": "clear, cpu, help, info, print, watchdog_action",
        "hmp.machine.absent": (
            "info capture, info firmware-log, info opcount, info rdma, info replay, info sev, "
            "info sgx, info stats, info via, replay_break, replay_delete_break, replay_seek, "
            "stopcapture"
        ),
        "hmp.machine.boot_order": "boot_set",
        "hmp.machine.cpu_state": "info registers",
        "hmp.machine.debug": (
            "gdbserver, info sync-profile, log, logfile, one-insn-per-tb, singlestep, "
            "sync-profile"
        ),
        "hmp.machine.devices": (
            "chardev-add, chardev-change, closefd, device_add, getfd, mouse_button, mouse_move, "
            "netdev_add, object_add, object_del, qom-get, qom-list, qom-set, ringbuf_read, "
            "sendkey"
        ),
        "hmp.machine.info": (
            "info accelerators, info balloon, info chardev, info cpus, info history, info "
            "hotpluggable-cpus, info iothreads, info kvm, info memdev, info memory-devices, info "
            "memory_size_summary, info mice, info name, info network, info numa, info pci, info "
            "qom-tree, info rocker, info spice, info status, info tpm, info usb, info uuid, info "
            "version, info vm-generation-id"
        ),
        "hmp.machine.ioport": "i, o",
        "hmp.machine.memory": (
            "dump-guest-memory, gva2gpa, info dump, info mem, info tlb, memsave, pmemsave, sum, "
            "x, xp"
        ),
        "hmp.machine.qtree": "info qdm, info qtree",
        "hmp.machine.virtio": (
            "info cryptodev, info virtio, info virtio-queue-element, info virtio-queue-status, "
            "info virtio-status, info virtio-vhost-queue-status"
        ),
        "hmp.migration.dirtyrate": (
            "calc_dirty_rate, cancel_vcpu_dirty_limit, info dirty_rate, info vcpu_dirty_limit, "
            "set_vcpu_dirty_limit"
        ),
        "hmp.migration.migration": (
            "announce_self, info migrate, info migrate_capabilities, info migrate_parameters, "
            "migrate, migrate_cancel, migrate_continue, migrate_incoming, migrate_recover, "
            "migrate_set_capability, migrate_set_parameter"
        ),
        "hmp.slirp_hostfwd": "hostfwd_add, hostfwd_remove, info usernet",
        "hmp.trace": "info trace-events, trace-event",
        "hmp.ui": "expire_password, info vnc, mouse_set, screendump, set_password",
        "machine.interrupts": "info irq, info lapic, info pic",
        "machine.ramblock": "info ramblock",
    },
    "qmp": {
        "block.block_core": (
            "block-latency-histogram-set, block-set-write-threshold, block_resize, "
            "block_set_io_throttle, blockdev-add, blockdev-change-medium, blockdev-close-tray, "
            "blockdev-del, blockdev-insert-medium, blockdev-open-tray, blockdev-remove-medium, "
            "blockdev-reopen, blockdev-set-active, change-backing-file, eject, query-block, "
            "query-blockstats, query-named-block-nodes, x-blockdev-change, "
            "x-blockdev-set-iothread, x-debug-query-block-graph"
        ),
        "block.block_export": (
            "block-export-add, block-export-del, nbd-server-add, nbd-server-remove, "
            "nbd-server-start, nbd-server-stop, query-block-exports"
        ),
        "block.block_jobs": (
            "block-commit, block-dirty-bitmap-add, block-dirty-bitmap-clear, "
            "block-dirty-bitmap-disable, block-dirty-bitmap-enable, block-dirty-bitmap-merge, "
            "block-dirty-bitmap-remove, block-stream, blockdev-backup, blockdev-create, "
            "blockdev-mirror, blockdev-snapshot, blockdev-snapshot-delete-internal-sync, "
            "blockdev-snapshot-internal-sync, blockdev-snapshot-sync, drive-backup, drive-mirror, "
            "snapshot-delete, snapshot-load, snapshot-save, transaction, x-blockdev-amend, "
            "x-debug-block-dirty-bitmap-sha256"
        ),
        "block.job": (
            "block-job-cancel, block-job-change, block-job-complete, block-job-dismiss, "
            "block-job-finalize, block-job-pause, block-job-resume, block-job-set-speed, "
            "job-cancel, job-complete, job-dismiss, job-finalize, job-pause, job-resume, "
            "query-block-jobs, query-jobs"
        ),
        "char": (
            "chardev-add, chardev-change, chardev-remove, chardev-send-break, query-chardev, "
            "query-yank, ringbuf-read, ringbuf-write, yank"
        ),
        "control.host": (
            "dump-skeys, inject-ghes-v2-error, query-chardev-backends, query-cpu-model-baseline, "
            "query-cpu-model-comparison, query-sev-capabilities, query-sgx-capabilities, "
            "query-target, query-tpm, query-tpm-models, query-tpm-types, set-cpu-topology"
        ),
        "control.introspect": (
            "device-list-properties, qom-list-properties, qom-list-types, "
            "query-command-line-options, query-commands, query-machines, query-qmp-schema, "
            "query-version"
        ),
        "control.misc": (
            "add-fd, closefd, getfd, human-monitor-command, query-fdsets, remove-fd"
        ),
        "machine.cpu_models": "query-cpu-definitions, query-cpu-model-expansion",
        "machine.debug": (
            "cxl-add-dynamic-capacity, cxl-inject-correctable-error, cxl-inject-dram-event, "
            "cxl-inject-general-media-event, cxl-inject-memory-module-event, cxl-inject-poison, "
            "cxl-inject-uncorrectable-errors, cxl-release-dynamic-capacity, device-sync-config, "
            "dumpdtb, query-rocker-of-dpa-flows, query-rocker-of-dpa-groups, query-rocker-ports, "
            "query-stats-schemas, replay-break, replay-delete-break, replay-seek, "
            "trace-event-get-state, trace-event-set-state, x-query-usb, xen-event-inject"
        ),
        "machine.dump": "dump-guest-memory, query-dump, query-dump-guest-memory-capability",
        "machine.interrupts": "x-query-interrupt-controllers, x-query-irq",
        "machine.machine": (
            "balloon, query-accelerators, query-acpi-ospm-status, query-balloon, query-cpus-fast, "
            "query-hotpluggable-cpus, query-kvm, query-memdev, query-memory-devices, "
            "query-memory-size-summary, query-name, query-pci, query-uuid, "
            "query-vm-generation-id, rtc-reset-reinjection, set-numa-node, x-query-numa"
        ),
        "machine.memsave": "memsave, pmemsave",
        "machine.qdev": (
            "device_add, device_del, netdev_add, netdev_del, query-rx-filter, set_link"
        ),
        "machine.qom": (
            "object-add, object-del, qom-get, qom-list, qom-list-get, qom-set, query-iothreads"
        ),
        "machine.ramblock": "x-query-ramblock",
        "machine.run_state": (
            "cont, inject-nmi, query-current-machine, query-status, quit, set-action, stop, "
            "system_powerdown, system_reset, system_wakeup, watchdog-set-action, x-exit-preconfig"
        ),
        "machine.unsupported": (
            "query-colo-status, query-firmware-log, query-gic-capabilities, "
            "query-hv-balloon-status-report, query-pr-managers, query-replay, query-rocker, "
            "query-s390x-cpu-polarization, query-sev, query-sev-attestation-report, "
            "query-sev-launch-measure, query-sgx, query-spice, query-xen-replication-status, "
            "sev-inject-launch-secret, x-query-opcount, x-query-profile, x-query-rdma, "
            "xen-event-list, xen-set-global-dirty-log"
        ),
        "machine.virtio": (
            "query-cryptodev, query-stats, x-query-virtio, x-query-virtio-queue-element, "
            "x-query-virtio-queue-status, x-query-virtio-status, "
            "x-query-virtio-vhost-queue-status"
        ),
        "migration.dirtyrate": (
            "calc-dirty-rate, cancel-vcpu-dirty-limit, query-dirty-rate, query-vcpu-dirty-limit, "
            "set-vcpu-dirty-limit"
        ),
        "migration.migration": (
            "announce-self, migrate, migrate-continue, migrate-incoming, migrate-pause, "
            "migrate-recover, migrate-set-capabilities, migrate-set-parameters, "
            "migrate-start-postcopy, migrate_cancel, migrate_prepare, migrate_run, query-migrate, "
            "query-migrate-capabilities, query-migrate-parameters, query-migrationthreads, "
            "x-colo-lost-heartbeat"
        ),
        "migration.xen": (
            "xen-colo-do-checkpoint, xen-load-devices-state, xen-save-devices-state, "
            "xen-set-replication"
        ),
        "ui": (
            "add_client, change-vnc-password, client_migrate_info, display-reload, "
            "display-update, expire_password, input-send-event, query-audiodevs, "
            "query-display-options, query-mice, query-vnc, query-vnc-servers, screendump, "
            "send-key, set_password"
        ),
    },
}
