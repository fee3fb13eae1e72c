"""Descriptors that clients passed: fdsets, named descriptors, CPR's saved ones."""
