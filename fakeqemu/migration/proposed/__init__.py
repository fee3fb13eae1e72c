"""What only proposals have: inline values, migrations in two phases."""
