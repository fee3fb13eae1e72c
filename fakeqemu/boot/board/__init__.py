"""What a board brings along: made in QEMU's order, as the command line asks for it."""
