"""The formats of further channels: multifd, return path, mapped-ram files."""
