"""Asking a running QEMU what it is: `fakeqemu record-profile`."""
