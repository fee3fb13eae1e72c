"""dump-guest-memory (dump/dump.c)."""
