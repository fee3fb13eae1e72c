"""Proposals about QMP commands."""
