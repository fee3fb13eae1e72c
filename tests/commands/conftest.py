"""Booted machines."""

from tests.support.machine_fixtures import q35, start

__all__ = ["q35", "start"]
