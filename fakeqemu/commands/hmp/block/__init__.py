"""The human monitor's block commands (block/monitor/block-hmp-cmds.c)."""
