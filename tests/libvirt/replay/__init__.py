"""Recorded conversations of libvirt with a real QEMU, played again against another emulator.

`transcript` is what was said, `compact` makes one out of what `scripts/accept --record` writes,
`play` says libvirt's part again and `compare` judges the answers.
"""
