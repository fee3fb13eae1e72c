"""The human monitor's block commands. See block/monitor/block-hmp-cmds.c."""
