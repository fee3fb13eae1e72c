"""Migration parameters and capabilities: layers, rules. See migration/options.c."""
