"""Human monitor commands that are QMP commands under another name.

See monitor/hmp-cmds.c and the files called *-hmp-cmds.c: functions that call a `qmp_*()` and
print its error.
"""

from __future__ import annotations

from fakeqemu.commands.hmp.registry import aliases

aliases(
    {
        "quit": "quit",
        "stop": "stop",
        "cont": "cont",
        "system_reset": "system_reset",
        "system_powerdown": "system_powerdown",
        "system_wakeup": "system_wakeup",
        "nmi": "inject-nmi",
        "exit_preconfig": "x-exit-preconfig",
        "device_del": "device_del",
        "netdev_del": "netdev_del",
        "set_link": "set_link",
        "chardev-remove": "chardev-remove",
        "chardev-send-break": "chardev-send-break",
        "ringbuf_write": "ringbuf-write",
        "balloon": "balloon",
        "eject": "eject",
        "block_resize": "block_resize",
        "block_job_set_speed": "block-job-set-speed",
        "block_job_cancel": "block-job-cancel",
        "block_job_pause": "block-job-pause",
        "block_job_resume": "block-job-resume",
        "block_job_complete": "block-job-complete",
        "nbd_server_stop": "nbd-server-stop",
        "snapshot_blkdev_internal": "blockdev-snapshot-internal-sync",
        "snapshot_delete_blkdev_internal": "blockdev-snapshot-delete-internal-sync",
        "block_stream": "block-stream",
        "migrate_start_postcopy": "migrate-start-postcopy",
        "migrate_pause": "migrate-pause",
        "x_colo_lost_heartbeat": "x-colo-lost-heartbeat",
        "dumpdtb": "dumpdtb",
        "xen-event-list": "xen-event-list",
        "xen-event-inject": "xen-event-inject",
    }
)
