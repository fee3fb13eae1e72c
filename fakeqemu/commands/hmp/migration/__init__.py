"""The human monitor's migration commands. See migration/migration-hmp-cmds.c."""
