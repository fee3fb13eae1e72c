"""The qcow2 image format. See docs/interop/qcow2.txt and block/qcow2.c."""
