"""Proposals about the command line."""
