"""Phases of a migration as generators, and their driver."""
