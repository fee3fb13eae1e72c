"""Formats beside the main channel: multifd, return path, mapped-ram. See migration/multifd.c."""
