"""The schema language: types, visitors, error classes; QEMU's directory qapi/."""
