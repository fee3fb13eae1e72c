"""Checks of the configuration, one module per group of options. See system/vl.c."""
