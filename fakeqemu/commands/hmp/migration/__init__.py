"""The human monitor's migration commands (migration/migration-hmp-cmds.c)."""
