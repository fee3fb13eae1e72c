"""Proposals about objects."""
