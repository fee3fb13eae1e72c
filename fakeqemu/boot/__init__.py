"""The boot, from parsed options to the running machine. See system/vl.c: qemu_init()."""
