"""Block drivers: protocols, formats, filters (block/*.c)."""
