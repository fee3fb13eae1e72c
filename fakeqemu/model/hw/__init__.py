"""Devices behind I/O ports, as qtest and firmware tables reach them; QEMU's directory hw/."""
