"""Profiles of versions without a binary at hand: from libvirt's recorded probes and a known one.

    compose(Path("caps_8.1.0_x86_64.replies"), Path("./mine"), "8.2")

What the file says is taken from it, the rest from the nearest recorded versions, cut to what the
file's schema and types allow.
"""

from fakeqemu.recorder.composed.compose import compose

__all__ = ["compose"]
