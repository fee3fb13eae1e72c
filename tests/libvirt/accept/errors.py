"""How a step ends when it does not simply end."""

from __future__ import annotations


class Failed(Exception):  # noqa: N818 - the outcome of a step, as it is printed
    """libvirt or the emulator did not do what the step wants."""


class Skipped(Exception):  # noqa: N818
    """The step cannot be run here."""
