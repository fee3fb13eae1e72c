"""Migration parameters and capabilities: layers, rules, early parameters."""
