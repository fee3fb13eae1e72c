"""The schema language: types, visitors, error classes and texts."""
