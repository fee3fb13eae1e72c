"""The source: phases of a migration and its channels. See migration/migration.c."""
