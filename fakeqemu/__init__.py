"""fakeqemu: a QEMU without the guest, for testing the software that manages QEMU."""

__version__ = "0.1.0"
