"""Passed descriptors: fdsets, named ones, those that CPR saved. See monitor/fds.c."""
