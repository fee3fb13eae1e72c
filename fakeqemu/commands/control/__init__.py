"""QMP commands about QEMU itself: version, schema, options, host. See monitor/qmp-cmds.c."""
