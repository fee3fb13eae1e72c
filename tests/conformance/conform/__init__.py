"""Plays recorded scenarios against any emulator command and compares; see FORMAT.md."""
