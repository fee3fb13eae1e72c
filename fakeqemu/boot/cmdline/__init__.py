"""argv to `Configuration`. See system/vl.c: qemu_init(), up to the first use of an option."""
