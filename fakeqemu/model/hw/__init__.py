"""What a guest reaches by its I/O ports: the few chips that matter to who manages it."""
