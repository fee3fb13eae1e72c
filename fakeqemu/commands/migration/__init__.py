"""QMP commands of QAPI's migration module. See migration/migration.c: qmp_migrate()."""
