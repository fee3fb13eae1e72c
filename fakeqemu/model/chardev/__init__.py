"""Character devices (chardev/*.c)."""
