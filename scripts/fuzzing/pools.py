"""Words that may fit, or just not: texts for members by what they are about."""

from __future__ import annotations

from typing import Any

#: kind of text -> examples; the objects named are those of `configs`
POOL: dict[str, list[str]] = {
    "node": [
        "n0", "q0", "r0", "f0", "", "nope", "n0 ", "#block1", "d0", "hd0", "new0", "new1",
        "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
    ],
    "id": [
        "hd0", "nic0", "mem0", "io0", "sec0", "ch0", "net0", "bal0", "scsi0", "rp0", "new0",
        "new1", "", "9x", "a/b", "nope", "tg0", "ch1", "drv0",
    ],
    "path": [
        "/machine", "/objects", "/objects/mem0", "/objects/io0", "/machine/peripheral/hd0",
        "/machine/peripheral/nic0", "hd0", "", "/", "//", "nope", "/machine/unattached",
        "/machine/peripheral", "/chardevs", "/backend", "/machine/unattached/device[0]",
        "sysbus",
    ],
    "prop": [
        "type", "realized", "hotplugged", "size", "share", "merge", "dump", "prealloc",
        "polling", "poll-max-ns", "poll-grow", "thread-id", "memory-backend", "ram-size",
        "accel", "kernel", "usb", "smp", "boot", "rtc-time", "parent_bus", "mac", "drive",
        "serial", "guest-stats", "guest-stats-polling-interval", "nope", "", "legacy-x", "id",
        "driver", "bootindex", "addr", "host-nodes", "policy", "hot-add", "vmstate-if",
        "thread-pool-min", "append", "graphics", "reserve", "aio-max-batch", "loaded",
        "x-data", "data", "format",
    ],
    "type": [
        "virtio-net-pci", "scsi-hd", "virtio-blk-pci", "memory-backend-ram", "device",
        "object", "x86_64-cpu", "qemu64-x86_64-cpu", "pc-q35-7.2-machine", "nope", "", "bus",
        "PCI", "none-machine", "iothread", "chardev", "virtio-balloon-pci", "container",
        "machine", "usb-tablet", "cpu", "interface", "pcie-root-port",
    ],
    "file": [
        "d0.qcow2", "d1.raw", "newfile", "nodir/x", "", ".", "json:{", "json:{}",
        "json:{\"driver\":\"null-co\"}", "nbd:unix:x.sock", "null-co://", "null-aio://",
        "fat:.", "fd:0", "file:d1.raw", "blkdebug::d1.raw", "raw:d1.raw",
        "nbd://localhost:1/x", "dir", "ssh://x", "d1.raw,x", "nbd:",
        "nbd:exportname=",
    ],
    "uri": [
        "tcp:127.0.0.1:1", "unix:m.sock", "file:mig", "file:mig,offset=0x10", "fd:nope",
        "exec:cat>mig", "", "nope", "tcp:", "tcp:x", "tcp:127.0.0.1:99999", "defer", "file:",
        "unix:", "fd:", "fd:0", "rdma:x", "exec:false", "vsock:1:2", "tcp:[::1]:1",
    ],
    "str": [
        "", "a", "on", "0", "-1", "1", "none", "\u00e9", "a b", "a=b", "a,b", "\u0000", "\n",
        "%s%n", "./x/../y", "1M", "18446744073709551616", "nan", "{}", "\ud83d\ude00",
        "qcow2", "raw", "host0", "vnc", "file:dump",
    ],
}
#: member of a command -> kind of text
MEMBERS: dict[str, str] = {
    "node-name": "node", "node": "node", "device": "id", "id": "id", "target": "node",
    "filename": "file", "file": "file", "snapshot-file": "file", "path": "path", "qom-path":
    "path", "property": "prop", "typename": "type", "qom-type": "type", "implements": "type",
    "driver": "type", "uri": "uri", "bus": "id", "netdev": "id", "chardev": "id", "name":
    "id", "base": "file", "top": "file", "base-node": "node", "top-node": "node", "parent":
    "node", "child": "id", "iothread": "id", "backing-file": "file", "snapshot": "node",
    "overlay": "node", "job-id": "id", "backing": "node", "bitmap": "id", "protocol": "str",
    "format": "str", "snapshot-node-name": "node", "export": "node", "key-secret": "id",
    "tls-creds": "id", "image-node-name": "node", "replaces": "node", "filter-node-name":
    "node",
}
INTEGERS = [
    0, 1, -1, 2, 3, 7, 16, 100, 255, 256, 511, 512, 513, 1000, 1024, 4096, 65535, 65536, 1 << 20,
    (1 << 20) + 1, (1 << 31) - 1, 1 << 31, -(1 << 31), 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63),
    1 << 63, (1 << 64) - 1,
]  # fmt: skip
#: values of any type, where another is wanted
WRONG: list[Any] = [
    None, True, False, 0, -1, 1.5, 1e300, "", "x", [], {}, [1], {"a": 1}, [[]], "1", -0.0, 1 << 63,
    1 << 64,
]  # fmt: skip
#: lines for the human monitor
LINES = [
    "info status", "info block", "info network", "info", "info nope", "", "help", "help info",
    "nope", "stop", "info qtree", "info qom-tree", "info mtree", "info mtree -f",
    "info registers", "info chardev", "info migrate", "info migrate_parameters",
    "info migrate_capabilities", "migrate_set_parameter",
    "migrate_set_parameter max-bandwidth 1", "migrate_set_parameter nope 1",
    "migrate_set_capability xbzrle on", "migrate_set_capability", "x /4xb 0", "xp /4xb 0",
    "print 1+1", "print (", "print $pc", "p 1/0", "device_add",
    "device_add nope", "device_del", "device_del hd0", "object_add",
    "object_add memory-backend-ram,id=h0,size=1M", "object_del h0", "chardev-add null,id=h1",
    "chardev-remove h1", "netdev_add user,id=h2", "netdev_del h2", "sendkey a", "sendkey",
    "mouse_move 1 1", "mouse_button 1", "savevm s", "loadvm s", "delvm s", "info snapshots",
    "commit all", "block_resize n0 1M", "qemu-io n0 \"read 0 512\"",
    "qemu-io n0 \"write 0 512\"", "qemu-io n0", "qemu-io n0 \"\"", "qemu-io n0 help",
    "drive_add 0 if=none", "drive_del nope", "snapshot_blkdev", "logfile", "log none",
    "log nope", "trace-event * on", "info trace-events", "info cpus", "info mice", "info vnc",
    "info spice", "info pci", "info usb", "info numa", "info roms", "info mem", "info tlb",
    "info jit", "info opcount", "info irq", "info pic", "info lapic", "info iothreads",
    "info memdev", "info memory-devices", "info hotpluggable-cpus", "info vm-generation-id",
    "info rocker nope", "info skeys", "info balloon", "balloon 64", "balloon", "nmi",
    "sum 0 10", "ringbuf_read nope 1", "ringbuf_write nope x", "gpa2hva 0", "gva2gpa 0",
    "dump-guest-memory d", "info dump", "set_link nic0 off", "set_link nope on",
    "watchdog_action reset", "hostfwd_add tcp::1-:1", "hostfwd_remove tcp::1",
    "migrate_cancel", "migrate -d file:mig", "migrate", "migrate_pause",
    "migrate_continue setup", "info dirty_rate", "calc_dirty_rate 1",
    "set_vcpu_dirty_limit 1", "info vcpu_dirty_limit", "boot_set c", "boot_set q",
    "i /b 0x60", "o /b 0x80 1", "wavcapture x", "stopcapture 0", "info capture",
    "announce_self", "nbd_server_start", "nbd_server_add", "eject hd0", "change hd0 x",
    "screendump s.ppm", "gdbserver none", "singlestep", "one-insn-per-tb on", "cpu 0",
    "cpu 9", "info block-jobs", "info blockstats", "info stats vm", "info replay",
    "replay_break 1", "info sync-profile", "sync-profile", "qom-list /", "qom-list",
    "qom-get / type", "qom-set / type x", "info version", "info name", "info uuid",
    "info kvm", "info accelerators", "info accel", "info tpm", "info sgx", "info sev",
    "info virtio", "info virtio-status x", "info ramblock", "info rdma", "info via",
    "info cryptodev", "info qdm", "info history", "info hpet", "c", "info firmware-log",
    "info lapic -1", "x", "x /", "x /99q 0", "x /1i 0", "xp /1i 0", "xp /s 0", "print /q 1",
    "print /c 65", "print /x -1", "print 0xfffffffffffffffff", "i /w", "o /l 1 2",
    "stopcapture x", "migrate_recover x", "snapshot_delete_blkdev_internal", "drive_mirror",
    "drive_backup", "block_set_io_throttle", "block_job_cancel", "expire_password vnc now",
    "set_password vnc x", "closefd x", "getfd x", "chardev-change", "chardev-send-break ch0",
    "info sockets", "info usernet", "info usbhost", "xen-event-list", "xen-event-inject 1",
    "dumpdtb x", "memsave 0 1 f", "pmemsave 0 1 f", "info mtree -d", "info mtree -o -f -d",
    "device_add virtio-rng-pci,id=h3,bus=pci.0", "object_add", "object_add nope,id=1",
    "chardev-add nope", "info migrationparameters",
]  # fmt: skip
