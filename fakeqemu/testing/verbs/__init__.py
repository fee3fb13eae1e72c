"""What a tester may do to a machine: one table, and what carries it out."""
