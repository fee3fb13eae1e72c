"""QMP commands about CPUs, memory, devices, objects, run state. See hw/core/machine-qmp-cmds.c."""
