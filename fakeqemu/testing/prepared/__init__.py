"""Machines that are booted and configured once and copied for each test."""
