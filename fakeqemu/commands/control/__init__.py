"""QMP commands about QEMU itself: version, schema, options, monitors, host."""
