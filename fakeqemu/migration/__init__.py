"""Live migration of both sides, CPR and dirty bitmaps; QEMU's directory migration/."""
