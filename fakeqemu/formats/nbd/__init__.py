"""The NBD protocol's server side as bytes (docs/interop/nbd.txt in QEMU's tree)."""
