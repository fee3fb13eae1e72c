"""Proposals about parameters, and when they are read."""
