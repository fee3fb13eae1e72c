"""Sections of devices: configuration, fields, description."""
