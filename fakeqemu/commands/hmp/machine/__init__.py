"""Human monitor commands about the machine. See hw/core/machine-hmp-cmds.c."""
