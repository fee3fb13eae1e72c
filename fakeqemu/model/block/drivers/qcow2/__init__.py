"""qcow2 images as nodes of the graph. See block/qcow2.c."""
