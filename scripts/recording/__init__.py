"""Asking a running QEMU what it is; used by `record_profile`."""
