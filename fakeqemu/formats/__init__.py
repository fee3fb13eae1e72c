"""Formats and protocols without a machine: qcow2, NBD, migration stream, RFB, pictures."""
