"""The qcow2 image format (docs/interop/qcow2.txt in QEMU's tree)."""
