"""Formats and protocols as bytes that need no machine: images, streams, displays, dumps."""
